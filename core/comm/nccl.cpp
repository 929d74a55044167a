#include "core/comm/nccl.hpp"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <thread>

#include "core/base/text.hpp"

namespace bv::comm {
namespace {

// The C interfaces of nccl.h (2.x) and cuda.h, as far as they are called.
using Memory = unsigned long long;
struct Identity {
  std::array<char, 128> bytes{};
};
constexpr int kInt8 = 0;            // ncclInt8
constexpr int kInProgress = 7;      // ncclInProgress
constexpr int kNotReady = 600;      // CUDA_ERROR_NOT_READY
constexpr int kOldestNccl = 21000;  // 2.10: point to point, asynchronous errors

/// What is called of both libraries.
struct Table {
  int (*version)(int*) = nullptr;
  int (*unique_id)(Identity*) = nullptr;
  int (*init_rank)(void**, int, Identity, int) = nullptr;
  int (*destroy)(void*) = nullptr;
  int (*abort)(void*) = nullptr;
  int (*async_error)(void*, int*) = nullptr;
  int (*broadcast)(const void*, void*, std::size_t, int, int, void*, void*) = nullptr;
  int (*all_gather)(const void*, void*, std::size_t, int, void*, void*) = nullptr;
  int (*send)(const void*, std::size_t, int, int, void*, void*) = nullptr;
  int (*receive)(void*, std::size_t, int, int, void*, void*) = nullptr;
  int (*group_start)() = nullptr;
  int (*group_end)() = nullptr;
  const char* (*error_text)(int) = nullptr;

  int (*init)(unsigned) = nullptr;
  int (*device_count)(int*) = nullptr;
  int (*device_get)(int*, int) = nullptr;
  int (*context_retain)(void**, int) = nullptr;
  int (*context_set)(void*) = nullptr;
  int (*allocate)(Memory*, std::size_t) = nullptr;
  int (*release)(Memory) = nullptr;
  int (*to_device)(Memory, const void*, std::size_t) = nullptr;
  int (*to_host)(void*, Memory, std::size_t) = nullptr;
  int (*stream_create)(void**, unsigned) = nullptr;
  int (*stream_destroy)(void*) = nullptr;
  int (*stream_query)(void*) = nullptr;
};

/// The names of functions to look for, each with its place in the table.
class Loader {
 public:
  explicit Loader(const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      library_ = library_ == nullptr ? ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL) : library_;
      tried_ += (tried_.empty() ? "" : ", ") + name;
    }
    const char* why = library_ == nullptr ? ::dlerror() : nullptr;
    said_ = why == nullptr ? "" : why;
  }

  template <class Function>
  void find(Function& into, const char* name) {
    into = library_ == nullptr ? nullptr : reinterpret_cast<Function>(::dlsym(library_, name));
    if (into == nullptr) {
      missing_.emplace_back(name);
    }
  }

  [[nodiscard]] Status status(const char* what) const {
    if (library_ == nullptr) {
      return fail(Code::NoGpu, fmt::format("{} is not here", what))
          .pair(said_.empty() ? "no library of that name" : said_,
                tried_ + " where the loader looks")
          .advise("add its folder to LD_LIBRARY_PATH, or leave the collectives to the sockets");
    }
    if (!missing_.empty()) {
      return fail(Code::NoGpu,
                  fmt::format("{} lacks {}", what, counted(missing_.size(), "function")))
          .pair(join(missing_, ", "), tried_ + " with all of them")
          .advise("use a newer library, or leave the collectives to the sockets");
    }
    return Done{};
  }

 private:
  void* library_ = nullptr;
  std::string tried_, said_;
  std::vector<std::string> missing_;
};

Result<Table> open_table(const NcclNames& names) {
  Table out;
  Loader driver(names.driver);
  driver.find(out.init, "cuInit");
  driver.find(out.device_count, "cuDeviceGetCount");
  driver.find(out.device_get, "cuDeviceGet");
  driver.find(out.context_retain, "cuDevicePrimaryCtxRetain");
  driver.find(out.context_set, "cuCtxSetCurrent");
  driver.find(out.allocate, "cuMemAlloc_v2");
  driver.find(out.release, "cuMemFree_v2");
  driver.find(out.to_device, "cuMemcpyHtoD_v2");
  driver.find(out.to_host, "cuMemcpyDtoH_v2");
  driver.find(out.stream_create, "cuStreamCreate");
  driver.find(out.stream_destroy, "cuStreamDestroy_v2");
  driver.find(out.stream_query, "cuStreamQuery");
  BV_CHECK(driver.status("the NVIDIA driver"));
  Loader nccl(names.nccl);
  nccl.find(out.version, "ncclGetVersion");
  nccl.find(out.unique_id, "ncclGetUniqueId");
  nccl.find(out.init_rank, "ncclCommInitRank");
  nccl.find(out.destroy, "ncclCommDestroy");
  nccl.find(out.abort, "ncclCommAbort");
  nccl.find(out.async_error, "ncclCommGetAsyncError");
  nccl.find(out.broadcast, "ncclBroadcast");
  nccl.find(out.all_gather, "ncclAllGather");
  nccl.find(out.send, "ncclSend");
  nccl.find(out.receive, "ncclRecv");
  nccl.find(out.group_start, "ncclGroupStart");
  nccl.find(out.group_end, "ncclGroupEnd");
  nccl.find(out.error_text, "ncclGetErrorString");
  BV_CHECK(nccl.status("NCCL"));
  return out;
}

