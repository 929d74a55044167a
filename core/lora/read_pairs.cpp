// Both factors of a module, or of a wrapper around packed experts -> pairs on the base.

#include <fmt/format.h>

#include <algorithm>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"
#include "core/lora/adapter_reader.hpp"
#include "core/lora/packing.hpp"
#include "core/lora/wrapped.hpp"

namespace bv::lora {
namespace {

/// Whole tensor as [rows, columns]; what a convolution has behind its inputs counts to them.
Factor matrix(const AdapterTensor& tensor) {
  const Shape& shape = tensor.stored.spec.shape;
  Factor out;
  out.tensor = &tensor.stored;
  out.store = tensor.store;
  out.first = tensor.bytes.data();
  out.dtype = tensor.stored.spec.dtype;
  out.rows = shape.empty() ? 1 : shape[0];
  out.columns = shape.empty() || shape[0] == 0 ? 1 : element_count(shape).value_or(0) / shape[0];
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

}  // namespace

std::int64_t AdapterReader::rank_at(const std::string& path) const {
  for (const auto& [pattern, rank] : ranks_) {
    if (pattern.matches(path)) {
      return rank;
    }
  }
  return out_.config.r;
}

double AdapterReader::alpha_at(const std::string& path) const {
  for (const auto& [pattern, alpha] : alphas_) {
    if (pattern.matches(path)) {
      return alpha;
    }
  }
  return out_.config.lora_alpha;
}

void AdapterReader::read_module(const ModuleKeys& module) {
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
    if (empty || (shape.size() != 2 && !is_convolution(module))) {
      fault(empty ? Code::AdapterPairBroken : Code::AdapterShape, key_of(*factor),
            empty ? " has no elements" : " is not a matrix", shape_of(*factor),
            "a matrix with elements", "save the adapter again, with its weights gathered");
      return;
    }
  }
  const std::string weight = stored_name(module.path + ".weight");
  if (is_convolution(module)) {
    plain(module, convolution_weight(weight));
    return;
  }
  auto named = base_.weight(weight);
  named = named ? named : base_.joined(in_whole_class(module.path));
  if (named && named->experts == 0) {
    module.depth == 0 ? plain(module, *named)
                      : unknown(key_of(*any), "there is one wrapper too many around the module");
    return;
  }
  packed(module,
         named ? std::vector<std::string>{weight} : base_.packed_in(in_whole_class(module.path)));
}

/// lora_A is a convolution of its own, with r outputs, and lora_B one of size 1.
bool AdapterReader::is_convolution(const ModuleKeys& module) {
  const TensorSpec* spec = base_.stored(stored_name(module.path + ".weight"));
  const Shape& a = module.a->stored.spec.shape;
  const Shape& b = module.b->stored.spec.shape;
  return module.depth == 0 && spec != nullptr && a.size() > 2 && a.size() == spec->shape.size() &&
         spec->shape[0] > 0 && b.size() == a.size() &&
         std::equal(a.begin() + 1, a.end(), spec->shape.begin() + 1) &&
         std::all_of(b.begin() + 2, b.end(), [](std::int64_t size) { return size == 1; });
}

NamedWeight AdapterReader::convolution_weight(const std::string& stored) const {
  const Shape& shape = base_.stored(stored)->shape;
  NamedWeight out;
  out.name = stored;
  out.rows = shape[0];
  out.columns = element_count(shape).value_or(0) / shape[0];
  out.columns_first = false;
  out.shape = shape;
  out.parts = {{stored, -1, false, 0, 1, out.rows, 0, 1}};
  return out;
}

void AdapterReader::note_rank(const std::string& path, std::int64_t found, const AdapterTensor& a) {
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

void AdapterReader::plain(const ModuleKeys& module, const NamedWeight& weight) {
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
    add_bias(module, {a, b, magnitude});
  }
}

bool AdapterReader::fits(const ModuleKeys& module, bool right, const std::string& wanted) {
  if (!right) {
    fault(Code::AdapterShape, key_of(*module.b), " and its lora_A do not fit the base",
          fmt::format("lora_A {}, lora_B {}", shape_of(*module.a), shape_of(*module.b)), wanted,
          kOtherBase);
  }
  return right;
}

void AdapterReader::add_pairs(const NamedWeight& weight, const Factors& factors, bool flip,
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

bool AdapterReader::magnitude_of(const ModuleKeys& module, std::int64_t rows,
                                 std::optional<Factor>& out) {
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

bool AdapterReader::has_joined_bias(const ModuleKeys& module) const {
  const auto joined = base_.joined(in_whole_class(module.path));
  return joined && std::any_of(joined->parts.begin(), joined->parts.end(), [&](const auto& part) {
           return base_.stored(std::string(module_of(part.stored)) + ".bias") != nullptr;
         });
}

/// PEFT adds it to the output, whether the layer has a bias of its own or none.
void AdapterReader::add_bias(const ModuleKeys& module, const Factors& factors) {
  if (module.bias == nullptr) {
    return;
  }
  const std::string stored = stored_name(module.path + ".bias");
  const TensorSpec* spec = base_.stored(stored);
  if (!out_.config.lora_bias || has_joined_bias(module)) {
    unknown(key_of(*module.bias), out_.config.lora_bias
                                      ? "the files have the bias of its module in parts"
                                      : "lora_bias is false in the config");
    return;
  }
  const Shape wanted = spec != nullptr ? spec->shape : Shape{factors.b.rows};
  if (wanted != module.bias->stored.spec.shape) {
    fault(Code::AdapterShape, key_of(*module.bias), " does not fit " + stored,
          shape_of(*module.bias), shape_text(wanted), "save the adapter again");
    return;
  }
  out_.biases.push_back({stored, matrix(*module.bias), alpha_at(module.path), out_.config.scale,
                         factors.a.rows, spec != nullptr});
}

bool AdapterReader::is_target_parameter(const std::string& name) const {
  const auto& wanted = out_.config.target_parameters;
  return std::any_of(wanted.begin(), wanted.end(), [&](const std::string& one) {
    return name == one || name.ends_with("." + one);
  });
}

std::string AdapterReader::own_name(const ModuleKeys& module, const std::string& parameter) {
  return fmt::format("{}.{}", module.path, last_component(parameter));
}

std::optional<std::string> AdapterReader::parameter_of(const ModuleKeys& module,
                                                       const std::vector<std::string>& registered) {
  std::vector<std::string> targeted;
  for (const std::string& name : registered) {
    if (is_target_parameter(own_name(module, name))) {
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

namespace {

/// "; did you mean ..." with a module of the same parent; "" when none is near.
std::string nearest_module(const Headers& headers, const std::string& path) {
  const std::string parent = path.substr(0, path.rfind('.') + 1);
  std::vector<std::string> beside;
  for (auto at = headers.lower_bound(parent); at != headers.end() && at->first.starts_with(parent);
       ++at) {
    beside.push_back(
        at->first.substr(parent.size(), at->first.find('.', parent.size()) - parent.size()));
  }
  const auto near = nearest(path.substr(parent.size()), beside);
  return near ? fmt::format(" (did you mean {}?)", *near) : "";
}

}  // namespace

void AdapterReader::packed(const ModuleKeys& module, const std::vector<std::string>& registered) {
  const auto name = parameter_of(module, registered);
  const auto weight = name ? base_.weight(*name, 0) : std::nullopt;
  if (!weight) {
    unknown(key_of(*module.a),
            registered.empty()
                ? fmt::format("the base has no module {}{}", io::in_quotes(module.path),
                              nearest_module(model_.headers, module.path))
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
  const bool marked = weight->columns_first.value_or(false) && marks_stacks(model_);
  auto roles = packed_roles(
      shapes, {weight->experts, weight->rows, weight->columns, weight->columns_first, marked},
      out_.config.peft_version);
  if (!roles) {
    const Error& error = roles.error();
    fault(error.code, key_of(*module.b), " " + error.message, error.found, error.wanted,
          error.help);
    return;
  }
  const std::string own = own_name(module, *name);
  const std::int64_t times = doubled(own, roles->rank) ? 2 : 1;
  note_rank(own, roles->rank / times, *module.a);
  const std::size_t first_pair = out_.pairs.size();
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
    add_pairs(*of_expert, {a, b, std::nullopt}, flip, own);
  }
  const bool alpha_decided = std::any_of(alphas_.begin(), alphas_.end(),
                                         [&](const auto& one) { return one.first.matches(own); });
  for (std::size_t i = first_pair; !alpha_decided && i < out_.pairs.size(); ++i) {
    out_.pairs[i].alpha *= static_cast<double>(times);
  }
}

bool AdapterReader::doubled(const std::string& parameter, std::int64_t rank) {
  const bool decided = std::any_of(ranks_.begin(), ranks_.end(),
                                   [&](const auto& one) { return one.first.matches(parameter); });
  return !decided && doubles_ && last_component(parameter) == "gate_up_proj" &&
         rank == 2 * out_.config.r;
}

}  // namespace bv::lora
