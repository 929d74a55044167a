#pragma once
// Blocks of threads on the host: every thread is a fiber of its own as soon as it waits for others.

#include <functional>
#include <random>

#include "cuda_runtime.h"

namespace bv::fake_cuda {

/// All threads of all blocks, in a random order. Errors: cudaErrorLaunchFailure when some threads
/// of a block wait while others have ended, which a GPU leaves undefined.
[[nodiscard]] cudaError_t run_blocks(dim3 grid, dim3 block, const std::function<void()>& thread,
                                     std::mt19937& random);

/// Of a thread, until all others of its block are here.
void wait_for_threads();

}  // namespace bv::fake_cuda
