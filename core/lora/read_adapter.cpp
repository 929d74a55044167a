// Keys of an adapter -> pairs on tensors of the base.

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/writer.hpp"
#include "core/lora/adapter.hpp"
#include "core/lora/adapter_keys.hpp"
#include "core/lora/base_tensors.hpp"
#include "core/lora/packing.hpp"
#include "core/lora/path_pattern.hpp"

namespace bv::lora {
namespace fs = std::filesystem;

namespace {

/// The keys of one module, or of one wrapper around it.
struct ModuleKeys {
  std::string path;
  int depth = 0;
  const AdapterTensor* a = nullptr;
  const AdapterTensor* b = nullptr;
  const AdapterTensor* bias = nullptr;
  const AdapterTensor* magnitude = nullptr;
  bool embedding = false;
};

/// [r, in], [out, r] and, with DoRA, [out, 1].
struct Factors {
  Factor a;
  Factor b;
  std::optional<Factor> magnitude;
};

/// Whole tensor as [rows, columns].
Factor matrix(const AdapterTensor& tensor) {
  const Shape& shape = tensor.stored.spec.shape;
  Factor out;
  out.tensor = &tensor.stored;
  out.first = tensor.bytes.data();
  out.dtype = tensor.stored.spec.dtype;
  out.rows = shape.empty() ? 1 : shape[0];
  out.columns = shape.size() < 2 ? 1 : shape[1];
  out.row_stride = out.columns;
  out.column_stride = 1;
  return out;
}

Factor transposed(Factor factor) {
  std::swap(factor.rows, factor.columns);
  std::swap(factor.row_stride, factor.column_stride);
  return factor;
}

/// Rows first, first + step, ... of a factor.
Factor some_rows(Factor factor, std::int64_t first, std::int64_t step, std::int64_t count) {
  const auto size = static_cast<std::int64_t>(bytes(factor.dtype));
  factor.offset += first * factor.row_stride;
  factor.first += first * factor.row_stride * size;
  factor.rows = count;
  factor.row_stride *= step;
  return factor;
}

class AdapterReader {
 public:
  AdapterReader(Adapter& out, const BaseTensors& base, const checkpoint::HfModel& model,
                std::string name)
      : out_(out), base_(base), model_(model), name_(std::move(name)) {}

  Status read() {
    BV_CHECK(compile_patterns());
    for (const auto& tensor : out_.tensors) {
      classify(*tensor);
    }
    for (const auto& [place, module] : modules_) {
      read_module(module);
    }
    BV_CHECK(check_ranks());
    std::sort(out_.pairs.begin(), out_.pairs.end(), [](const AdapterPair& a, const AdapterPair& b) {
      return std::tie(a.base, a.expert, a.first_row) < std::tie(b.base, b.expert, b.first_row);
    });
    check_overlaps();
    return Done{};
  }

 private:
  // Faults and names.

  void fault(Code code, const std::string& key, const std::string& what, std::string found,
             std::string wanted, std::string help) {
    const std::string place = place_text(key);
    out_.faults.push_back({code, key,
                           fmt::format("{}{}{}", io::in_quotes(key),
                                       place.empty() ? "" : fmt::format(" ({})", place), what),
                           std::move(found), std::move(wanted), std::move(help)});
  }
  void unknown(const std::string& key, const std::string& why) {
    fault(Code::AdapterName, key, " belongs to no tensor of the base: " + why, "this key",
          "keys that PEFT loads into the base's class",
          "give the base that the adapter was trained on, or write the adapter again with lora "
          "convert");
  }
  static std::string shape_of(const AdapterTensor& tensor) {
    return shape_text(tensor.stored.spec.shape);
  }
  static const std::string& key_of(const AdapterTensor& tensor) { return tensor.stored.spec.name; }

  // Config patterns, compiled once.

