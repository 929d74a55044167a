#pragma once
// Tensors of a base that are one: the embedding and an output layer that is tied to it, and copies.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/checkpoint/hf_model.hpp"
#include "core/merge/merge_tensor.hpp"

namespace bv::lora {

/// A merge that makes two tensors of one.
struct Untied {
  std::string changed;  // by the adapter
  std::string other;    // stays as the base has it, unless `both`
  bool both = false;    // the adapter changes `other` too, otherwise
  std::string made;     // the one that the base does not store; "" when it stores both
  std::string from;     // the stored tensor that `made` begins as

  [[nodiscard]] bool is_new() const { return !made.empty(); }
};

/// What must be untied for the adapter's function to be kept. Only names that differ in what the
/// adapter does to them.
[[nodiscard]] std::vector<Untied> ties_broken(const checkpoint::HfModel& base, const Edits& edits);

/// What a merge does to each tensor: an output layer that is tied, and gets the trained tensor that
/// the embedding gets, stays tied to it.
[[nodiscard]] Edits merged_edits(const checkpoint::HfModel& base, const Adapter& adapter);

/// A base without a family does not say which tensors are one: a change of a tensor with as many
/// rows as the vocabulary is refused unless the config says that nothing is tied. Errors:
/// MergeTied.
[[nodiscard]] Status check_unknown_ties(
    const checkpoint::HfModel& base, const std::map<std::string, TensorEdits, std::less<>>& edits);

}  // namespace bv::lora
