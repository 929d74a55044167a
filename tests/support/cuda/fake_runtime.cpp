// A stand-in for the CUDA runtime on the host. Like it: kernels run as their source says, with
// blocks, threads and shared memory; streams do their work as early or as late as CUDA allows;
// device memory is poisoned, bounded and closed to the host; any call can fail, once or from then
// on. Unlike it: one thread runs at a time, floating point is that of the host's compiler, nothing
// is said of time, of warps, or of what nvcc makes of the source.

#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <sstream>

#include "tests/support/cuda/blocks.hpp"
#include "tests/support/cuda/fake_cuda.hpp"
#include "tests/support/cuda/fake_memory.hpp"

struct FakeStream {
  int device = 0;
  std::deque<std::function<cudaError_t()>> work;
};
struct FakeEvent {
  int device = 0;
};

namespace bv::fake_cuda {
namespace {

Choice choice_of_environment() {
  Choice out;
  const char* set = std::getenv("FAKE_CUDA");
  std::istringstream words(set == nullptr ? "" : set);
  for (std::string word; words >> word;) {
    const std::string name = word.substr(0, word.find('='));
    const std::string text =
        word.find('=') == std::string::npos ? "" : word.substr(name.size() + 1);
    if (name == "devices") {
      out.devices = std::stoi(text);
    } else if (name == "memory") {
      out.memory_bytes = std::stoull(text);
    } else if (name == "fail") {
      out.failing_call = std::stol(text);
    } else if (name == "code") {
      out.failing_code = std::stoi(text);
    } else if (name == "stays") {
      out.stays = true;
    } else if (name == "when") {
      out.when = text == "early" ? When::Early : text == "random" ? When::Random : When::Late;
    } else if (name == "seed") {
      out.seed = static_cast<unsigned>(std::stoul(text));
    } else {
      std::abort();
    }
  }
  return out;
}

/// All that the runtime keeps; one call at a time.
struct Runtime {
  std::recursive_mutex mutex;
  Choice choice = choice_of_environment();
  Seen seen;
  Memories memories;
  std::set<cudaStream_t> streams;
  std::vector<std::unique_ptr<FakeStream>> destroyed;  // with work that is left
  std::set<cudaEvent_t> events;
  std::mt19937 random{choice.seed};
  long calls = 0;
  cudaError_t last = cudaSuccess;
};

Runtime& runtime() {
  static auto* out = new Runtime;  // given back by nobody: threads may call until the end
  return *out;
}
thread_local int current_device = 0;

cudaError_t said(cudaError_t code) {
  if (code != cudaSuccess) {
    runtime().last = code;
  }
  return code;
}

/// Whether this call is one that is to fail.
cudaError_t counted(const char* name) {
  Runtime& all = runtime();
  all.seen.calls.emplace_back(name);
  ++all.calls;
  const long failing = all.choice.failing_call;
  const bool fails =
      failing > 0 && (all.choice.stays ? all.calls >= failing : all.calls == failing);
  return said(fails ? static_cast<cudaError_t>(all.choice.failing_code) : cudaSuccess);
}

cudaError_t drain(FakeStream& stream) {
  cudaError_t out = cudaSuccess;
  if (stream.work.empty()) {
    return out;
  }
  const Memories::Open open(runtime().memories);
  while (!stream.work.empty()) {
    const auto one = std::move(stream.work.front());
    stream.work.pop_front();
    if (const cudaError_t code = one(); out == cudaSuccess) {
      out = code;
    }
  }
  return out;
}

cudaError_t drain_all() {
  Runtime& all = runtime();
  cudaError_t out = cudaSuccess;
  for (cudaStream_t stream : all.streams) {
    const cudaError_t code = drain(*stream);
    out = out == cudaSuccess ? code : out;
  }
  for (auto& stream : all.destroyed) {
    static_cast<void>(drain(*stream));
  }
  all.destroyed.clear();
  return out;
}

cudaError_t put(cudaStream_t stream, std::function<cudaError_t()> work) {
  Runtime& all = runtime();
  if (!all.streams.contains(stream) || stream->device != current_device) {
    return said(cudaErrorInvalidResourceHandle);
  }
  stream->work.push_back(std::move(work));
  const When when = all.choice.when;
  if (when == When::Early || (when == When::Random && all.random() % 3 == 0)) {
    return said(drain(*stream));
  }
  return cudaSuccess;
}

/// Both ends lie in what was given out, on the sides that the kind says.
bool fits(const void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  const Memories& memories = runtime().memories;
  const auto on_device = [&](const void* first) {
    const Memories::Block* block = memories.holds(first, bytes);
    return block != nullptr && block->device == current_device;
  };
  return bytes == 0 || ((kind == cudaMemcpyHostToDevice || on_device(from)) &&
                        (kind == cudaMemcpyDeviceToHost || on_device(to)));
}

cudaError_t copied(void* to, const void* from, std::size_t bytes) {
  std::memmove(to, from, bytes);
  return cudaSuccess;
}

/// Memory of the device or, for -1, of transfers.
cudaError_t taken(const char* name, void** out, std::size_t bytes, int device) {
  Runtime& all = runtime();
  const std::lock_guard lock(all.mutex);
  if (const cudaError_t code = counted(name)) {
    return code;
  }
  if (device >= 0 && all.memories.taken(device) + bytes > all.choice.memory_bytes) {
    return said(cudaErrorMemoryAllocation);
  }
  *out = bytes == 0 ? nullptr : all.memories.take(device, bytes);
  return cudaSuccess;
}

/// It is given back also where an error of earlier work is told.
cudaError_t given_back(const char* name, void* first, bool pinned) {
  Runtime& all = runtime();
  const std::lock_guard lock(all.mutex);
  const cudaError_t code = counted(name);
  static_cast<void>(drain_all());
  if (first != nullptr && !all.memories.give_back(first, pinned)) {
    std::abort();  // twice, or to the wrong place
  }
  return code;
}

}  // namespace

void choose(const Choice& choice) {
  Runtime& all = runtime();
  const std::lock_guard lock(all.mutex);
  all.choice = choice;
  all.seen = {};
  all.calls = 0;
  all.random.seed(choice.seed);
  all.last = cudaSuccess;
}

const Seen& seen() {
  return runtime().seen;
}

std::string leaks() {
  Runtime& all = runtime();
  const std::lock_guard lock(all.mutex);
  std::string out = all.memories.left();
  out += all.streams.empty() ? "" : std::to_string(all.streams.size()) + " streams; ";
  out += all.events.empty() ? "" : std::to_string(all.events.size()) + " events; ";
  return out;
}

cudaError_t launch(const cudaLaunchConfig_t& config, std::function<void()> thread) {
  Runtime& all = runtime();
  const std::lock_guard lock(all.mutex);
  if (const cudaError_t code = counted("cudaLaunchKernel")) {
    return code;
  }
  const dim3 grid = config.gridDim;
  const dim3 block = config.blockDim;
  if (grid.x == 0 || grid.x > 0x7fffffffU || block.x == 0 || block.x > 1024) {
    return said(cudaErrorInvalidConfiguration);
  }
  ++all.seen.kernels;
  return put(config.stream, [grid, block, thread = std::move(thread)] {
    return run_blocks(grid, block, thread, runtime().random);
  });
}

}  // namespace bv::fake_cuda