  Status compile_patterns() {
    for (const auto& [pattern, rank] : out_.config.rank_pattern) {
      BV_TRY(compiled, PathPattern::compile(pattern, PathPattern::Extent::Suffix));
      ranks_.emplace_back(std::move(compiled), rank);
    }
    for (const auto& [pattern, alpha] : out_.config.alpha_pattern) {
      BV_TRY(compiled, PathPattern::compile(pattern, PathPattern::Extent::Suffix));
      alphas_.emplace_back(std::move(compiled), alpha);
    }
    return Done{};
  }
  [[nodiscard]] std::int64_t rank_at(const std::string& path) const {
    for (const auto& [pattern, rank] : ranks_) {
      if (pattern.matches(path)) {
        return rank;
      }
    }
    return out_.config.r;
  }
  [[nodiscard]] double alpha_at(const std::string& path) const {
    for (const auto& [pattern, alpha] : alphas_) {
      if (pattern.matches(path)) {
        return alpha;
      }
    }
    return out_.config.lora_alpha;
  }

  // Sorting keys.

  void classify(const AdapterTensor& tensor) {
    const std::string& key = key_of(tensor);
    std::string why;
    const auto parsed = parse_adapter_key(key, why);
    if (!parsed) {
      unknown(key, why);
      return;
    }
    switch (parsed->kind) {
      case KeyKind::A:
      case KeyKind::B:
      case KeyKind::BiasB:
      case KeyKind::Magnitude:
      case KeyKind::EmbeddingA:
      case KeyKind::EmbeddingB:
        add_to_module(*parsed, tensor);
        return;
      case KeyKind::BaseBias:
        replace(tensor, parsed->path + ".bias", out_.config.bias != Bias::None,
                "bias is \"none\" in the config");
        return;
      case KeyKind::BaseCopy:
        copy(tensor, parsed->path + ".weight");
        return;
      case KeyKind::Trained:
        trained(tensor, parsed->path);
        return;
    }
  }

  void add_to_module(const AdapterKey& key, const AdapterTensor& tensor) {
    const bool embedding = key.kind == KeyKind::EmbeddingA || key.kind == KeyKind::EmbeddingB;
    ModuleKeys& module = modules_[{key.path, key.depth, embedding}];
    module.path = key.path;
    module.depth = key.depth;
    module.embedding = embedding;
    const bool is_a = key.kind == KeyKind::A || key.kind == KeyKind::EmbeddingA;
    const bool is_b = key.kind == KeyKind::B || key.kind == KeyKind::EmbeddingB;
    (is_a                         ? module.a
     : is_b                       ? module.b
     : key.kind == KeyKind::BiasB ? module.bias
                                  : module.magnitude) = &tensor;
  }

  /// The stored name: as PEFT has it, or under the prefix that this base has.
  std::string stored_name(const std::string& name) {
    if (base_.stored(name) != nullptr || base_.weight(name)) {
      return name;
    }
    const auto other = base_.under_other_prefix(name);
    if (other && out_.notes.empty()) {
      out_.notes.push_back(
          fmt::format("the base stores {} as {}", io::in_quotes(name), io::in_quotes(*other)));
    }
    return other.value_or(name);
  }

  void replace(const AdapterTensor& tensor, const std::string& name, bool allowed,
               const std::string& why_not) {
    const std::string stored = stored_name(name);
    const TensorSpec* spec = base_.stored(stored);
    if (spec == nullptr || !allowed) {
      unknown(key_of(tensor), spec == nullptr ? "the base has no " + name : why_not);
      return;
    }
    if (spec->shape != tensor.stored.spec.shape) {
      fault(Code::AdapterShape, key_of(tensor), " does not fit " + stored, shape_of(tensor),
            shape_text(spec->shape), "give the base that the adapter was trained on");
      return;
    }
    out_.replacements.push_back({stored, &tensor.stored, tensor.bytes});
  }

  void trained(const AdapterTensor& tensor, const std::string& name) {
    const std::string_view module = std::string_view(name).substr(0, name.rfind('.'));
    const auto& saved = out_.config.modules_to_save;
    const bool whole = std::any_of(saved.begin(), saved.end(), [&](const std::string& one) {
      return module == one || module.ends_with("." + one) ||
             module.find("." + one + ".") != std::string_view::npos;
    });
    const bool bias = out_.config.bias == Bias::All && name.ends_with(".bias");
    replace(tensor, name, whole || bias,
            name.ends_with(".bias") ? "bias is not \"all\", and modules_to_save does not name it"
                                    : "modules_to_save does not name its module");
  }

