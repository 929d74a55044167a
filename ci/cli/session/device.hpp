#pragma once
// What --device names.

#include <memory>

#include "ci/cli/session/context.hpp"
#include "core/cuda/staged_executor.hpp"
#include "core/verdict/verdict.hpp"

namespace bv::cli {

/// The executor of --device cuda[:N]; null for cpu, and then nothing of CUDA is touched. Without a
/// number the processes of a host take one GPU each of those they see. Errors: BadValue for what is
/// no device; NoGpu with what was found.
[[nodiscard]] Result<std::unique_ptr<cuda::StagedExecutor>> open_device(const Context& context,
                                                                        const Options& options);
/// What a device did otherwise than asked for; nothing for null.
void add_notes_of(const cuda::StagedExecutor* device, Run& run);

}  // namespace bv::cli
