// A GPU as a Device. Every call is checked; nvcc compiles it without fast math.

#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "core/cuda/cuda.hpp"

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

/// Memory of the device or of transfers, given back at the end.
template <class Release>
class Memory {
 public:
  Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  Memory(Memory&&) = delete;
  Memory& operator=(Memory&&) = delete;
  ~Memory() { reset(nullptr, 0); }
  void reset(void* first, std::size_t size) {
    if (first_ != nullptr) {
      Release()(first_);
    }
    first_ = first;
    size_ = size;
  }
  [[nodiscard]] std::byte* bytes() const { return static_cast<std::byte*>(first_); }
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  void* first_ = nullptr;
  std::size_t size_ = 0;
};
struct FreeDevice {
  void operator()(void* first) const { cudaFree(first); }
};
struct FreePinned {
  void operator()(void* first) const { cudaFreeHost(first); }
};

Status launch(const MoveList& list, const std::byte* moves, const std::byte* transposes,
              cudaStream_t stream) {
  if (list.units > 0) {
    const std::int64_t blocks = std::min(kBlocksMax, (list.units + kThreads - 1) / kThreads);
    run_all<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(
        reinterpret_cast<const Move*>(moves), static_cast<std::int64_t>(list.moves.size()),
        list.units);
  }
  if (list.tiles > 0) {
    run_tiles<<<static_cast<unsigned>(std::min(kBlocksMax, list.tiles)), kThreads, 0, stream>>>(
        reinterpret_cast<const TileMove*>(transposes),
        static_cast<std::int64_t>(list.transposes.size()), list.tiles);
  }
  return checked(cudaGetLastError(), "starting a kernel");
}

Status launch(const MergeBlock& block, cudaStream_t stream) {
  const std::int64_t tiles = merge_tiles(block);
  if (tiles > 0) {
    run_merge<<<static_cast<unsigned>(std::min(kBlocksMax, tiles)),
                static_cast<unsigned>(kMergeThreads), 0, stream>>>(block, tiles);
  }
  return checked(cudaGetLastError(), "starting a kernel");
}

struct Lane {
  cudaStream_t stream = nullptr;
  Memory<FreeDevice> device;
  Memory<FreePinned> pinned;
  Memory<FreeDevice> moves;
  Memory<FreePinned> pinned_moves;
  std::vector<std::pair<std::size_t, std::span<std::byte>>> downloads;  // in pinned memory

  ~Lane() {
    if (stream != nullptr) {
      cudaStreamDestroy(stream);
    }
  }
};

class CudaDevice : public Device {
 public:
  explicit CudaDevice(int number) : number_(number) {}

  Status open() {
    BV_CHECK(here());
    for (Lane& lane : lanes_) {
      BV_CHECK(checked(cudaStreamCreateWithFlags(&lane.stream, cudaStreamNonBlocking),
                       "making a stream"));
    }
    return Done{};
  }

  Status reserve(int number, std::size_t bytes) override {
    BV_CHECK(here());
    Lane& lane = lanes_[number];
    lane.device.reset(nullptr, 0);
    lane.pinned.reset(nullptr, 0);
    void* first = nullptr;
    BV_CHECK(checked(cudaMalloc(&first, bytes), "tensors"));
    lane.device.reset(first, bytes);
    BV_CHECK(checked(cudaMallocHost(&first, bytes), "transfers"));
    lane.pinned.reset(first, bytes);
    return Done{};
  }

  std::byte* memory(int lane) const override { return lanes_[lane].device.bytes(); }

  Status upload(int number, std::size_t at, std::span<const std::byte> bytes) override {
    BV_CHECK(here());
    Lane& lane = lanes_[number];
    std::memcpy(lane.pinned.bytes() + at, bytes.data(), bytes.size());
    return checked(cudaMemcpyAsync(lane.device.bytes() + at, lane.pinned.bytes() + at, bytes.size(),
                                   cudaMemcpyHostToDevice, lane.stream),
                   "sending bytes");
  }

