// The kernels: what one thread does is code of the host as well (element.hpp, tiles.hpp,
// merge_block.hpp), where tests run it.

#include "core/cuda/kernels.cuh"

#include <algorithm>
#include <string>

namespace bv::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kBlocksMax = std::int64_t{1} << 20;

/// All pieces of a recipe in one launch: thread i makes units i, i + threads, ... of them all.
__global__ void run_all(const Move* moves, std::int64_t count, std::int64_t units) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < units;
       i += step) {
    const Move& move = moves[piece_of(moves, count, i)];
    run_one(move, i - move.first);
  }
}

/// Transposes: a block of threads a tile, over all pieces of a recipe.
__global__ void run_tiles(const TileMove* moves, std::int64_t count, std::int64_t tiles) {
  __shared__ std::uint64_t buffer[kTileElements];
  for (std::int64_t n = blockIdx.x; n < tiles; n += gridDim.x) {
    const TileMove& move = moves[piece_of(moves, count, n)];
    const TilePlace place = tile_place(move, n - move.first);
    read_tile(move, place, buffer, threadIdx.x, blockDim.x);
    __syncthreads();
    write_tile(move, place, buffer, threadIdx.x, blockDim.x);
    __syncthreads();
  }
}

__global__ void run_merge(MergeBlock block, std::int64_t tiles) {
  __shared__ MergeShared shared;
  for (std::int64_t n = blockIdx.x; n < tiles; n += gridDim.x) {
    MergeThread thread(block, n, threadIdx.x);
    for (std::int64_t k = 0; k < block.rank; k += kMergeDepth) {
      thread.load(shared, k);
      __syncthreads();
      thread.add(shared, k);
      __syncthreads();
    }
    thread.store();
  }
}

}  // namespace

Status checked(cudaError_t code, const char* doing) {
  if (code == cudaSuccess) {
    return Done{};
  }
  cudaGetLastError();  // errors that do not stay are forgotten
  if (code == cudaErrorMemoryAllocation) {
    return fail(Code::OutOfMemory, std::string("the GPU has no memory left for ") + doing)
        .advise("end other programs on the GPU, or use --device cpu");
  }
  return fail(Code::NoGpu,
              std::string("the GPU failed while ") + doing + ": " + cudaGetErrorString(code))
      .pair(cudaGetErrorName(code), "cudaSuccess")
      .advise("use --device cpu; nvidia-smi says more of the device");
}

Status checked_pinned(cudaError_t code, const char* doing) {
  if (code != cudaErrorMemoryAllocation) {
    return checked(code, doing);
  }
  cudaGetLastError();
  return fail(Code::OutOfMemory,
              std::string("the host has no memory left that can be pinned for ") + doing)
      .advise("raise `ulimit -l` or the memory limit of the job, or use --device cpu");
}

/// Errors of the launch itself; those of the kernel are told by the next wait.
template <class... Wanted>
Status start(void (*kernel)(Wanted...), std::int64_t blocks, std::int64_t threads,
             cudaStream_t stream, Wanted... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(std::min(kBlocksMax, blocks)));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.stream = stream;
  return checked(cudaLaunchKernelEx(&config, kernel, arguments...), "starting a kernel");
}

Status launch(const MoveList& list, const std::byte* moves, const std::byte* transposes,
              cudaStream_t stream) {
  if (list.units > 0) {
    BV_CHECK(start(run_all, (list.units + kThreads - 1) / kThreads, kThreads, stream,
                   reinterpret_cast<const Move*>(moves),
                   static_cast<std::int64_t>(list.moves.size()), list.units));
  }
  if (list.tiles > 0) {
    BV_CHECK(start(run_tiles, list.tiles, kThreads, stream,
                   reinterpret_cast<const TileMove*>(transposes),
                   static_cast<std::int64_t>(list.transposes.size()), list.tiles));
  }
  return Done{};
}

Status launch(const MergeBlock& block, cudaStream_t stream) {
  const std::int64_t tiles = merge_tiles(block);
  return tiles == 0 ? Status(Done{}) : start(run_merge, tiles, kMergeThreads, stream, block, tiles);
}

}  // namespace bv::cuda
