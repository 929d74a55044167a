#pragma once
// An opened base whose tensors are those of the merged model, each made when it is read.

#include "core/checkpoint/open_model.hpp"
#include "core/merge/merge_plan.hpp"

namespace bv::lora {

/// What headers and config of the merged model have that those of the base have not.
[[nodiscard]] checkpoint::Additions merged_additions(const checkpoint::HfModel& base,
                                                     const MergePlan& plan);

/// From now on the checkpoint of `model`, which was opened with merged_additions, gives what
/// merge_model would write. The adapter must outlive it. Memory of a reader: rows of a window for
/// each source, packed factors, and what merges keep from window to window, kRestingBytes for each
/// of `jobs` threads. Errors: MergeDType.
[[nodiscard]] Status merge_when_read(const Adapter& adapter, const MergePlan& plan, int jobs,
                                     checkpoint::HfModel& model);
inline constexpr std::size_t kRestingBytes = std::size_t{8} << 20;

}  // namespace bv::lora
