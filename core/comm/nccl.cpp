#include "core/comm/nccl.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <functional>
#include <future>
#include <thread>

#include "core/base/text.hpp"
#include "core/comm/launch.hpp"
#include "core/comm/nccl_table.hpp"
#include "core/comm/nccl_worker.hpp"

namespace bv::comm {
namespace {

using nccl::Memory;
using nccl::on_a_thread;
using nccl::on_device;
using nccl::Outcome;
using nccl::Table;
using nccl::Worker;

Status by_driver(int code, const char* doing) {
  if (code == 0) {
    return Done{};
  }
  return fail(Code::NoGpu, fmt::format("the NVIDIA driver failed while {}", doing))
      .pair(fmt::format("CUDA error {}", code), "success")
      .advise("nvidia-smi says more of the device");
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
    if (first_ != 0 && !kept_) {
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
  /// Not given back: something that does not end works on it still, and the driver would wait.
  void keep() { kept_ = true; }
  [[nodiscard]] void* at(std::size_t offset) const {
    return reinterpret_cast<void*>(static_cast<std::uintptr_t>(first_ + offset));
  }

 private:
  const Table& table_;
  Memory first_ = 0;
  bool kept_ = false;
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
      leave();
    }
    if (stream_ != nullptr && !hangs_) {
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
    // A stream that waits for copies of pages that are not pinned, which return before they end.
    BV_CHECK(by_driver(table_.stream_create(&stream_, 0), "making a stream"));
    const auto made = std::make_shared<void*>(nullptr);
    auto joining = worker_.run([table = table_, context = context_, made, size, id, place] {
      const int chosen = table.context_set(context);
      return chosen == 0 ? Outcome{table.init_rank(made.get(), size, id, place), 0}
                         : Outcome{0, chosen};
    });
    BV_TRY(outcome, ended(joining, "joining the group"));
    BV_CHECK(by_driver(outcome.driver, "choosing a device"));
    BV_CHECK(by_nccl(outcome.nccl, "joining the group"));
    communicator_ = *made;
    joined_ = true;
    return Done{};
  }

  Status broadcast(int root, std::span<std::byte> bytes) override {
    DeviceBytes memory(table_);
    return given_up(
        [&]() -> Status {
          BV_CHECK(here());
          BV_CHECK(memory.allocate(bytes.size()));
          if (place_ == root) {
            BV_CHECK(memory.fill(0, bytes));
          }
          BV_CHECK(called("a broadcast",
                          [start = table_.broadcast, at = memory.at(0), size = bytes.size(), root,
                           group = communicator_, stream = stream_] {
                            return start(at, at, size, nccl::kInt8, root, group, stream);
                          }));
          return memory.read(0, bytes);
        }(),
        memory);
  }

  Status all_gather(std::span<const std::byte> mine, std::span<std::byte> all) override {
    DeviceBytes memory(table_);
    return given_up(
        [&]() -> Status {
          BV_CHECK(here());
          BV_CHECK(memory.allocate(all.size()));
          const std::size_t at = mine.size() * static_cast<std::size_t>(place_);
          BV_CHECK(memory.fill(at, mine));
          BV_CHECK(called("an all-gather",
                          [start = table_.all_gather, from = memory.at(at), to = memory.at(0),
                           size = mine.size(), group = communicator_, stream = stream_] {
                            return start(from, to, size, nccl::kInt8, group, stream);
                          }));
          return memory.read(0, all);
        }(),
        memory);
  }

  Status scatter(int root, std::span<const Bytes> parts, std::span<std::byte> mine) override {
    DeviceBytes memory(table_);
    return given_up(
        [&]() -> Status {
          BV_CHECK(here());
          std::size_t total = mine.size();
          for (const Bytes& part : parts) {
            total += part.size();
          }
          BV_CHECK(memory.allocate(total));
          std::size_t at = mine.size();
          std::vector<std::pair<void*, std::size_t>> sent;
          for (const Bytes& part : parts) {
            BV_CHECK(memory.fill(at, part));
            sent.emplace_back(memory.at(at), part.size());
            at += part.size();
          }
          if (place_ != root) {
            sent.clear();
          }
          BV_CHECK(called("a scatter", exchange(root, std::move(sent), memory.at(0), mine.size())));
          return memory.read(0, mine);
        }(),
        memory);
  }

 private:
  /// Starts a collective and waits for it. NCCL does both for ever where a rank is gone, so another
  /// thread does, which uses nothing of this object.
  Status called(const char* doing, std::function<int()> start) {
    const auto given_up = std::make_shared<std::atomic<bool>>(false);
    const auto started = std::make_shared<std::atomic<bool>>(false);
    auto running = worker_.run([table = table_, context = context_, group = communicator_,
                                stream = stream_, start = std::move(start), given_up, started] {
      Outcome out;
      out.driver = table.context_set(context);
      out.nccl = out.driver == 0 ? start() : 0;
      *started = true;
      while (out.driver == 0 && (out.nccl == 0 || out.nccl == nccl::kInProgress) && !*given_up) {
        out.nccl = 0;
        if (table.async_error(group, &out.nccl); out.nccl != 0 && out.nccl != nccl::kInProgress) {
          return out;
        }
        out.driver = table.stream_query(stream);
        if (out.driver == 0) {
          return Outcome{};
        }
        out.driver = out.driver == nccl::kNotReady ? 0 : out.driver;
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      }
      return out;
    });
    auto outcome = ended(running, doing);
    if (!outcome) {
      *given_up = true;
      // What is under way still asks of the group, which is freed next.
      hangs_ = !*started || running.wait_for(patience_) != std::future_status::ready;
      return std::move(outcome).error();
    }
    BV_CHECK(by_driver(outcome->driver, doing));
    return by_nccl(outcome->nccl, doing);
  }

  /// Memory is given back after the group is left: until then NCCL may work on it, and the driver
  /// waits for what works.
  Status given_up(Status end, DeviceBytes& memory) {
    if (!end && communicator_ != nullptr) {
      broken_ = true;
      if (!hangs_) {
        leave();
      }
      communicator_ = nullptr;  // of a call that did not come back, it is that call's
    }
    if (hangs_) {
      memory.keep();
    }
    return end;
  }

  /// Leaves the group, or gives it up where it is broken.
  void leave() {
    const auto left = on_a_thread(on_device(
        table_, context_, [leave = broken_ ? table_.abort : table_.destroy, group = communicator_] {
          return leave(group);
        }));
    hangs_ = left.wait_for(patience_) != std::future_status::ready || hangs_;
    communicator_ = nullptr;
  }

  /// What the root sends, with what this rank receives, as one group of calls.
  [[nodiscard]] std::function<int()> exchange(int root,
                                              std::vector<std::pair<void*, std::size_t>> sent,
                                              void* to, std::size_t mine) const {
    return [table = table_, root, sent = std::move(sent), to, mine, group = communicator_,
            stream = stream_] {
      int code = table.group_start();
      for (std::size_t i = 0; code == 0 && i < sent.size(); ++i) {
        code = sent[i].second == 0 ? 0
                                   : table.send(sent[i].first, sent[i].second, nccl::kInt8,
                                                static_cast<int>(i), group, stream);
      }
      if (code == 0 && mine > 0) {
        code = table.receive(to, mine, nccl::kInt8, root, group, stream);
      }
      const int ended = table.group_end();
      return code == 0 ? ended : code;
    };
  }

  /// Threads have a current context each.
  Status here() const {
    if (communicator_ == nullptr && joined_) {
      return fail(Code::RankLost, fmt::format("a group of {} ranks was given up", size_))
          .advise("look at the first message of this process");
    }
    return by_driver(table_.context_set(context_), "choosing a device");
  }

  Status by_nccl(int code, const char* doing) {
    if (code == 0 || code == nccl::kInProgress) {
      return Done{};
    }
    broken_ = true;
    return fail(Code::RankLost, fmt::format("NCCL failed in {} of {} ranks", doing, size_))
        .pair(table_.error_text(code), "ncclSuccess")
        .advise(
            "set NCCL_DEBUG=INFO to see why (one GPU for two ranks is not a group), or leave the "
            "collectives to the sockets");
  }

  Result<Outcome> ended(std::future<Outcome>& one, const char* doing) {
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

  const Table& table_;
  void* context_;
  Milliseconds patience_;
  CarrierMaker::AllAreHere all_are_here_;
  Worker worker_;
  void* stream_ = nullptr;
  void* communicator_ = nullptr;
  int place_ = 0;
  int size_ = 1;
  bool broken_ = false;
  bool joined_ = false;
  bool hangs_ = false;  // something does not end, and may use stream and memory for ever
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