Status by_driver(int code, const char* doing) {
  if (code == 0) {
    return Done{};
  }
  return fail(Code::NoGpu, fmt::format("the NVIDIA driver failed while {}", doing))
      .pair(fmt::format("CUDA error {}", code), "success")
      .advise("nvidia-smi says more of the device");
}

/// Memory of the device, given back at the end.
class DeviceBytes {
 public:
  explicit DeviceBytes(const Table& table) : table_(table) {}
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;
  DeviceBytes(DeviceBytes&&) = delete;
  DeviceBytes& operator=(DeviceBytes&&) = delete;
  ~DeviceBytes() {
    if (first_ != 0) {
      table_.release(first_);
    }
  }
  Status allocate(std::size_t bytes) {
    return by_driver(table_.allocate(&first_, std::max<std::size_t>(bytes, 1)), "taking memory");
  }
  Status fill(std::size_t at, std::span<const std::byte> bytes) const {
    return bytes.empty() ? Status(Done{})
                         : by_driver(table_.to_device(first_ + at, bytes.data(), bytes.size()),
                                     "sending bytes");
  }
  Status read(std::size_t at, std::span<std::byte> bytes) const {
    return bytes.empty() ? Status(Done{})
                         : by_driver(table_.to_host(bytes.data(), first_ + at, bytes.size()),
                                     "bringing bytes back");
  }
  [[nodiscard]] void* at(std::size_t offset) const {
    return reinterpret_cast<void*>(static_cast<std::uintptr_t>(first_ + offset));
  }

 private:
  const Table& table_;
  Memory first_ = 0;
};

class NcclCarrier : public Carrier {
 public:
  NcclCarrier(const Table& table, void* context, Milliseconds patience)
      : table_(table), context_(context), patience_(patience) {}
  NcclCarrier(const NcclCarrier&) = delete;
  NcclCarrier& operator=(const NcclCarrier&) = delete;
  NcclCarrier(NcclCarrier&&) = delete;
  NcclCarrier& operator=(NcclCarrier&&) = delete;
  ~NcclCarrier() override {
    if (communicator_ != nullptr) {
      static_cast<void>(broken_ ? table_.abort(communicator_) : table_.destroy(communicator_));
    }
    if (stream_ != nullptr) {
      table_.stream_destroy(stream_);
    }
  }

  Status open(const CarrierMaker::Identity& identity, int place, int size) {
    Identity id;
    BV_ASSERT(identity.size() == id.bytes.size());
    std::memcpy(id.bytes.data(), identity.data(), identity.size());
    place_ = place;
    size_ = size;
    BV_CHECK(here());
    BV_CHECK(by_driver(table_.stream_create(&stream_, 1), "making a stream"));
    return by_nccl(table_.init_rank(&communicator_, size, id, place), "joining the group");
  }

  Status broadcast(int root, std::span<std::byte> bytes) override {
    DeviceBytes memory(table_);
    BV_CHECK(here());
    BV_CHECK(memory.allocate(bytes.size()));
    if (place_ == root) {
      BV_CHECK(memory.fill(0, bytes));
    }
    BV_CHECK(by_nccl(table_.broadcast(memory.at(0), memory.at(0), bytes.size(), kInt8, root,
                                      communicator_, stream_),
                     "a broadcast"));
    BV_CHECK(wait("a broadcast"));
    return memory.read(0, bytes);
  }

  Status all_gather(std::span<const std::byte> mine, std::span<std::byte> all) override {
    DeviceBytes memory(table_);
    BV_CHECK(here());
    BV_CHECK(memory.allocate(all.size()));
    const std::size_t at = mine.size() * static_cast<std::size_t>(place_);
    BV_CHECK(memory.fill(at, mine));
    BV_CHECK(by_nccl(
        table_.all_gather(memory.at(at), memory.at(0), mine.size(), kInt8, communicator_, stream_),
        "an all-gather"));
    BV_CHECK(wait("an all-gather"));
    return memory.read(0, all);
  }

  Status scatter(int root, std::span<const Bytes> parts, std::span<std::byte> mine) override {
    DeviceBytes memory(table_);
    BV_CHECK(here());
    std::size_t total = mine.size();
    for (const Bytes& part : parts) {
      total += part.size();
    }
    BV_CHECK(memory.allocate(total));
    std::size_t at = mine.size();
    for (const Bytes& part : parts) {
      BV_CHECK(memory.fill(at, part));
      at += part.size();
    }
    BV_CHECK(by_nccl(exchange(root, parts, memory, mine.size()), "a scatter"));
    BV_CHECK(wait("a scatter"));
    return memory.read(0, mine);
  }

