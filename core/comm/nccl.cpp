#include "core/comm/nccl.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <future>
#include <thread>

#include "core/base/text.hpp"
#include "core/comm/launch.hpp"
#include "core/comm/nccl_table.hpp"

namespace bv::comm {
namespace {

using nccl::Memory;
using nccl::Table;

Status by_driver(int code, const char* doing) {
  if (code == 0) {
    return Done{};
  }
  return fail(Code::NoGpu, fmt::format("the NVIDIA driver failed while {}", doing))
      .pair(fmt::format("CUDA error {}", code), "success")
      .advise("nvidia-smi says more of the device");
}

/// What a call gives, if it ends. NCCL waits for ever for a rank that is gone when a group is
/// joined or left: a thread of its own does that, and is left alone where it does not end.
template <class Call>
std::future<int> on_a_thread(Call call) {
  const auto ended = std::make_shared<std::promise<int>>();
  std::future<int> out = ended->get_future();
  std::thread([ended, call = std::move(call)]() mutable { ended->set_value(call()); }).detach();
  return out;
}

/// A call for a thread that has chosen no device yet.
template <class Call>
auto on_device(const Table& table, void* context, Call call) {
  return [set = table.context_set, context, call = std::move(call)] {
    const int chosen = set(context);
    return chosen == 0 ? call() : chosen;
  };
}

constexpr auto kLook = std::chrono::milliseconds(20);  // how often others are looked at

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
  NcclCarrier(const Table& table, void* context, Milliseconds patience,
              CarrierMaker::AllAreHere all_are_here)
      : table_(table),
        context_(context),
        patience_(patience),
        all_are_here_(std::move(all_are_here)) {}
  NcclCarrier(const NcclCarrier&) = delete;
  NcclCarrier& operator=(const NcclCarrier&) = delete;
  NcclCarrier(NcclCarrier&&) = delete;
  NcclCarrier& operator=(NcclCarrier&&) = delete;
  ~NcclCarrier() override {
    if (communicator_ != nullptr) {
      // Leaving waits for the others, and one of them may be gone.
      broken_ = broken_ || !all_are_here_();
      on_a_thread(on_device(table_, context_,
                            [leave = broken_ ? table_.abort : table_.destroy,
                             communicator = communicator_] { return leave(communicator); }))
          .wait_for(patience_);
    }
    if (stream_ != nullptr) {
      table_.stream_destroy(stream_);
    }
  }

  Status open(const CarrierMaker::Identity& identity, int place, int size) {
    nccl::Identity id;
    if (identity.size() != id.bytes.size()) {
      return fail(Code::RankDiverged, "the first rank of a group names it by something else")
          .pair(counted(identity.size(), "byte"), counted(id.bytes.size(), "byte"))
          .advise("install one version on all hosts");
    }
    std::memcpy(id.bytes.data(), identity.data(), identity.size());
    place_ = place;
    size_ = size;
    BV_CHECK(here());
    BV_CHECK(by_driver(table_.stream_create(&stream_, 1), "making a stream"));
    const auto made = std::make_shared<void*>(nullptr);
    auto joining =
        on_a_thread(on_device(table_, context_, [join = table_.init_rank, made, size, id, place] {
          return join(made.get(), size, id, place);
        }));
    BV_TRY(code, ended(joining, "joining the group"));
    communicator_ = *made;
    return by_nccl(code, "joining the group");
  }

