#pragma once
// Moves one mapping to poisoned Megatron shards and back in memory and compares every bit. Nothing
// is written.

#include <cstddef>
#include <optional>
#include <vector>

#include "core/io/checkpoint.hpp"
#include "core/move/executor.hpp"
#include "core/plan/plan.hpp"

namespace bv::claims {

/// The first element that did not come back, or that two replicas disagree on.
struct MoveFault {
  std::string tensor;  // HF tensor, or the Megatron parameter of a shard
  std::string rank;    // "tp1"
  std::vector<std::int64_t> index;
  std::string what;  // "does not come back", "padding is not zero", "stays unwritten"
};

struct MoveCount {
  std::uint64_t bytes = 0;  // HF bytes read and compared
  std::int64_t tensors = 0;
};

/// What stands in shards before they are filled, and in a second copy of them.
inline constexpr std::byte kPoison{0xA5};
inline constexpr std::byte kOtherPoison{0x5A};

/// Which of `count` elements of `size` bytes nobody wrote: they keep kPoison in `first` and
/// kOtherPoison in `second`. Data that happens to look like one poison is not a false alarm.
[[nodiscard]] std::vector<bool> unwritten(const std::byte* first, const std::byte* second,
                                          std::size_t count, std::size_t size);

/// Checks mapping `index` of the plan: each shard is filled from the HF tensors (targets poisoned
/// first), then every HF element is read back from the shards through the inverse boxes. Windows
/// keep memory bounded: at most `window_bytes` of shards are held at once. Value-changing rules
/// move their bits unchanged here; the values claim judges the sum. `device` fills the shards;
/// null: the processor, which always reads them back. Errors: those of the device; of the elements
/// they say nothing.
[[nodiscard]] Result<std::optional<MoveFault>> check_round_trip(
    const plan::Plan& plan, std::size_t index, const io::Checkpoint& checkpoint,
    std::int64_t window_bytes, MoveCount& count, move::Executor* device = nullptr);

}  // namespace bv::claims
