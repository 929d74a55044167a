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

  Status run(int /*lane*/, const MoveList& list) override {
    ++launches;
    for (std::int64_t i = 0; i < list.units; ++i) {
      const auto piece = piece_of(list.moves.data(), std::ssize(list.moves), i);
      const Move& one = list.moves[static_cast<std::size_t>(piece)];
      run_one(one, i - one.first);
      ++widths[static_cast<std::size_t>(one.unit)];
    }
    for (std::int64_t n = 0; n < list.tiles; ++n) {
      const auto piece = piece_of(list.transposes.data(), std::ssize(list.transposes), n);
      run_tile(list.transposes[static_cast<std::size_t>(piece)], n);
      ++tiles;
    }
    return Done{};
  }

  /// A block of threads, phase by phase.
  static void run_tile(const TileMove& move, std::int64_t number) {
    constexpr std::int64_t kThreads = 7;  // no divisor of a tile
    TileBuffer buffer{};
    const TilePlace place = tile_place(move, number - move.first);
    for (std::int64_t thread = 0; thread < kThreads; ++thread) {
      read_tile(move, place, buffer, thread, kThreads);
    }
    for (std::int64_t thread = 0; thread < kThreads; ++thread) {
      write_tile(move, place, buffer, thread, kThreads);
    }
  }

  Status merge(int /*lane*/, const MergeBlock& block) override {
    for (std::int64_t n = 0; n < merge_tiles(block); ++n) {
      MergeShared shared{};
      std::vector<MergeThread> threads;
      for (std::int64_t thread = 0; thread < kMergeThreads; ++thread) {
        threads.emplace_back(block, n, thread);
      }
      for (std::int64_t k = 0; k < block.rank; k += kMergeDepth) {
        for (const MergeThread& thread : threads) {
          thread.load(shared, k);
        }
        for (MergeThread& thread : threads) {
          thread.add(shared, k);
        }
      }
      for (const MergeThread& thread : threads) {
        thread.store();
      }
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

  void give_up() override {
    for (Lane& one : lanes_) {
      one.downloads.clear();
    }
  }

  int launches = 0;
  std::array<std::int64_t, 17> widths{};  // units of each width
  std::int64_t tiles = 0;

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
