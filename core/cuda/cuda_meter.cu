#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "core/cuda/cuda.hpp"
#include "core/cuda/kernels.cuh"
#include "core/cuda/meter.hpp"

namespace bv::cuda {
namespace {

/// What is called of cuBLAS, found at run time: executables start where it is not.
struct Blas {
  using Handle = void*;
  int (*create)(Handle*) = nullptr;
  int (*destroy)(Handle) = nullptr;
  int (*set_stream)(Handle, cudaStream_t) = nullptr;
  int (*sgemm)(Handle, int, int, int, int, int, const float*, const float*, int, const float*, int,
               const float*, float*, int) = nullptr;
};

Result<Blas> open_blas() {
  constexpr std::array kNames = {"libcublas.so.13", "libcublas.so.12", "libcublas.so.11",
                                 "libcublas.so"};
  void* library = nullptr;
  for (const char* name : kNames) {
    library = library == nullptr ? dlopen(name, RTLD_NOW | RTLD_LOCAL) : library;
  }
  Blas out;
  if (library != nullptr) {
    out.create = reinterpret_cast<decltype(out.create)>(dlsym(library, "cublasCreate_v2"));
    out.destroy = reinterpret_cast<decltype(out.destroy)>(dlsym(library, "cublasDestroy_v2"));
    out.set_stream =
        reinterpret_cast<decltype(out.set_stream)>(dlsym(library, "cublasSetStream_v2"));
    out.sgemm = reinterpret_cast<decltype(out.sgemm)>(dlsym(library, "cublasSgemm_v2"));
  }
  if (out.create == nullptr || out.destroy == nullptr || out.set_stream == nullptr ||
      out.sgemm == nullptr) {
    return fail(Code::NoGpu, "cuBLAS is not here, so that nothing is compared with it")
        .pair("no library of that name", "libcublas.so.13, .12 or .11 where the loader looks")
        .advise("add its folder to LD_LIBRARY_PATH");
  }
  return out;
}

class CudaMeter : public Meter {
 public:
  explicit CudaMeter(int number) : number_(number) {}
  ~CudaMeter() override {
    for (cudaEvent_t event : {begin_, end_}) {
      if (event != nullptr) {
        cudaEventDestroy(event);
      }
    }
    if (stream_ != nullptr) {
      cudaStreamDestroy(stream_);
    }
  }