  /// PEFT writes the unchanged weight of an adapted embedding along.
  void copy(const AdapterTensor& tensor, const std::string& name) {
    const std::string stored = stored_name(name);
    const TensorSpec* spec = base_.stored(stored);
    if (spec == nullptr) {
      unknown(key_of(tensor), "the base has no " + name);
      return;
    }
    const bool same_header = spec->shape == tensor.stored.spec.shape;
    bool same = same_header;
    if (same && model_.checkpoint && spec->dtype == tensor.stored.spec.dtype) {
      const auto& base = model_.checkpoint->tensors().find(stored)->second;
      const auto bytes = model_.checkpoint->bytes(base);
      same = std::equal(bytes.begin(), bytes.end(), tensor.bytes.begin(), tensor.bytes.end());
    }
    if (!same) {
      fault(Code::AdapterShape, key_of(tensor), " is not the base's own " + stored,
            same_header ? "other values" : shape_of(tensor),
            same_header ? "the bytes of the base" : shape_text(spec->shape),
            "give the base that the adapter was trained on");
      return;
    }
    out_.copies.push_back(stored);
  }

  // Pairs.

  void read_module(const ModuleKeys& module) {
    const AdapterTensor* any = module.a != nullptr      ? module.a
                               : module.b != nullptr    ? module.b
                               : module.bias != nullptr ? module.bias
                                                        : module.magnitude;
    if (module.a == nullptr || module.b == nullptr) {
      const bool lacks_a = module.a == nullptr;
      fault(Code::AdapterPairBroken, key_of(*any),
            fmt::format(" stands without its {}", lacks_a ? "lora_A" : "lora_B"),
            fmt::format("no {} of {}", lacks_a ? "lora_A" : "lora_B", io::in_quotes(module.path)),
            "both factors of a pair", "save the adapter again");
      return;
    }
    for (const AdapterTensor* factor : {module.a, module.b}) {
      const Shape& shape = factor->stored.spec.shape;
      const bool empty = std::find(shape.begin(), shape.end(), 0) != shape.end();
      if (empty || shape.size() != 2) {
        fault(empty ? Code::AdapterPairBroken : Code::AdapterShape, key_of(*factor),
              empty ? " has no elements" : " is not a matrix", shape_of(*factor),
              "a matrix with elements", "save the adapter again, with its weights gathered");
        return;
      }
    }
    const std::string weight = stored_name(module.path + ".weight");
    const auto named = base_.weight(weight);
    if (named && named->experts == 0) {
      module.depth == 0 ? plain(module, *named)
                        : unknown(key_of(*any), "there is one wrapper too many around the module");
      return;
    }
    packed(module, named ? std::vector<std::string>{weight} : base_.packed_in(module.path));
  }

  /// Both factors and the config agree on the rank; a disagreement is told once for all.
  void note_rank(const std::string& path, std::int64_t found, const AdapterTensor& a) {
    const std::int64_t wanted = rank_at(path);
    rank_found_[found] += 1;
    if (wanted == found) {
      ++ranks_right_;
    } else if (rank_wrong_.empty()) {
      rank_wrong_ = key_of(a);
      rank_wanted_ = wanted;
      rank_has_ = found;
    }
  }

  void plain(const ModuleKeys& module, const NamedWeight& weight) {
    Factor a = matrix(*module.a);
    Factor b = matrix(*module.b);
    if (a.rows != b.columns) {
      fault(Code::AdapterPairBroken, key_of(*module.b), " has another rank than its lora_A",
            fmt::format("lora_A {}, lora_B {}", shape_of(*module.a), shape_of(*module.b)),
            "lora_A [r, in] and lora_B [out, r]", "save the adapter again");
      return;
    }
    const bool flip = module.embedding || (out_.config.fan_in_fan_out && !weight.columns_first);
    const std::int64_t out_rows = flip ? weight.columns : weight.rows;
    const std::int64_t in_columns = flip ? weight.rows : weight.columns;
    if (!fits(module, b.rows == out_rows && a.columns == in_columns,
              fmt::format("lora_A [r, {}], lora_B [{}, r]", in_columns, out_rows))) {
      return;
    }
    // A router is a parameter of its module, not a module with a weight.
    const bool parameter = is_target_parameter(module.path + ".weight");
    const std::string path = parameter ? module.path + ".weight" : module.path;
    note_rank(path, a.rows, *module.a);
    std::optional<Factor> magnitude;
    if (magnitude_of(module, b.rows, magnitude)) {
      add_pairs(weight, {a, b, magnitude}, flip, path);
      add_bias(module, a.rows);
    }
  }

