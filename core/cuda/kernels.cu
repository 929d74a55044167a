// The kernels: what one thread does is code of the host as well (element.hpp, tiles.hpp,
// merge_block.hpp), where tests run it.

#include "core/cuda/kernels.cuh"

#include <algorithm>
#include <string>

namespace bv::cuda {
namespace {

constexpr int kThreads = 256;
/// Units of one thread where there are enough for all processors of a device, and where not.
constexpr std::int64_t kUnitsEach = 4;
constexpr std::int64_t kManyUnits = std::int64_t{1} << 20;
constexpr std::int64_t kBlocksMax = std::int64_t{1} << 20;

/// All pieces of a recipe in one launch: a block makes a span of `each` units a thread. What the
/// span has to do with pieces is found once for all of its threads.
__global__ void run_all(const Move* moves, std::int64_t count, std::int64_t units,
                        std::int64_t each) {
  __shared__ std::int64_t pieces[2];  // of the first and the last unit
  const std::int64_t span = each * blockDim.x;
  for (std::int64_t first = blockIdx.x * span; first < units; first += gridDim.x * span) {
    const std::int64_t last = least(first + span, units) - 1;
    if (threadIdx.x < 2) {
      pieces[threadIdx.x] = piece_of(moves, count, threadIdx.x == 0 ? first : last);
    }
    __syncthreads();
    for (std::int64_t i = first + threadIdx.x; i <= last; i += blockDim.x) {
      const Move& move =
          moves[pieces[0] + piece_of(moves + pieces[0], pieces[1] - pieces[0] + 1, i)];
      run_one(move, i - move.first);
    }
    __syncthreads();
  }
}

/// Transposes: a block of threads a tile, over all pieces of a recipe.
__global__ void run_tiles(const TileMove* moves, std::int64_t count, std::int64_t tiles) {
  __shared__ TileBuffer buffer;
  __shared__ TilePlace place;
  __shared__ std::int64_t piece;
  for (std::int64_t n = blockIdx.x; n < tiles; n += gridDim.x) {
    if (threadIdx.x == 0) {
      piece = piece_of(moves, count, n);
      place = tile_place(moves[piece], n - moves[piece].first);
    }
    __syncthreads();
    read_tile(moves[piece], place, buffer, threadIdx.x, blockDim.x);
    __syncthreads();
    write_tile(moves[piece], place, buffer, threadIdx.x, blockDim.x);
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
    const std::int64_t each = list.units < kManyUnits ? 1 : kUnitsEach;
    BV_CHECK(start(run_all, (list.units + each * kThreads - 1) / (each * kThreads), kThreads,
                   stream, reinterpret_cast<const Move*>(moves),
                   static_cast<std::int64_t>(list.moves.size()), list.units, each));
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
