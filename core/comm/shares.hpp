#pragma once
// Which process of a world does what: by what the ranks of a layout hold, with equal loads.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base/tensor_spec.hpp"
#include "core/comm/group.hpp"
#include "core/plan/plan.hpp"

namespace bv::comm {

/// The process of each shard file: that of its rank. With fewer processes than ranks, neighbouring
/// ranks share one.
[[nodiscard]] std::vector<int> processes_of_files(const plan::Plan& plan, int processes);

/// The process of each mapping: one that stands for a rank that holds a part of it, and of these
/// the one with the least bytes so far. Equal on all processes.
[[nodiscard]] std::vector<int> processes_of_mappings(const plan::Plan& plan, const Headers& headers,
                                                     int processes);

/// A piece of what is in one of the files of a plan.
struct FilePiece {
  std::size_t file = 0;  // of plan.files()
  std::uint64_t bytes = 0;
};
/// The process of each piece: of those that stand for the rank of its file the one with the least
/// bytes so far.
[[nodiscard]] std::vector<int> processes_of_pieces(const plan::Plan& plan,
                                                   std::span<const FilePiece> pieces,
                                                   int processes);

/// The process of each piece of work, the largest first to the one with the least so far.
[[nodiscard]] std::vector<int> balanced(std::span<const std::uint64_t> sizes, int processes);

/// What each rank found, by rank, on all ranks. Errors: those of Link::receive.
[[nodiscard]] Result<std::vector<std::vector<std::string>>> exchanged(
    Link& link, std::span<const std::string> mine, std::string_view what);

}  // namespace bv::comm
