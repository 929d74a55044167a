#pragma once
// convert --adapter: the model with its adapter merged, as the source of a conversion.

#include <memory>
#include <optional>
#include <string>

#include "ci/cli/session/session.hpp"
#include "core/checkpoint/megatron_folder.hpp"
#include "core/cuda/staged_executor.hpp"
#include "core/lora/adapter.hpp"

namespace bv::cli {

/// A base whose tensors are merged when the conversion reads them: nothing of the merged model is
/// written or held beside the windows.
struct MergingSource {
  OpenedModel model;  // reads `adapter`
  std::unique_ptr<lora::Adapter> adapter;
};
/// 32 hex digits over config and tensors.
[[nodiscard]] std::string digest_of(const lora::Adapter& adapter);
/// Processes that merge the same adapter the same way have the same text.
[[nodiscard]] std::string identity_of(const lora::Adapter& adapter, bool untie);
/// What is compared with a checkpoint, and whether `written` names another adapter.
[[nodiscard]] std::string merged_note(const MergingSource& merging,
                                      const checkpoint::MegatronFolder* written);
/// nullopt without --adapter. Notes and warnings of the merge are added to the run. `device`
/// merges, and must outlive the source; null: the processor. Errors: Conflict for --untie alone;
/// those of open_base_and_adapter, lora::plan_merge and lora::merge_when_read.
[[nodiscard]] Result<std::optional<MergingSource>> open_merging(
    Context& context, const Options& options, const Library& library, Run& run,
    cuda::StagedExecutor* device = nullptr);

}  // namespace bv::cli