  Status run(int number, const MoveList& list) override {
    BV_CHECK(here());
    Lane& lane = lanes_[number];
    const std::size_t moves = list.moves.size() * sizeof(Move);
    const std::size_t transposes = list.transposes.size() * sizeof(TileMove);
    if (moves + transposes == 0) {
      return Done{};
    }
    BV_CHECK(room_for(lane, moves + transposes));
    std::memcpy(lane.pinned_moves.bytes(), list.moves.data(), moves);
    std::memcpy(lane.pinned_moves.bytes() + moves, list.transposes.data(), transposes);
    BV_CHECK(checked(cudaMemcpyAsync(lane.moves.bytes(), lane.pinned_moves.bytes(),
                                     moves + transposes, cudaMemcpyHostToDevice, lane.stream),
                     "sending moves"));
    return launch(list, lane.moves.bytes(), lane.moves.bytes() + moves, lane.stream);
  }

  Status merge(int number, const MergeBlock& block) override {
    BV_CHECK(here());
    return launch(block, lanes_[number].stream);
  }

  Status download(int number, std::size_t at, std::span<std::byte> to) override {
    BV_CHECK(here());
    Lane& lane = lanes_[number];
    BV_CHECK(checked(cudaMemcpyAsync(lane.pinned.bytes() + at, lane.device.bytes() + at, to.size(),
                                     cudaMemcpyDeviceToHost, lane.stream),
                     "bringing bytes back"));
    lane.downloads.emplace_back(at, to);
    return Done{};
  }

  Status wait(int number) override {
    BV_CHECK(here());
    Lane& lane = lanes_[number];
    BV_CHECK(checked(cudaStreamSynchronize(lane.stream), "moving bytes"));
    for (const auto& [at, to] : lane.downloads) {
      std::memcpy(to.data(), lane.pinned.bytes() + at, to.size());
    }
    lane.downloads.clear();
    return Done{};
  }

 private:
  /// Threads have a current device each.
  Status here() const { return checked(cudaSetDevice(number_), "choosing a device"); }

  Status room_for(Lane& lane, std::size_t bytes) {
    if (lane.moves.size() >= bytes) {
      return Done{};
    }
    const std::size_t size = std::max(bytes, 2 * lane.moves.size());
    void* first = nullptr;
    lane.moves.reset(nullptr, 0);
    lane.pinned_moves.reset(nullptr, 0);
    BV_CHECK(checked(cudaMalloc(&first, size), "a list of moves"));
    lane.moves.reset(first, size);
    BV_CHECK(checked(cudaMallocHost(&first, size), "a list of moves"));
    lane.pinned_moves.reset(first, size);
    return Done{};
  }

  int number_;
  Lane lanes_[kLanes];
};

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string device_text(int number) {
  cudaDeviceProp properties{};
  if (cudaGetDeviceProperties(&properties, number) != cudaSuccess) {
    cudaGetLastError();
    return "device " + std::to_string(number);
  }
  const std::size_t tenths = properties.totalGlobalMem / 100000000U;
  return std::string(properties.name) + ", compute " + std::to_string(properties.major) + "." +
         std::to_string(properties.minor) + ", " + std::to_string(tenths / 10) + "." +
         std::to_string(tenths % 10) + " GB";
}

}  // namespace

Found look_around() {
  Found out;
  out.compiled = true;
  out.toolkit = version_text(CUDART_VERSION);
  int driver = 0;
  if (cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0) {
    out.driver = version_text(driver);
  }
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code != cudaSuccess || count == 0) {
    cudaGetLastError();
    out.problem = out.driver.empty()    ? "no NVIDIA driver"
                  : code != cudaSuccess ? std::string("driver for CUDA ") + out.driver + ": " +
                                              cudaGetErrorString(code)
                                        : "no device";
    return out;
  }
  for (int i = 0; i < count; ++i) {
    out.devices.push_back(device_text(i));
  }
  return out;
}

Result<std::unique_ptr<Device>> open_device(int number) {
  const Found found = look_around();
  if (number < 0 || static_cast<std::size_t>(number) >= found.devices.size()) {
    return fail(Code::NoGpu, "there is no GPU " + std::to_string(number))
        .pair(text_of(found), "a device that the driver lists")
        .advise("leave --device out; bridge-verify doctor says what this machine can do");
  }
  auto device = std::make_unique<CudaDevice>(number);
  BV_CHECK(device->open());
  return std::unique_ptr<Device>(std::move(device));
}

}  // namespace bv::cuda