  bool fits(const ModuleKeys& module, bool right, const std::string& wanted) {
    if (!right) {
      fault(Code::AdapterShape, key_of(*module.b), " and its lora_A do not fit the base",
            fmt::format("lora_A {}, lora_B {}", shape_of(*module.a), shape_of(*module.b)), wanted,
            "give the base that the adapter was trained on, or write the adapter again with lora "
            "convert");
    }
    return right;
  }

  /// `flip`: the stored base is [in, out] because the config says so; else as a family knows it.
  void add_pairs(const NamedWeight& weight, const Factors& factors, bool flip,
                 const std::string& path) {
    for (const StoredRows& part : weight.parts) {
      AdapterPair pair;
      pair.base = part.stored;
      pair.expert = part.expert;
      pair.transposed = part.transposed || flip;
      pair.first_row = part.stored_first;
      pair.row_step = part.count > 1 ? part.stored_step : 1;
      pair.a = factors.a;
      const std::int64_t count = flip ? factors.b.rows : part.count;
      pair.b = some_rows(factors.b, part.first, part.step, count);
      if (factors.magnitude) {
        pair.magnitude = some_rows(*factors.magnitude, part.first, part.step, count);
      }
      pair.alpha = alpha_at(path);
      pair.scale = out_.config.scale;
      out_.pairs.push_back(std::move(pair));
    }
  }

  bool magnitude_of(const ModuleKeys& module, std::int64_t rows, std::optional<Factor>& out) {
    if ((module.magnitude != nullptr) != out_.config.use_dora) {
      fault(Code::AdapterPairBroken, key_of(*module.b),
            out_.config.use_dora ? " has no lora_magnitude_vector beside it"
                                 : " has a lora_magnitude_vector beside it",
            out_.config.use_dora ? "use_dora is true" : "use_dora is false",
            "magnitudes exactly when use_dora is true",
            "save the adapter again: DoRA without its magnitudes is another function");
      return false;
    }
    if (module.magnitude == nullptr) {
      return true;
    }
    const auto count = element_count(module.magnitude->stored.spec.shape);
    if (count != rows) {
      fault(Code::AdapterShape, key_of(*module.magnitude), " does not fit its pair",
            shape_of(*module.magnitude), fmt::format("[{}]", rows), "save the adapter again");
      return false;
    }
    Factor magnitude = matrix(*module.magnitude);
    magnitude.rows = rows;
    magnitude.columns = 1;
    magnitude.row_stride = 1;
    out = magnitude;
    return true;
  }

  void add_bias(const ModuleKeys& module, std::int64_t rank) {
    if (module.bias == nullptr) {
      return;
    }
    const std::string stored = stored_name(module.path + ".bias");
    const TensorSpec* spec = base_.stored(stored);
    if (spec == nullptr || !out_.config.lora_bias) {
      unknown(key_of(*module.bias),
              spec == nullptr ? "the module has no bias" : "lora_bias is false in the config");
      return;
    }
    if (spec->shape != module.bias->stored.spec.shape) {
      fault(Code::AdapterShape, key_of(*module.bias), " does not fit " + stored,
            shape_of(*module.bias), shape_text(spec->shape), "save the adapter again");
      return;
    }
    out_.biases.push_back(
        {stored, matrix(*module.bias), alpha_at(module.path), out_.config.scale, rank});
  }

  // Packed experts.

  bool is_target_parameter(const std::string& name) const {
    const auto& wanted = out_.config.target_parameters;
    return std::any_of(wanted.begin(), wanted.end(), [&](const std::string& one) {
      return name == one || name.ends_with("." + one);
    });
  }

