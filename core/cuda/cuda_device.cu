// A GPU as a Device. Every call is checked; nvcc compiles it without fast math.

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "core/cuda/copy_by_all.hpp"
#include "core/cuda/cuda.hpp"
#include "core/cuda/kernels.cuh"

namespace bv::cuda {
namespace {

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
    BV_CHECK(checked_pinned(cudaMallocHost(&first, bytes), "transfers"));
    lane.pinned.reset(first, bytes);
    return Done{};
  }

  std::byte* memory(int lane) const override { return lanes_[lane].device.bytes(); }

  Status upload(int number, std::size_t at, std::span<const std::byte> bytes) override {
    BV_CHECK(here());
    Lane& lane = lanes_[number];
    copy_by_all(lane.pinned.bytes() + at, bytes);
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
      copy_by_all(to.data(), {lane.pinned.bytes() + at, to.size()});
    }
    lane.downloads.clear();
    return Done{};
  }

  void give_up() override {
    for (Lane& lane : lanes_) {
      lane.downloads.clear();
      if (here()) {
        // The next task fills the same memory. Where this fails as well, so will its calls.
        static_cast<void>(checked(cudaStreamSynchronize(lane.stream), "giving up"));
      }
    }
  }

 private:
  /// Threads have a current device each.
  Status here() const { return checked(cudaSetDevice(number_), "choosing a device"); }

  Status room_for(Lane& lane, std::size_t bytes) {
    if (std::min(lane.moves.size(), lane.pinned_moves.size()) >= bytes) {
      return Done{};
    }
    const std::size_t size = std::max(bytes, 2 * lane.moves.size());
    void* first = nullptr;
    lane.moves.reset(nullptr, 0);
    lane.pinned_moves.reset(nullptr, 0);
    BV_CHECK(checked(cudaMalloc(&first, size), "a list of moves"));
    lane.moves.reset(first, size);
    BV_CHECK(checked_pinned(cudaMallocHost(&first, size), "a list of moves"));
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
