// A library with the C interfaces of NCCL and of the NVIDIA driver, as far as core/comm calls them:
// devices are memory of the host, ranks are threads or processes of this machine, bytes go through
// memory that all ranks of a group share. As in NCCL, joining a group waits for all of it, calls
// return at once, and work that waits for a rank that is gone never ends.
// FAKE_NCCL in the environment chooses a fault: "old", "no-device", "identity", "init",
// "broadcast", "async", "hang", "join" (joining never ends), "destroy" (leaving never ends); and
// wrong bytes: "root" (a broadcast of the next rank), "ragged" (the end of a message that is no
// multiple of 16 is left out), "dtype" (half of the bytes, as of elements half as wide). "slow" is
// no fault: the driver takes its time to say how far a stream is. A group that is given up while a
// thread still asks of it ends the process.

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr int kRanksMost = 16;
constexpr std::size_t kSlotBytes = std::size_t{1} << 20;  // a longer message goes in pieces

bool fault(const char* name) {
  const char* set = std::getenv("FAKE_NCCL");
  return set != nullptr && std::string(set) == name;
}

[[noreturn]] void wait_for_ever() {
  while (true) {
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
}

struct Id {
  std::array<char, 128> bytes;
};

/// From one rank to another; full while sent is one more than received.
struct Slot {
  std::atomic<long> sent;
  std::atomic<long> received;
  std::array<char, kSlotBytes> bytes;
};

/// What all ranks of a group share; zeros at first.
struct Shared {
  std::atomic<int> joined;
  std::array<Slot, static_cast<std::size_t>(kRanksMost) * kRanksMost> slots;
};

/// Bytes on their way to a rank or from one.
struct Transfer {
  bool sends = false;
  int peer = 0;
  char* bytes = nullptr;
  std::size_t count = 0;
  std::size_t done = 0;
};

struct Communicator {
  Shared* shared = nullptr;
  int rank = 0;
  int size = 1;
  std::vector<Transfer> work;
  std::atomic<int> asked = 0;  // threads that are in a call about it

  Slot& slot(int from, int to) const {
    return shared->slots[static_cast<std::size_t>(from * kRanksMost + to)];
  }

  /// Moves what can be moved; true when nothing is left.
  bool progress() {
    bool left = false;
    for (Transfer& one : work) {
      while (one.done < one.count) {
        Slot& way = one.sends ? slot(rank, one.peer) : slot(one.peer, rank);
        const bool full = way.sent.load() != way.received.load();
        if (full == one.sends) {
          break;
        }
        const std::size_t piece = std::min(one.count - one.done, kSlotBytes);
        if (one.sends) {
          std::memcpy(way.bytes.data(), one.bytes + one.done, piece);
          ++way.sent;
        } else {
          std::memcpy(one.bytes + one.done, way.bytes.data(), piece);
          ++way.received;
        }
        one.done += piece;
      }
      left = left || one.done < one.count;
    }
    if (!left) {
      work.clear();
    }
    return !left;
  }

  void send(const void* bytes, std::size_t count, int peer) {
    work.push_back({true, peer, static_cast<char*>(const_cast<void*>(bytes)), moved(count), 0});
  }
  void receive(void* bytes, std::size_t count, int peer) {
    work.push_back({false, peer, static_cast<char*>(bytes), moved(count), 0});
  }
  static std::size_t moved(std::size_t count) {
    return fault("ragged") ? count - count % 16 : fault("dtype") ? count / 2 : count;
  }
};

/// Of one carrier, which works at one thing at a time.
struct Stream {
  std::vector<Communicator*> active;
};

void activate(Communicator* one, void* stream) {
  static_cast<Stream*>(stream)->active.push_back(one);
}

}  // namespace