using namespace bv::fake_cuda;

const char* cudaGetErrorName(cudaError_t code) {
  switch (code) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalid";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
  }
  return "cudaErrorUnknown";
}
const char* cudaGetErrorString(cudaError_t code) {
  return code == cudaErrorMemoryAllocation ? "out of memory" : "the fake runtime was told to fail";
}
cudaError_t cudaGetLastError() {
  const std::lock_guard lock(runtime().mutex);
  const cudaError_t out = runtime().last;
  runtime().last = cudaSuccess;
  return out;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = runtime().choice.devices > 0 ? 12040 : 0;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  const std::lock_guard lock(runtime().mutex);
  *count = runtime().choice.devices;
  return counted("cudaGetDeviceCount");
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* out, int device) {
  const std::lock_guard lock(runtime().mutex);
  const std::string name = "Host as a GPU " + std::to_string(device);
  std::memcpy(out->name, name.c_str(), name.size() + 1);
  out->totalGlobalMem = runtime().choice.memory_bytes;
  out->major = 9;
  out->minor = 0;
  return counted("cudaGetDeviceProperties");
}
cudaError_t cudaSetDevice(int device) {
  const std::lock_guard lock(runtime().mutex);
  if (const cudaError_t code = counted("cudaSetDevice")) {
    return code;
  }
  if (device < 0 || device >= runtime().choice.devices) {
    return said(cudaErrorInvalidDevice);
  }
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** out, std::size_t bytes) {
  return taken("cudaMalloc", out, bytes, current_device);
}
cudaError_t cudaMallocHost(void** out, std::size_t bytes) {
  return taken("cudaMallocHost", out, bytes, -1);
}
cudaError_t cudaFree(void* first) {
  return given_back("cudaFree", first, false);
}
cudaError_t cudaFreeHost(void* first) {
  return given_back("cudaFreeHost", first, true);
}
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  const std::lock_guard lock(runtime().mutex);
  if (const cudaError_t code = counted("cudaMemcpy")) {
    return code;
  }
  if (!fits(to, from, bytes, kind)) {
    return said(cudaErrorInvalidValue);
  }
  const Memories::Open open(runtime().memories, to, from);
  return copied(to, from, bytes);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  Runtime& all = runtime();
  const std::lock_guard lock(all.mutex);
  if (const cudaError_t code = counted("cudaMemcpyAsync")) {
    return code;
  }
  if (!fits(to, from, bytes, kind)) {
    return said(cudaErrorInvalidValue);
  }
  if (kind != cudaMemcpyDeviceToDevice) {
    const Memories::Block* host =
        all.memories.holds(kind == cudaMemcpyHostToDevice ? from : to, bytes);
    all.seen.pageable_copies += host == nullptr || host->device >= 0 ? 1 : 0;
  }
  for (cudaStream_t other : all.streams) {
    if (other != stream && !other->work.empty() && kind == cudaMemcpyHostToDevice) {
      ++all.seen.overlapped;
      break;
    }
  }
  return put(stream, [=] { return copied(to, from, bytes); });
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* out, unsigned /*flags*/) {
  const std::lock_guard lock(runtime().mutex);
  if (const cudaError_t code = counted("cudaStreamCreate")) {
    return code;
  }
  *out = new FakeStream{current_device, {}};
  runtime().streams.insert(*out);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const std::lock_guard lock(runtime().mutex);
  const cudaError_t code = counted("cudaStreamDestroy");
  if (runtime().streams.erase(stream) == 0) {
    std::abort();
  }
  runtime().destroyed.emplace_back(stream);
  return code;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const std::lock_guard lock(runtime().mutex);
  if (const cudaError_t code = counted("cudaStreamSynchronize")) {
    return code;
  }
  return runtime().streams.contains(stream) ? said(drain(*stream))
                                            : said(cudaErrorInvalidResourceHandle);
}
cudaError_t cudaEventCreate(cudaEvent_t* out) {
  const std::lock_guard lock(runtime().mutex);
  if (const cudaError_t code = counted("cudaEventCreate")) {
    return code;
  }
  *out = new FakeEvent{current_device};
  runtime().events.insert(*out);
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const std::lock_guard lock(runtime().mutex);
  const cudaError_t code = counted("cudaEventDestroy");
  if (runtime().events.erase(event) == 0) {
    std::abort();
  }
  delete event;
  return code;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const std::lock_guard lock(runtime().mutex);
  if (const cudaError_t code = counted("cudaEventRecord")) {
    return code;
  }
  return runtime().events.contains(event) ? put(stream, [] { return cudaSuccess; })
                                          : said(cudaErrorInvalidResourceHandle);
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const std::lock_guard lock(runtime().mutex);
  if (const cudaError_t code = counted("cudaEventSynchronize")) {
    return code;
  }
  return runtime().events.contains(event) ? said(drain_all())
                                          : said(cudaErrorInvalidResourceHandle);
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  const std::lock_guard lock(runtime().mutex);
  *milliseconds = begin == end ? 0.0F : 1.0F;  // nothing is said of time
  return counted("cudaEventElapsedTime");
}
