#pragma once
// What merging an adapter does to a base as a whole, before any element is made.

#include <string>
#include <utility>
#include <vector>

#include "core/lora/adapter.hpp"
#include "core/merge/merge_tensor.hpp"
#include "core/merge/merge_ties.hpp"

namespace bv::lora {

/// The adapter must outlive it.
struct MergePlan {
  Edits edits;                 // by name of the base tensor
  std::vector<Untied> untied;  // tensors that become two

  [[nodiscard]] bool adds_tensors() const;
  /// A sentence for each tensor that was one with another.
  [[nodiscard]] std::vector<std::string> notes() const;
};
/// Errors: those of check_usable and check_unknown_ties; AdapterNoForm for a bias on a layer that
/// has none; MergeTied without `untie`.
[[nodiscard]] Result<MergePlan> plan_merge(const checkpoint::HfModel& base, const Adapter& adapter,
                                           bool untie);

/// Members of config.json that are different for the merged model, as JSON.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> merged_members(
    const checkpoint::HfModel& base, const MergePlan& plan);

}  // namespace bv::lora
