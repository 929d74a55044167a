// A library with the C interfaces of NCCL and of the NVIDIA driver, as far as core/comm calls them:
// devices are memory of the host, groups are threads of this process. FAKE_NCCL in the environment
// chooses a fault: "old", "no-device", "init", "broadcast", "async", "hang".

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace {

bool fault(const char* name) {
  const char* set = std::getenv("FAKE_NCCL");
  return set != nullptr && std::string(set) == name;
}

struct Id {
  std::array<char, 128> bytes;
};

/// Members hand pointers to each other and leave together.
struct Meeting {
  std::mutex mutex;
  std::condition_variable changed;
  int size = 0;
  int here = 0;
  long turn = 0;
  std::vector<const void*> given;
  std::vector<std::size_t> sizes;
  std::map<std::pair<int, int>, std::deque<std::vector<char>>> mail;  // (from, to)

  template <class Use>
  void meet(int rank, const void* mine, std::size_t count, const Use& use) {
    std::unique_lock lock(mutex);
    given.resize(static_cast<std::size_t>(size));
    sizes.resize(static_cast<std::size_t>(size));
    given[static_cast<std::size_t>(rank)] = mine;
    sizes[static_cast<std::size_t>(rank)] = count;
    wait_for_all(lock);
    use(*this);
    wait_for_all(lock);  // nobody takes its memory away before all have read
  }
  void wait_for_all(std::unique_lock<std::mutex>& lock) {
    const long now = turn;
    if (++here == size) {
      here = 0;
      ++turn;
      changed.notify_all();
    } else {
      changed.wait(lock, [&] { return turn != now; });
    }
  }
};

std::mutex all_mutex;
std::map<std::string, std::shared_ptr<Meeting>>& meetings() {
  static std::map<std::string, std::shared_ptr<Meeting>> all;
  return all;
}

struct Sent {
  const void* bytes;
  std::size_t count;
  int peer;
};
struct Communicator {
  std::shared_ptr<Meeting> meeting;
  int rank = 0;
  std::vector<Sent> sends;
  void* into = nullptr;
  std::size_t wanted = 0;
  int from = 0;
};
thread_local std::vector<Communicator*> grouped;

}  // namespace

extern "C" {

int ncclGetVersion(int* version) {
  *version = fault("old") ? 2009 : 22100;
  return 0;
}
int ncclGetUniqueId(Id* id) {
  static int next = 0;
  const std::lock_guard lock(all_mutex);
  id->bytes = {};
  std::snprintf(id->bytes.data(), id->bytes.size(), "group %d", next++);
  return 0;
}
int ncclCommInitRank(void** out, int size, Id id, int rank) {
  if (fault("init")) {
    return 2;
  }
  auto* made = new Communicator;
  {
    const std::lock_guard lock(all_mutex);
    auto& meeting = meetings()[id.bytes.data()];
    if (meeting == nullptr) {
      meeting = std::make_shared<Meeting>();
      meeting->size = size;
    }
    made->meeting = meeting;
  }
  made->rank = rank;
  *out = made;
  return 0;
}
int ncclCommDestroy(void* one) {
  delete static_cast<Communicator*>(one);
  return 0;
}
int ncclCommAbort(void* one) {
  return ncclCommDestroy(one);
}
int ncclCommGetAsyncError(void* /*one*/, int* error) {
  *error = fault("async") ? 6 : 0;
  return 0;
}
int ncclBroadcast(const void* send, void* receive, std::size_t count, int type, int root, void* one,
                  void* /*stream*/) {
  auto* here = static_cast<Communicator*>(one);
  if (fault("broadcast") || type != 0) {
    return 3;
  }
  here->meeting->meet(here->rank, send, count, [&](const Meeting& all) {
    if (here->rank != root) {
      std::memcpy(receive, all.given[static_cast<std::size_t>(root)], count);
    }
  });
  return 0;
}
int ncclAllGather(const void* send, void* receive, std::size_t count, int type, void* one,
                  void* /*stream*/) {
  auto* here = static_cast<Communicator*>(one);
  if (type != 0) {
    return 4;
  }
  here->meeting->meet(here->rank, send, count, [&](const Meeting& all) {
    for (std::size_t i = 0; i < all.given.size(); ++i) {
      std::memmove(static_cast<char*>(receive) + i * count, all.given[i], count);
    }
  });
  return 0;
}
int ncclGroupStart() {
  return 0;
}
int ncclSend(const void* bytes, std::size_t count, int /*type*/, int peer, void* one, void* /*s*/) {
  auto* here = static_cast<Communicator*>(one);
  here->sends.push_back({bytes, count, peer});
  grouped.push_back(here);
  return 0;
}
int ncclRecv(void* bytes, std::size_t count, int /*type*/, int peer, void* one, void* /*stream*/) {
  auto* here = static_cast<Communicator*>(one);
  here->into = bytes;
  here->wanted = count;
  here->from = peer;
  grouped.push_back(here);
  return 0;
}
/// Sends wait for nobody; each receive waits for its own.
int ncclGroupEnd() {
  const std::vector<Communicator*> all = std::move(grouped);
  grouped.clear();
  for (Communicator* here : all) {
    const std::lock_guard lock(here->meeting->mutex);
    for (const Sent& sent : here->sends) {
      const auto* first = static_cast<const char*>(sent.bytes);
      here->meeting->mail[{here->rank, sent.peer}].emplace_back(first, first + sent.count);
    }
    here->sends.clear();
    here->meeting->changed.notify_all();
  }
  for (Communicator* here : all) {
    if (here->into == nullptr) {
      continue;
    }
    std::unique_lock lock(here->meeting->mutex);
    auto& box = here->meeting->mail[{here->from, here->rank}];
    here->meeting->changed.wait(lock, [&] { return !box.empty(); });
    std::memcpy(here->into, box.front().data(), std::min(box.front().size(), here->wanted));
    box.pop_front();
    here->into = nullptr;
  }
  return 0;
}
const char* ncclGetErrorString(int code) {
  return code == 3 ? "internal error" : "remote error";
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
  *stream = stream;
  return 0;
}
int cuStreamDestroy_v2(void* /*stream*/) {
  return 0;
}
int cuStreamQuery(void* /*stream*/) {
  return fault("hang") ? 600 : 0;
}

}  // extern "C"