 private:
  int exchange(int root, std::span<const Bytes> parts, const DeviceBytes& memory,
               std::size_t mine) const {
    int code = table_.group_start();
    std::size_t at = mine;
    for (std::size_t i = 0; code == 0 && place_ == root && i < parts.size(); ++i) {
      code = parts[i].empty() ? 0
                              : table_.send(memory.at(at), parts[i].size(), kInt8,
                                            static_cast<int>(i), communicator_, stream_);
      at += parts[i].size();
    }
    if (code == 0 && mine > 0) {
      code = table_.receive(memory.at(0), mine, kInt8, root, communicator_, stream_);
    }
    const int ended = table_.group_end();
    return code == 0 ? ended : code;
  }

  /// Threads have a current context each.
  Status here() const { return by_driver(table_.context_set(context_), "choosing a device"); }

  Status by_nccl(int code, const char* doing) {
    if (code == 0 || code == kInProgress) {
      return Done{};
    }
    broken_ = true;
    return fail(Code::RankLost, fmt::format("NCCL failed in {} of {} ranks", doing, size_))
        .pair(table_.error_text(code), "ncclSuccess")
        .advise("set NCCL_DEBUG=INFO to see why, or leave the collectives to the sockets");
  }

  /// NCCL waits for ever for a rank that is gone: this does not.
  Status wait(const char* doing) {
    const auto end = std::chrono::steady_clock::now() + patience_;
    while (true) {
      int failed = 0;
      BV_CHECK(by_nccl(table_.async_error(communicator_, &failed), doing));
      BV_CHECK(by_nccl(failed, doing));
      const int ready = table_.stream_query(stream_);
      if (ready == 0) {
        return Done{};
      }
      if (ready != kNotReady) {
        broken_ = true;
        return by_driver(ready, doing);
      }
      if (std::chrono::steady_clock::now() > end) {
        broken_ = true;
        return fail(Code::RankLost, fmt::format("{} of {} ranks did not end", doing, size_))
            .pair(fmt::format("nothing after {} ms", patience_.count()), "an end")
            .advise("look at the ranks that wrote nothing; set NCCL_DEBUG=INFO to see more");
      }
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }

  const Table& table_;
  void* context_;
  Milliseconds patience_;
  void* stream_ = nullptr;
  void* communicator_ = nullptr;
  int place_ = 0;
  int size_ = 1;
  bool broken_ = false;
};

class NcclMaker : public CarrierMaker {
 public:
  NcclMaker(const Table& table, void* context, Milliseconds patience)
      : table_(table), context_(context), patience_(patience) {}

  Result<Identity> identity() override {
    bv::comm::Identity id;
    if (const int code = table_.unique_id(&id); code != 0) {
      return fail(Code::NoGpu, "NCCL does not start")
          .pair(table_.error_text(code), "ncclSuccess")
          .advise("set NCCL_DEBUG=INFO to see why, or leave the collectives to the sockets");
    }
    const auto bytes = std::as_bytes(std::span(id.bytes));
    return Identity(bytes.begin(), bytes.end());
  }
  Result<std::unique_ptr<Carrier>> make(const Identity& identity, int place, int size) override {
    auto out = std::make_unique<NcclCarrier>(table_, context_, patience_);
    BV_CHECK(out->open(identity, place, size));
    return std::unique_ptr<Carrier>(std::move(out));
  }

 private:
  Table table_;
  void* context_;
  Milliseconds patience_;
};

}  // namespace

Result<std::shared_ptr<CarrierMaker>> open_nccl(int device, Milliseconds patience,
                                                const NcclNames& names) {
  BV_TRY(table, open_table(names));
  int version = 0;
  if (table.version(&version) != 0 || version < kOldestNccl) {
    return fail(Code::NoGpu, "this NCCL is too old")
        .pair(std::to_string(version), fmt::format("{} or newer", kOldestNccl))
        .advise("use a newer library, or leave the collectives to the sockets");
  }
  BV_CHECK(by_driver(table.init(0), "starting"));
  int count = 0;
  BV_CHECK(by_driver(table.device_count(&count), "counting devices"));
  if (device < 0 || device >= count) {
    return fail(Code::NoGpu, fmt::format("there is no GPU {}", device))
        .pair(counted(static_cast<std::size_t>(count), "device"), "one device a rank")
        .advise("start as many ranks as there are GPUs");
  }
  int handle = 0;
  void* context = nullptr;
  BV_CHECK(by_driver(table.device_get(&handle, device), "choosing a device"));
  BV_CHECK(by_driver(table.context_retain(&context, handle), "opening a device"));
  return std::shared_ptr<CarrierMaker>(std::make_shared<NcclMaker>(table, context, patience));
}

}  // namespace bv::comm
