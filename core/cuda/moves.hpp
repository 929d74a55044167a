#pragma once
// From tasks to what a device runs: pieces as boxes of the widest units that both ends allow.

#include <span>
#include <vector>

#include "core/cuda/tiles.hpp"
#include "core/move/executor.hpp"

namespace bv::cuda {

/// Elements of one source that a task reads, and where they lie on the device.
struct Staged {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  const std::byte* first = nullptr;  // of element `begin`
};

/// The elements of each source that `pieces` read: [begin, end), empty for one that is not read.
[[nodiscard]] std::vector<Staged> reads_of(std::span<const layout::BoxPiece> pieces,
                                           std::size_t sources);

/// What a launch runs: transposes in tiles, everything else unit by unit.
struct MoveList {
  std::vector<Move> moves;
  std::int64_t units = 0;  // of all moves
  std::vector<TileMove> transposes;
  std::int64_t tiles = 0;  // of all transposes
  void clear();
};

/// Appends the moves of a task whose sources and target are on the device, `target` being element
/// `task.begin`; numbered by Move::first and TileMove::first.
void moves_of(const move::MoveTask& task, std::span<const Staged> staged, std::byte* target,
              MoveList& out);

}  // namespace bv::cuda