  Status open() {
    BV_CHECK(checked(cudaSetDevice(number_), "choosing a device"));
    BV_CHECK(checked(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream"));
    BV_CHECK(checked(cudaEventCreate(&begin_), "making an event"));
    return checked(cudaEventCreate(&end_), "making an event");
  }

  Result<std::byte*> allocate(std::size_t bytes) override {
    void* first = nullptr;
    BV_CHECK(checked(cudaMalloc(&first, bytes), "tensors"));
    memory_.push_back(std::make_unique<Memory<FreeDevice>>());
    memory_.back()->reset(first, bytes);
    std::vector<std::uint32_t> words(std::min<std::size_t>(bytes, std::size_t{16} << 20) / 4);
    std::uint32_t state = 1;
    for (std::uint32_t& word : words) {
      state = state * 1664525U + 1013904223U;
      word = state & 0xbfffbfffU;  // no element of 16 or 32 bits is infinite or NaN
    }
    for (std::size_t at = 0; at < bytes; at += words.size() * 4) {
      const std::size_t size = std::min(words.size() * 4, bytes - at);
      BV_CHECK(send(static_cast<std::byte*>(first) + at, words.data(), size, "filling tensors"));
      if (words.empty()) {
        break;
      }
    }
    return static_cast<std::byte*>(first);
  }

  void release() override { memory_.clear(); }

  Result<double> moves(const MoveList& list, int rounds) override {
    const std::size_t moves = list.moves.size() * sizeof(Move);
    const std::size_t transposes = list.transposes.size() * sizeof(TileMove);
    void* first = nullptr;
    Memory<FreeDevice> lists;
    BV_CHECK(checked(cudaMalloc(&first, moves + transposes + 1), "a list of moves"));
    lists.reset(first, moves + transposes);
    BV_CHECK(send(lists.bytes(), list.moves.data(), moves, "sending moves"));
    BV_CHECK(send(lists.bytes() + moves, list.transposes.data(), transposes, "sending moves"));
    return best(rounds, [&] { return launch(list, lists.bytes(), lists.bytes() + moves, stream_); });
  }

  Result<double> merge(const MergeBlock& block, int rounds) override {
    return best(rounds, [&] { return launch(block, stream_); });
  }

  Result<double> copy(std::byte* to, const std::byte* from, std::size_t bytes, int rounds) override {
    return best(rounds, [&] {
      return checked(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_), "copying");
    });
  }

  Result<double> upload(std::byte* to, std::size_t bytes, int rounds) override {
    void* first = nullptr;
    Memory<FreePinned> pinned;
    BV_CHECK(checked_pinned(cudaMallocHost(&first, bytes), "transfers"));
    pinned.reset(first, bytes);
    return best(rounds, [&] {
      return checked(cudaMemcpyAsync(to, pinned.bytes(), bytes, cudaMemcpyHostToDevice, stream_),
                     "sending bytes");
    });
  }

  Result<double> sgemm(std::int64_t rows, std::int64_t columns, std::int64_t rank,
                       int rounds) override {
    BV_TRY(blas, open_blas());
    BV_TRY(left, allocate(static_cast<std::size_t>(rows * rank) * 4));
    BV_TRY(right, allocate(static_cast<std::size_t>(rank * columns) * 4));
    BV_TRY(out, allocate(static_cast<std::size_t>(rows * columns) * 4));
    Blas::Handle handle = nullptr;
    if (blas.create(&handle) != 0 || blas.set_stream(handle, stream_) != 0) {
      return fail(Code::NoGpu, "cuBLAS does not start").advise("nvidia-smi says more of the device");
    }
    const float one = 1;
    // cuBLAS counts columns first: the transposed product of transposed factors.
    const auto time = best(rounds, [&]() -> Status {
      const int code = blas.sgemm(handle, 0, 0, static_cast<int>(columns), static_cast<int>(rows),
                                  static_cast<int>(rank), &one,
                                  reinterpret_cast<const float*>(right), static_cast<int>(columns),
                                  reinterpret_cast<const float*>(left), static_cast<int>(rank), &one,
                                  reinterpret_cast<float*>(out), static_cast<int>(columns));
      return code == 0 ? Status(Done{})
                       : Status(fail(Code::NoGpu, "cublasSgemm failed with " + std::to_string(code))
                                    .advise("nvidia-smi says more of the device"));
    });
    blas.destroy(handle);
    return time;
  }

 private:
  /// A copy of pages that are not pinned may return while its bytes are on their way: streams that
  /// do not wait for others would read what was there before.
  Status send(std::byte* to, const void* from, std::size_t bytes, const char* doing) {
    if (bytes == 0) {
      return Done{};
    }
    void* first = nullptr;
    Memory<FreePinned> pinned;
    BV_CHECK(checked_pinned(cudaMallocHost(&first, bytes), doing));
    pinned.reset(first, bytes);
    std::memcpy(first, from, bytes);
    BV_CHECK(checked(cudaMemcpyAsync(to, first, bytes, cudaMemcpyHostToDevice, stream_), doing));
    return checked(cudaStreamSynchronize(stream_), doing);
  }

  template <class Run>
  Result<double> best(int rounds, const Run& run) {
    double least = 0;
    for (int round = 0; round <= rounds; ++round) {  // the first one warms up
      BV_CHECK(checked(cudaEventRecord(begin_, stream_), "timing"));
      BV_CHECK(run());
      BV_CHECK(checked(cudaEventRecord(end_, stream_), "timing"));
      BV_CHECK(checked(cudaEventSynchronize(end_), "timing"));
      float milliseconds = 0;
      BV_CHECK(checked(cudaEventElapsedTime(&milliseconds, begin_, end_), "timing"));
      const double seconds = static_cast<double>(milliseconds) / 1000;
      least = round == 1 || (round > 1 && seconds < least) ? seconds : least;
    }
    return least;
  }

  int number_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
  std::vector<std::unique_ptr<Memory<FreeDevice>>> memory_;
};

}  // namespace

Result<std::unique_ptr<Meter>> open_meter(int number) {
  BV_CHECK(open_device(number));
  auto meter = std::make_unique<CudaMeter>(number);
  BV_CHECK(meter->open());
  return std::unique_ptr<Meter>(std::move(meter));
}

}  // namespace bv::cuda