  Status broadcast(int root, std::span<std::byte> bytes) override {
    DeviceBytes memory(table_);
    BV_CHECK(here());
    BV_CHECK(memory.allocate(bytes.size()));
    if (place_ == root) {
      BV_CHECK(memory.fill(0, bytes));
    }
    BV_CHECK(by_nccl(table_.broadcast(memory.at(0), memory.at(0), bytes.size(), nccl::kInt8, root,
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
    BV_CHECK(by_nccl(table_.all_gather(memory.at(at), memory.at(0), mine.size(), nccl::kInt8,
                                       communicator_, stream_),
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
                              : table_.send(memory.at(at), parts[i].size(), nccl::kInt8,
                                            static_cast<int>(i), communicator_, stream_);
      at += parts[i].size();
    }
    if (code == 0 && mine > 0) {
      code = table_.receive(memory.at(0), mine, nccl::kInt8, root, communicator_, stream_);
    }
    const int ended = table_.group_end();
    return code == 0 ? ended : code;
  }

  /// Threads have a current context each.
  Status here() const { return by_driver(table_.context_set(context_), "choosing a device"); }

  Status by_nccl(int code, const char* doing) {
    if (code == 0 || code == nccl::kInProgress) {
      return Done{};
    }
    broken_ = true;
    return fail(Code::RankLost, fmt::format("NCCL failed in {} of {} ranks", doing, size_))
        .pair(table_.error_text(code), "ncclSuccess")
        .advise(
            "set NCCL_DEBUG=INFO to see why (one GPU for two ranks is no group), or leave the "
            "collectives to the sockets");
  }

  Result<int> ended(std::future<int>& one, const char* doing) {
    const auto end = std::chrono::steady_clock::now() + patience_;
    while (one.wait_for(kLook) != std::future_status::ready) {
      BV_CHECK(others(doing, end));
    }
    return one.get();
  }

  /// Errors: RankLost for a rank that is gone, and when `end` has passed.
  Status others(const char* doing, std::chrono::steady_clock::time_point end) {
    if (auto here = all_are_here_(); !here) {
      broken_ = true;
      return here;
    }
    if (std::chrono::steady_clock::now() > end) {
      return did_not_end(doing);
    }
    return Done{};
  }

  Error did_not_end(const char* doing) {
    broken_ = true;
    return fail(Code::RankLost, fmt::format("{} of {} ranks did not end", doing, size_))
        .pair(fmt::format("nothing after {} ms", patience_.count()), "an end")
        .advise("look at the ranks that wrote nothing; set NCCL_DEBUG=INFO to see more");
  }

  /// NCCL waits for ever for a rank that is gone: this does not.
  Status wait(const char* doing) {
    const auto end = std::chrono::steady_clock::now() + patience_;
    for (auto look = std::chrono::steady_clock::now() + kLook;;) {
      int failed = 0;
      BV_CHECK(by_nccl(table_.async_error(communicator_, &failed), doing));
      BV_CHECK(by_nccl(failed, doing));
      const int ready = table_.stream_query(stream_);
      if (ready == 0) {
        return Done{};
      }
      if (ready != nccl::kNotReady) {
        broken_ = true;
        return by_driver(ready, doing);
      }
      if (std::chrono::steady_clock::now() > look) {
        BV_CHECK(others(doing, end));
        look = std::chrono::steady_clock::now() + kLook;
      }
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }

  const Table& table_;
  void* context_;
  Milliseconds patience_;
  CarrierMaker::AllAreHere all_are_here_;
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
    nccl::Identity id;
    if (const int code = table_.unique_id(&id); code != 0) {
      return fail(Code::NoGpu, "NCCL does not start")
          .pair(table_.error_text(code), "ncclSuccess")
          .advise("set NCCL_DEBUG=INFO to see why, or leave the collectives to the sockets");
    }
    const auto bytes = std::as_bytes(std::span(id.bytes));
    return Identity(bytes.begin(), bytes.end());
  }
  Result<std::unique_ptr<Carrier>> make(const Identity& identity, int place, int size,
                                        AllAreHere all_are_here) override {
    auto out = std::make_unique<NcclCarrier>(table_, context_, patience_, std::move(all_are_here));
    BV_CHECK(out->open(identity, place, size));
    return std::unique_ptr<Carrier>(std::move(out));
  }

 private:
  Table table_;
  void* context_;
  Milliseconds patience_;
};

}  // namespace

Result<std::shared_ptr<CarrierMaker>> open_nccl(int place, Milliseconds patience,
                                                const NcclNames& names) {
  BV_TRY(table, nccl::open_table(names));
  int version = 0;
  if (table.version(&version) != 0 || version < nccl::kOldestNccl) {
    return fail(Code::NoGpu, "this NCCL is too old")
        .pair(std::to_string(version), fmt::format("{} or newer", nccl::kOldestNccl))
        .advise("use a newer library, or leave the collectives to the sockets");
  }
  BV_CHECK(by_driver(table.init(0), "starting"));
  int count = 0;
  BV_CHECK(by_driver(table.device_count(&count), "counting devices"));
  if (count <= 0) {
    return fail(Code::NoGpu, "the NVIDIA driver shows this process no GPU")
        .pair("no device", "one device a rank")
        .advise("start as many ranks as there are GPUs; CUDA_VISIBLE_DEVICES may hide them");
  }
  const int device = device_of(place, count);
  int handle = 0;
  void* context = nullptr;
  BV_CHECK(by_driver(table.device_get(&handle, device), "choosing a device"));
  BV_CHECK(by_driver(table.context_retain(&context, handle), "opening a device"));
  return std::shared_ptr<CarrierMaker>(std::make_shared<NcclMaker>(table, context, patience));
}

}  // namespace bv::comm