extern "C" {

int ncclGetVersion(int* version) {
  *version = fault("old") ? 2009 : 22100;
  return 0;
}
int ncclGetUniqueId(Id* id) {
  static std::atomic<int> next = 0;
  if (fault("identity")) {
    return 2;
  }
  id->bytes = {};
  // Memory of a world that was killed stays; a process of the same number must not find it.
  const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
  std::snprintf(id->bytes.data(), id->bytes.size(), "/bv-fake-nccl-%d-%d-%lld",
                static_cast<int>(::getpid()), next++, static_cast<long long>(now));
  return 0;
}
int ncclCommInitRank(void** out, int size, Id id, int rank) {
  if (fault("init")) {
    return 2;
  }
  if (fault("join")) {
    wait_for_ever();
  }
  const int file = ::shm_open(id.bytes.data(), O_RDWR | O_CREAT, 0600);
  if (file < 0 || size > kRanksMost || ::ftruncate(file, sizeof(Shared)) != 0) {
    return 2;
  }
  void* const mapped = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  ::close(file);
  if (mapped == MAP_FAILED) {
    return 2;
  }
  auto* made = new Communicator;
  made->shared = static_cast<Shared*>(mapped);
  made->rank = rank;
  made->size = size;
  ++made->shared->joined;
  while (made->shared->joined.load() < size) {
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  ::shm_unlink(id.bytes.data());  // all have it
  *out = made;
  return 0;
}
int ncclCommAbort(void* one) {
  auto* here = static_cast<Communicator*>(one);
  if (here->asked != 0) {
    std::fputs("fake NCCL: a group is given up while a thread asks of it\n", stderr);
    std::abort();
  }
  ::munmap(here->shared, sizeof(Shared));
  delete here;
  return 0;
}
int ncclCommDestroy(void* one) {
  if (fault("destroy")) {
    wait_for_ever();
  }
  return ncclCommAbort(one);
}
int ncclCommGetAsyncError(void* /*one*/, int* error) {
  *error = fault("async") ? 6 : 0;
  return 0;
}
int ncclBroadcast(const void* send, void* receive, std::size_t count, int type, int root, void* one,
                  void* stream) {
  auto* here = static_cast<Communicator*>(one);
  if (fault("broadcast") || type != 0) {
    return 3;
  }
  root = fault("root") ? (root + 1) % here->size : root;
  for (int peer = 0; here->rank == root && peer < here->size; ++peer) {
    if (peer != root) {
      here->send(send, count, peer);
    }
  }
  if (here->rank != root) {
    here->receive(receive, count, root);
  }
  activate(here, stream);
  return 0;
}
int ncclAllGather(const void* send, void* receive, std::size_t count, int type, void* one,
                  void* stream) {
  auto* here = static_cast<Communicator*>(one);
  if (type != 0) {
    return 4;
  }
  auto* all = static_cast<char*>(receive);
  std::memmove(all + static_cast<std::size_t>(here->rank) * count, send, count);
  for (int peer = 0; peer < here->size; ++peer) {
    if (peer != here->rank) {
      here->send(all + static_cast<std::size_t>(here->rank) * count, count, peer);
      here->receive(all + static_cast<std::size_t>(peer) * count, count, peer);
    }
  }
  activate(here, stream);
  return 0;
}
int ncclGroupStart() {
  return 0;
}
int ncclSend(const void* bytes, std::size_t count, int /*type*/, int peer, void* one,
             void* stream) {
  auto* here = static_cast<Communicator*>(one);
  here->send(bytes, count, peer);
  activate(here, stream);
  return 0;
}
int ncclRecv(void* bytes, std::size_t count, int /*type*/, int peer, void* one, void* stream) {
  auto* here = static_cast<Communicator*>(one);
  here->receive(bytes, count, peer);
  activate(here, stream);
  return 0;
}
int ncclGroupEnd() {
  return 0;
}
const char* ncclGetErrorString(int code) {
  return code == 2   ? "unhandled system error (run with NCCL_DEBUG=INFO for details)"
         : code == 3 ? "internal error"
                     : "remote error";
}

int cuInit(unsigned /*flags*/) {
  return 0;
}
int cuDeviceGetCount(int* count) {
  *count = fault("no-device") ? 0 : 8;
  return 0;
}
int cuDeviceGet(int* device, int number) {
  *device = number;
  return 0;
}
int cuDevicePrimaryCtxRetain(void** context, int /*device*/) {
  *context = context;
  return 0;
}
int cuCtxSetCurrent(void* context) {
  return context == nullptr ? 201 : 0;
}
int cuMemAlloc_v2(unsigned long long* at, std::size_t bytes) {
  auto* first = static_cast<unsigned char*>(std::malloc(bytes));
  std::memset(first, 0xA5, bytes);
  *at = reinterpret_cast<unsigned long long>(first);
  return 0;
}
int cuMemFree_v2(unsigned long long at) {
  std::free(reinterpret_cast<void*>(at));
  return 0;
}
int cuMemcpyHtoD_v2(unsigned long long to, const void* from, std::size_t bytes) {
  std::memcpy(reinterpret_cast<void*>(to), from, bytes);
  return 0;
}
int cuMemcpyDtoH_v2(void* to, unsigned long long from, std::size_t bytes) {
  std::memcpy(to, reinterpret_cast<const void*>(from), bytes);
  return 0;
}
int cuStreamCreate(void** stream, unsigned /*flags*/) {
  *stream = new Stream;
  return 0;
}
int cuStreamDestroy_v2(void* stream) {
  delete static_cast<Stream*>(stream);
  return 0;
}
int cuStreamQuery(void* stream) {
  constexpr int kNotReady = 600;
  bool left = fault("hang");
  auto& active = static_cast<Stream*>(stream)->active;
  for (Communicator* one : active) {
    ++one->asked;
    if (fault("slow")) {
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
    }
    left = !one->progress() || left;
    --one->asked;
  }
  if (!left) {
    active.clear();
  }
  return left ? kNotReady : 0;
}

}  // extern "C"
