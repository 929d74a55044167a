#include "core/cuda/copy_by_all.hpp"

#include <algorithm>
#include <cstring>
#include <thread>

#include "core/base/workers.hpp"

namespace bv::cuda {
namespace {

/// A thread copies as much in the time in which some twenty are started.
constexpr std::size_t kPartBytes = std::size_t{8} << 20U;
constexpr std::size_t kThreadsMax = 8;

}  // namespace

void copy_by_all(std::byte* to, std::span<const std::byte> from) {
  const std::size_t parts = (from.size() + kPartBytes - 1) / kPartBytes;
  const std::size_t threads = std::min<std::size_t>(
      {parts, kThreadsMax, std::max(1U, std::thread::hardware_concurrency())});
  if (threads < 2) {
    std::copy(from.begin(), from.end(), to);
    return;
  }
  static_cast<void>(for_each_parallel(parts, static_cast<int>(threads), [&](std::size_t i) {
    const std::size_t at = i * kPartBytes;
    std::memcpy(to + at, from.data() + at, std::min(kPartBytes, from.size() - at));
    return Status(Done{});
  }));
}

}  // namespace bv::cuda
