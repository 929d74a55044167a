#pragma once
// An opened base whose tensors are those of the merged model, each made when it is read.

#include "core/checkpoint/open_model.hpp"
#include "core/merge/merge_plan.hpp"
#include "core/move/merger.hpp"

namespace bv::lora {

/// What headers and config of the merged model have that those of the base have not.
[[nodiscard]] checkpoint::Additions merged_additions(const checkpoint::HfModel& base,
                                                     const MergePlan& plan);

/// From now on the checkpoint of `model`, which was opened with merged_additions, gives what
/// merge_model would write. The adapter must outlive it. Memory of a reader: rows of a window for
/// each source, packed factors, and what merges keep from window to window, kRestingBytes for each
/// of `jobs` threads, or kDeviceRestingBytes. `device` merges, and must outlive it; null: the
/// processor. Errors: MergeDType; those of the device.
[[nodiscard]] Status merge_when_read(const Adapter& adapter, const MergePlan& plan, int jobs,
                                     checkpoint::HfModel& model, move::Merger* device = nullptr);
inline constexpr std::size_t kRestingBytes = std::size_t{8} << 20;
/// With a device, whose windows are larger: else every rank would merge the same rows again.
inline constexpr std::size_t kDeviceRestingBytes = std::size_t{128} << 20;

}  // namespace bv::lora