  /// Which of the parameters a wrapper is about.
  std::optional<std::string> parameter_of(const ModuleKeys& module,
                                          const std::vector<std::string>& registered) {
    std::vector<std::string> targeted;
    for (const std::string& name : registered) {
      if (is_target_parameter(name)) {
        targeted.push_back(name);
      }
    }
    if (out_.config.target_parameters.empty()) {
      targeted = registered;  // an old file: every one, or nothing fits below
    }
    for (const NestedParameter& one : nesting_of(registered, targeted)) {
      if (one.depth == module.depth) {
        return one.name;
      }
    }
    return std::nullopt;
  }

  void packed(const ModuleKeys& module, const std::vector<std::string>& registered) {
    const auto name = parameter_of(module, registered);
    const auto weight = name ? base_.weight(*name, 0) : std::nullopt;
    if (!weight) {
      unknown(key_of(*module.a),
              registered.empty()
                  ? fmt::format("the base has no module {}", io::in_quotes(module.path))
                  : fmt::format("target_parameters names no parameter of {} for {} wrappers",
                                io::in_quotes(module.path), module.depth + 1));
      return;
    }
    if (module.bias != nullptr || module.magnitude != nullptr || out_.config.use_dora) {
      unknown(key_of(module.bias != nullptr ? *module.bias : *module.a),
              "packed experts take neither a bias nor DoRA");
      return;
    }
    const PackedShapes shapes{module.a->stored.spec.shape, module.b->stored.spec.shape};
    auto roles = packed_roles(shapes, weight->experts, weight->rows, weight->columns,
                              weight->columns_first, out_.config.peft_version);
    if (!roles) {
      const Error& error = roles.error();
      fault(error.code, key_of(*module.b), " " + error.message, error.found, error.wanted,
            error.help);
      return;
    }
    note_rank(*name, roles->rank, *module.a);
    for (std::int64_t e = 0; e < weight->experts; ++e) {
      Factor a = expert_rows(matrix(*module.a), e, roles->rank);
      Factor b = expert_columns(matrix(*module.b), e, weight->experts);
      if (roles->exchanged) {
        std::swap(a, b);
        a = transposed(a);
        b = transposed(b);
      }
      const auto of_expert = base_.weight(*name, e);
      BV_ASSERT(of_expert.has_value());
      const bool flip = roles->columns_first && !weight->columns_first;
      add_pairs(*of_expert, {a, b, std::nullopt}, flip, *name);
    }
  }

  // The whole adapter.

  Status check_ranks() const {
    if (rank_wrong_.empty()) {
      return Done{};
    }
    Error error =
        fail(Code::AdapterInvalid, fmt::format("{} says r={}, {} has rank {}", kAdapterConfigName,
                                               rank_wanted_, io::in_quotes(rank_wrong_), rank_has_))
            .at(name_)
            .pair(fmt::format("rank {}", rank_has_), fmt::format("rank {}", rank_wanted_))
            .advise("correct r, or rank_pattern for the modules of another rank");
    std::int64_t all = 0;
    for (const auto& [rank, count] : rank_found_) {
      error.facts.push_back(
          fmt::format("{} of rank {}", counted(static_cast<std::uint64_t>(count), "pair"), rank));
      all += count;
    }
    error.facts.push_back(fmt::format("{} of {} agree with the config", ranks_right_, all));
    return error;
  }

  /// Two pairs on one row would be added twice.
  void check_overlaps() {
    for (std::size_t i = 1; i < out_.pairs.size(); ++i) {
      const AdapterPair& one = out_.pairs[i - 1];
      const AdapterPair& two = out_.pairs[i];
      if (one.base == two.base && one.expert == two.expert && one.first_row == two.first_row) {
        fault(Code::AdapterName, two.a.key(),
              fmt::format(" is added to the rows of {} that {} is added to",
                          io::in_quotes(two.base), io::in_quotes(one.a.key())),
              "two pairs", "one pair for each row", "leave one of the two out");
      }
    }
    std::set<std::string> replaced;
    for (const Replacement& one : out_.replacements) {
      if (!replaced.insert(one.base).second) {
        fault(Code::AdapterName, one.tensor->spec.name, " replaces a tensor a second time",
              "two trained tensors", "one", "leave one of the two out");
      }
    }
  }

