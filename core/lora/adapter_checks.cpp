// What is wrong with an adapter as a whole: rows that are changed twice, trained tensors that are
// not there, nothing at all.

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"
#include "core/lora/adapter_reader.hpp"
#include "core/lora/wrapped.hpp"

namespace bv::lora {

bool AdapterReader::lies_in(const std::string& parameter, const std::string& saved) {
  return saves_module(saved, std::string_view(parameter).substr(0, parameter.rfind('.')));
}

namespace {

/// A row of the base's out axis that both pairs change.
bool share_a_row(const AdapterPair& one, const AdapterPair& two) {
  if (one.base != two.base || one.expert != two.expert) {
    return false;
  }
  const AdapterPair& less = one.b.rows < two.b.rows ? one : two;
  const AdapterPair& more = &less == &one ? two : one;
  for (std::int64_t i = 0; i < less.b.rows; ++i) {
    const std::int64_t from = less.first_row + i * less.row_step - more.first_row;
    if (from >= 0 && from % more.row_step == 0 && from / more.row_step < more.b.rows) {
      return true;
    }
  }
  return false;
}

}  // namespace

void AdapterReader::check_overlaps() {
  for (std::size_t i = 0; i < out_.pairs.size(); ++i) {
    const AdapterPair& two = out_.pairs[i];
    for (std::size_t j = i;
         j-- > 0 && out_.pairs[j].base == two.base && out_.pairs[j].expert == two.expert;) {
      if (share_a_row(out_.pairs[j], two)) {
        fault(Code::AdapterName, two.a.key(),
              fmt::format(" is added to the rows of {} that {} is added to",
                          io::in_quotes(two.base), io::in_quotes(out_.pairs[j].a.key())),
              "two pairs", "one pair for each row", "leave one of the two out");
        break;
      }
    }
  }
  // Tensor -> the key that adds to it. lora_B.bias is added to a trained bias: PEFT has both.
  std::map<std::string, const std::string*> changed;
  for (const AdapterPair& pair : out_.pairs) {
    changed.try_emplace(pair.base, &pair.b.key());
  }
  std::set<std::string> replaced;
  for (const Replacement& one : out_.replacements) {
    const std::string& key = one.tensor->spec.name;
    if (!replaced.insert(one.base).second) {
      fault(Code::AdapterName, key, " replaces a tensor a second time", "two trained tensors",
            "one", "leave one of the two out");
    } else if (const auto other = changed.find(one.base); other != changed.end()) {
      fault(Code::AdapterName, key,
            fmt::format(" replaces a tensor that {} is added to", io::in_quotes(*other->second)),
            "a trained tensor and a delta", "one of them", "leave one of the two out");
    }
  }
}

/// PEFT loads a file without its trained tensors, and goes on with those of the base.
void AdapterReader::check_trained() {
  const auto is_there = [&](const auto& wanted) {
    return std::any_of(out_.replacements.begin(), out_.replacements.end(), wanted);
  };
  for (const std::string& name : out_.config.modules_to_save) {
    const auto& all = base_.headers();  // PEFT also names heads that this model does not have
    const bool known = std::any_of(all.begin(), all.end(),
                                   [&](const auto& one) { return lies_in(one.first, name); }) ||
                       (base_.tied() && lies_in(base_.tied()->weight.name, name));
    if (known && !is_there([&](const Replacement& one) { return lies_in(one.base, name); })) {
      fault(Code::AdapterPairBroken, name, " is a module to save, and nothing of it was saved",
            "no tensor of that module", "its trained tensors",
            "save the adapter again, or take the name out of modules_to_save");
    }
  }
  const auto bias = first_bias_to_train();
  if (bias && !is_there([](const Replacement& one) { return one.base.ends_with(".bias"); })) {
    fault(Code::AdapterPairBroken, *bias, " was trained, and is not in the adapter",
          "no trained bias", "trained biases, as bias of the config says",
          "save the adapter again, or write \"bias\": \"none\"");
  }
}

std::optional<std::string> AdapterReader::first_bias_to_train() const {
  if (out_.config.bias == Bias::All) {
    for (const auto& [name, spec] : base_.headers()) {
      if (name.ends_with(".bias")) {
        return name;
      }
    }
  }
  for (const AdapterPair& pair : out_.pairs) {
    const std::string name = std::string(module_of(pair.base)) + ".bias";
    if (out_.config.bias == Bias::LoraOnly && base_.stored(name) != nullptr) {
      return name;
    }
  }
  return std::nullopt;
}

Status AdapterReader::check_not_empty() const {
  if (!out_.pairs.empty() || !out_.biases.empty() || !out_.replacements.empty() ||
      !out_.faults.empty()) {
    return Done{};
  }
  return fail(Code::AdapterInvalid, "the adapter changes nothing: it holds no pair of factors")
      .at(name_)
      .pair(counted(static_cast<std::uint64_t>(out_.keys), "tensor"), "at least one pair")
      .advise("save the adapter again: nothing of it was trained, or its names were filtered");
}

}  // namespace bv::lora
