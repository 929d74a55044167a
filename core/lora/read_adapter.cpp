// An adapter as PEFT saves it: every key is a pair, a trained tensor, a copy, or a fault.

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/text.hpp"
#include "core/io/entry.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/writer.hpp"
#include "core/lora/adapter_reader.hpp"
#include "core/lora/class_modules.hpp"
#include "core/lora/wrapped.hpp"

namespace bv::lora {
namespace fs = std::filesystem;

Status AdapterReader::read() {
  BV_CHECK(compile_patterns());
  find_text_class();
  for (const auto& tensor : out_.tensors) {
    classify(*tensor);
  }
  for (const auto& [tensor, name] : again_) {
    trained_again(*tensor, name);
  }
  join_magnitudes();
  for (const auto& [place, module] : modules_) {
    read_module(module);
  }
  BV_CHECK(check_ranks());
  std::sort(out_.pairs.begin(), out_.pairs.end(), [](const AdapterPair& a, const AdapterPair& b) {
    return std::tie(a.base, a.expert, a.first_row) < std::tie(b.base, b.expert, b.first_row);
  });
  check_overlaps();
  check_trained();
  return check_not_empty();
}

void AdapterReader::fault(Code code, const std::string& key, const std::string& what,
                          std::string found, std::string wanted, std::string help) {
  const std::string place = place_text(key);
  out_.faults.push_back({code, key,
                         fmt::format("{}{}{}", io::in_quotes(key),
                                     place.empty() ? "" : fmt::format(" ({})", place), what),
                         std::move(found), std::move(wanted), std::move(help)});
}

void AdapterReader::unknown(const std::string& key, const std::string& why) {
  fault(Code::AdapterName, key, " belongs to no tensor of the base: " + why, "this key",
        "keys that PEFT loads into the base's class", kOtherBase);
}

std::string AdapterReader::shape_of(const AdapterTensor& tensor) {
  return shape_text(tensor.stored.spec.shape);
}

const std::string& AdapterReader::key_of(const AdapterTensor& tensor) {
  return tensor.stored.spec.name;
}

Status AdapterReader::compile_patterns() {
  for (const auto& [pattern, rank] : out_.config.rank_pattern) {
    BV_TRY(compiled, PathPattern::compile(pattern, PathPattern::Extent::Suffix));
    ranks_.emplace_back(std::move(compiled), rank);
  }
  for (const auto& [pattern, alpha] : out_.config.alpha_pattern) {
    BV_TRY(compiled, PathPattern::compile(pattern, PathPattern::Extent::Suffix));
    alphas_.emplace_back(std::move(compiled), alpha);
  }
  BV_TRY(doubles, doubles_gate_up(out_.config, model_));
  doubles_ = doubles;
  return Done{};
}

void AdapterReader::classify(const AdapterTensor& tensor) {
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
    case KeyKind::Again:
      again_.emplace_back(&tensor, parsed->path);
      return;
    case KeyKind::Original:
      copy(tensor, parsed->path);
      return;
  }
}

