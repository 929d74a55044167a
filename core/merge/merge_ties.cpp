#include "core/merge/merge_ties.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/checkpoint/config_text.hpp"
#include "core/io/fault_text.hpp"
#include "core/lora/tied_head.hpp"

namespace bv::lora {
namespace {

bool is_trained_alone(const TensorEdits& edits) {
  return edits.replacement != nullptr && edits.pairs.empty() && edits.biases.empty();
}

/// Both are replaced by equal tensors.
bool edited_alike(const TensorEdits& one, const TensorEdits& two) {
  return is_trained_alone(one) && is_trained_alone(two) &&
         one.replacement->tensor->spec.dtype == two.replacement->tensor->spec.dtype &&
         std::ranges::equal(one.replacement->bytes, two.replacement->bytes);
}

}  // namespace

std::vector<Untied> ties_broken(const checkpoint::HfModel& base, const Edits& edits) {
  std::vector<Untied> out;
  const auto note = [&](const std::string& one, const std::string& other, bool is_new) {
    const auto first = edits.find(one);
    const auto second = edits.find(other);
    const bool both = first != edits.end() && second != edits.end();
    if ((first == edits.end() && second == edits.end()) ||
        (both && edited_alike(first->second, second->second))) {
      return;
    }
    Untied untied{one, other, both, is_new ? other : "", is_new ? one : ""};
    if (first == edits.end()) {
      std::swap(untied.changed, untied.other);
    }
    out.push_back(std::move(untied));
  };
  for (const auto& [copy, original] : base.model.must_equal) {
    note(original, copy, false);
  }
  if (const auto head = tied_head(base)) {
    note(head->stored, head->weight.name, true);
  }
  return out;
}

Edits merged_edits(const checkpoint::HfModel& base, const Adapter& adapter) {
  Edits out = edits_of(adapter);
  const auto head = tied_head(base);
  const auto one = head ? out.find(head->weight.name) : out.end();
  const auto other = head ? out.find(head->stored) : out.end();
  if (one != out.end() && other != out.end() && edited_alike(one->second, other->second)) {
    out.erase(one);
  }
  return out;
}

Status check_unknown_ties(const checkpoint::HfModel& base,
                          const std::map<std::string, TensorEdits, std::less<>>& edits) {
  if (base.model.family || base.config_text.empty()) {
    return Done{};
  }
  BV_TRY(config, checkpoint::parse_config(base.config_text, "config.json"));
  const auto tied = config.find("tie_word_embeddings");
  const auto rows = config.find("vocab_size");
  const bool apart = tied != config.end() && tied->is_boolean() && !tied->get<bool>();
  for (const auto& [tensor, edit] : edits) {
    const auto spec = base.headers.find(tensor);
    const bool vocabulary =
        rows == config.end() || !rows->is_number_integer() || spec == base.headers.end() ||
        (!spec->second.shape.empty() && spec->second.shape.front() == rows->get<std::int64_t>());
    if (!apart && vocabulary) {
      return fail(Code::MergeTied,
                  fmt::format("the adapter changes {}, and no family of {} says what is tied to it",
                              io::printable(tensor), io::printable(base.architecture)))
          .pair("a change of the vocabulary",
                "tie_word_embeddings false, or a family that is known")
          .advise("name a family of equal structure with --family NAME");
    }
  }
  return Done{};
}

}  // namespace bv::lora
