#pragma once
// A device that is the host: the code of the kernel, one unit after the other. Transfers are late,
// so that who forgets to wait sees it; memory is poisoned.

#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "core/cuda/device.hpp"

namespace bv::cuda::testing {

class HostDevice : public Device {
 public:
  /// `memory_bytes`: of each lane, at most.
  explicit HostDevice(std::size_t memory_bytes = std::size_t{1} << 30) : most_(memory_bytes) {}

  Status reserve(int lane, std::size_t bytes) override {
    if (bytes > most_) {
      return fail(Code::OutOfMemory, "the host plays a small device");
    }
    Lane& one = at(lane);
    one.storage.assign(bytes + kAlignment, std::byte{0xA5});
    return Done{};
  }

  std::byte* memory(int lane) const override {
    const auto* first = lanes_[static_cast<std::size_t>(lane)].storage.data();
    const auto address = reinterpret_cast<std::uintptr_t>(first);
    return const_cast<std::byte*>(first) + (kAlignment - address % kAlignment) % kAlignment;
  }

  Status upload(int lane, std::size_t where, std::span<const std::byte> bytes) override {
    std::memcpy(memory(lane) + where, bytes.data(), bytes.size());
    return Done{};
  }

  Status run(int /*lane*/, std::span<const Move> moves, std::int64_t units) override {
    ++launches;
    for (std::int64_t i = 0; i < units; ++i) {
      const auto piece = piece_of(moves.data(), std::ssize(moves), i);
      const Move& one = moves[static_cast<std::size_t>(piece)];
      run_one(one, i - one.first);
      ++widths[static_cast<std::size_t>(one.unit)];
    }
    return Done{};
  }

  Status download(int lane, std::size_t where, std::span<std::byte> to) override {
    at(lane).downloads.emplace_back(where, to);
    return Done{};
  }

  Status wait(int lane) override {
    Lane& one = at(lane);
    for (const auto& [where, to] : one.downloads) {
      std::memcpy(to.data(), memory(lane) + where, to.size());
    }
    one.downloads.clear();
    return Done{};
  }

  int launches = 0;
  std::array<std::int64_t, 17> widths{};  // units of each width

 private:
  static constexpr std::size_t kAlignment = 256;
  struct Lane {
    std::vector<std::byte> storage;
    std::vector<std::pair<std::size_t, std::span<std::byte>>> downloads;
  };
  Lane& at(int lane) { return lanes_[static_cast<std::size_t>(lane)]; }

  std::size_t most_;
  std::array<Lane, kLanes> lanes_;
};

}  // namespace bv::cuda::testing