void AdapterReader::add_to_module(const AdapterKey& key, const AdapterTensor& tensor) {
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

/// The key of a magnitude does not say that its factors are those of an embedding.
void AdapterReader::join_magnitudes() {
  for (auto& [place, module] : modules_) {
    const auto [path, depth, embedding] = place;
    const auto other = embedding ? modules_.find({path, depth, false}) : modules_.end();
    if (other != modules_.end() && other->second.a == nullptr && other->second.b == nullptr &&
        other->second.bias == nullptr) {
      module.magnitude = other->second.magnitude;
      modules_.erase(other);
    }
  }
}

/// PEFT's class is the text model where AutoModelForCausalLM loaded a checkpoint with towers.
void AdapterReader::find_text_class() {
  std::vector<std::string> paths;
  for (const auto& tensor : out_.tensors) {
    std::string why;
    if (auto key = parse_adapter_key(key_of(*tensor), why)) {
      paths.push_back(std::move(key->path));
    }
  }
  text_ = text_class_of(model_, paths);
  if (text_) {
    out_.notes.push_back(fmt::format(
        "the adapter is of the text model alone: {} of its keys is {} of the whole class",
        io::in_quotes(text_->own + "."), io::in_quotes(text_->whole + ".")));
  }
}

std::string AdapterReader::in_whole_class(const std::string& path) const {
  return text_ ? text_->to_whole(path).value_or(path) : path;
}

std::string AdapterReader::stored_name(const std::string& name) {
  if (base_.stored(name) != nullptr || base_.weight(name)) {
    return name;
  }
  if (auto moved = base_.under_other_module(name)) {
    return *moved;
  }
  if (const std::string whole = in_whole_class(name); whole != name) {
    const bool there = base_.stored(whole) != nullptr || base_.weight(whole);
    return there ? whole : base_.under_other_module(whole).value_or(whole);
  }
  const auto other = base_.under_other_prefix(name);
  if (other && out_.notes.empty()) {
    out_.notes.push_back(
        fmt::format("the base stores {} as {}", io::in_quotes(name), io::in_quotes(*other)));
  }
  return other.value_or(name);
}

void AdapterReader::replace(const AdapterTensor& tensor, const std::string& name, bool allowed,
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

void AdapterReader::trained(const AdapterTensor& tensor, const std::string& name) {
  const auto& saved = out_.config.modules_to_save;
  const bool whole = std::any_of(saved.begin(), saved.end(),
                                 [&](const std::string& one) { return lies_in(name, one); });
  const bool bias = out_.config.bias == Bias::All && name.ends_with(".bias");
  replace(tensor, name, whole || bias,
          name.ends_with(".bias") ? "bias is not \"all\", and modules_to_save does not name it"
                                  : "modules_to_save does not name its module");
}

/// PEFT loads one of the two, and does not say which.
void AdapterReader::trained_again(const AdapterTensor& tensor, const std::string& name) {
  const std::string stored = stored_name(name);
  const auto first = std::find_if(out_.replacements.begin(), out_.replacements.end(),
                                  [&](const Replacement& one) { return one.base == stored; });
  if (first == out_.replacements.end()) {
    trained(tensor, name);
    return;
  }
  const bool same = first->tensor->spec.dtype == tensor.stored.spec.dtype &&
                    first->tensor->spec.shape == tensor.stored.spec.shape &&
                    std::equal(first->bytes.begin(), first->bytes.end(), tensor.bytes.begin(),
                               tensor.bytes.end());
  if (!same) {
    fault(Code::AdapterName, key_of(tensor),
          fmt::format(" is the same parameter as {}, with another value",
                      io::in_quotes(first->tensor->spec.name)),
          "two values of a trained tensor", "one", "save the adapter again");
  }
}

void AdapterReader::copy(const AdapterTensor& tensor, const std::string& name) {
  const std::string stored = stored_name(name);
  const TensorSpec* spec = base_.stored(stored);
  if (spec == nullptr) {
    unknown(key_of(tensor), "the base has no " + name);
    return;
  }
  const bool same_header = spec->shape == tensor.stored.spec.shape;
  bool same = same_header;
  if (same && model_.checkpoint && spec->dtype == tensor.stored.spec.dtype) {
    const bool tied = base_.tied() && stored == base_.tied()->weight.name;
    const TensorSpec* bytes_of = tied ? base_.stored(base_.tied()->stored) : spec;
    const checkpoint::WholeTensor base({&*model_.checkpoint, bytes_of});
    const auto bytes = base.bytes();
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

Status AdapterReader::check_ranks() const {
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

const std::byte* Factor::at(std::int64_t row, std::int64_t column) const {
  const std::int64_t place = row * row_stride + column * column_stride;
  return first + place * static_cast<std::int64_t>(bytes(dtype));
}

checkpoint::SourceTensor Factor::source() const {
  return {store, &tensor->spec};
}

MatrixSides matrix_sides(const Shape& shape, std::span<const AdapterPair* const> pairs) {
  const bool convolution =
      shape.size() > 2 && std::any_of(pairs.begin(), pairs.end(),
                                      [](const AdapterPair* pair) { return pair->expert < 0; });
  MatrixSides out;
  if (convolution) {
    out.rows = shape[0];
    for (std::size_t i = 1; i < shape.size(); ++i) {
      out.columns *= shape[i];
    }
  } else if (!shape.empty()) {
    out.columns = shape.size() < 2 ? 1 : std::max<std::int64_t>(1, shape.back());
    out.rows = shape.size() == 1 ? shape[0] : shape[shape.size() - 2];
  }
  return out;
}

namespace {

/// Gives a tensor at hand its store.
Status hold(AdapterTensor& tensor, io::MemoryView& memory, const std::string& name) {
  const TensorSpec& spec = tensor.stored.spec;
  if (memory.find(spec.name) != nullptr) {
    return fail(Code::DuplicateKey, fmt::format("{} appears twice", io::in_quotes(spec.name)))
        .at(name)
        .pair("two tensors of one name", "one")
        .advise("save the adapter again");
  }
  memory.add(spec, tensor.bytes);
  tensor.store = &memory;
  return Done{};
}

}  // namespace

Result<Adapter> fit_adapter(AdapterConfig config, std::vector<AdapterTensor> tensors,
                            const checkpoint::HfModel& base, const kinds::Catalogue& kinds,
                            const std::string& name) {
  Adapter out;
  out.config = std::move(config);
  out.keys = std::ssize(tensors);
  out.in_memory = std::make_unique<io::MemoryView>();
  for (AdapterTensor& tensor : tensors) {
    if (!is_float(tensor.stored.spec.dtype) || bits(tensor.stored.spec.dtype) < 16) {
      return fail(Code::AdapterInvalid,
                  fmt::format("{} is {}", io::in_quotes(tensor.stored.spec.name),
                              bv::name(tensor.stored.spec.dtype)))
          .at(name)
          .pair(std::string(bv::name(tensor.stored.spec.dtype)), "F16, BF16, F32 or F64")
          .advise("save the adapter in a type that can be computed with");
    }
    if (tensor.store == nullptr) {
      BV_CHECK(hold(tensor, *out.in_memory, name));
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
  const bool has_config = io::has_entry(config_file);
  if (!has_config || !io::has_entry(folder / kAdapterModelName)) {
    return fail(Code::AdapterInvalid,
                fmt::format("{} is not an adapter of PEFT", io::printable_path(folder)))
        .pair(fs::exists(folder, ignored)
                  ? fmt::format("no {}", has_config ? kAdapterModelName : kAdapterConfigName)
                  : "no such folder",
              fmt::format("{} and {}", kAdapterConfigName, kAdapterModelName))
        .advise("give the folder that save_pretrained wrote");
  }
  BV_TRY(text, io::read_file(config_file, kAdapterConfigBytesMax, Code::AdapterInvalid));
  BV_TRY(config, parse_adapter_config(text, io::printable_path(config_file)));
  BV_TRY(opened, io::Checkpoint::open(folder / kAdapterModelName));
  auto file = std::make_shared<io::Checkpoint>(std::move(opened));
  std::vector<AdapterTensor> tensors;
  for (const auto& [key, stored] : file->tensors()) {
    tensors.push_back({stored, file->bytes(stored), file.get()});
  }
  BV_TRY(out, fit_adapter(std::move(config), std::move(tensors), base, kinds,
                          io::printable_path(folder)));
  out.folder = folder;
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