  Adapter& out_;
  const BaseTensors& base_;
  const checkpoint::HfModel& model_;
  std::string name_;
  std::map<std::tuple<std::string, int, bool>, ModuleKeys> modules_;
  std::vector<std::pair<PathPattern, std::int64_t>> ranks_;
  std::vector<std::pair<PathPattern, double>> alphas_;
  std::map<std::int64_t, std::int64_t> rank_found_;
  std::int64_t ranks_right_ = 0, rank_wanted_ = 0, rank_has_ = 0;
  std::string rank_wrong_;
};

}  // namespace

const std::byte* Factor::at(std::int64_t row, std::int64_t column) const {
  const std::int64_t place = row * row_stride + column * column_stride;
  return first + place * static_cast<std::int64_t>(bytes(dtype));
}

Result<Adapter> fit_adapter(AdapterConfig config, std::vector<AdapterTensor> tensors,
                            const checkpoint::HfModel& base, const kinds::Catalogue& kinds,
                            const std::string& name) {
  Adapter out;
  out.config = std::move(config);
  out.keys = std::ssize(tensors);
  for (AdapterTensor& tensor : tensors) {
    if (!is_float(tensor.stored.spec.dtype) || bits(tensor.stored.spec.dtype) < 16) {
      return fail(Code::AdapterInvalid,
                  fmt::format("{} is {}", io::in_quotes(tensor.stored.spec.name),
                              bv::name(tensor.stored.spec.dtype)))
          .at(name)
          .pair(std::string(bv::name(tensor.stored.spec.dtype)), "F16, BF16, F32 or F64")
          .advise("save the adapter in a type that can be computed with");
    }
    out.tensors.push_back(std::make_unique<AdapterTensor>(std::move(tensor)));
  }
  BV_TRY(named, BaseTensors::make(base, kinds));
  BV_CHECK(AdapterReader(out, named, base, name).read());
  return out;
}

Result<Adapter> open_adapter(const fs::path& folder, const checkpoint::HfModel& base,
                             const kinds::Catalogue& kinds) {
  const fs::path config_file = folder / kAdapterConfigName;
  std::error_code ignored;
  if (!fs::exists(config_file, ignored) || !fs::exists(folder / kAdapterModelName, ignored)) {
    const bool has_config = fs::exists(config_file, ignored);
    return fail(Code::AdapterInvalid,
                fmt::format("{} is not an adapter of PEFT", io::printable_path(folder)))
        .pair(fmt::format("no {}", has_config ? kAdapterModelName : kAdapterConfigName),
              fmt::format("{} and {}", kAdapterConfigName, kAdapterModelName))
        .advise("give the folder that save_pretrained wrote");
  }
  BV_TRY(text, io::read_file(config_file, kAdapterConfigBytesMax, Code::AdapterInvalid));
  BV_TRY(config, parse_adapter_config(text, io::printable_path(config_file)));
  BV_TRY(opened, io::Checkpoint::open(folder / kAdapterModelName));
  auto file = std::make_shared<io::Checkpoint>(std::move(opened));
  std::vector<AdapterTensor> tensors;
  for (const auto& [key, stored] : file->tensors()) {
    tensors.push_back({stored, file->bytes(stored)});
  }
  BV_TRY(out, fit_adapter(std::move(config), std::move(tensors), base, kinds,
                          io::printable_path(folder)));
  out.folder = folder;
  out.file = file.get();
  out.keeps = std::move(file);
  return std::move(out);
}

Status check_usable(const Adapter& adapter) {
  if (adapter.faults.empty()) {
    return Done{};
  }
  const AdapterFault& first = adapter.faults.front();
  Error error = fail(first.code, first.message).pair(first.found, first.wanted).advise(first.help);
  if (adapter.faults.size() > 1) {
    error.facts.push_back(fmt::format("{} more keys are wrong", adapter.faults.size() - 1));
  }
  return error;
}

}  // namespace bv::lora
