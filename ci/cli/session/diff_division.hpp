#pragma once
// A diff that the processes of a world do together.

#include <filesystem>
#include <vector>

#include "core/comm/link.hpp"
#include "core/compare/diff.hpp"

namespace bv::cli {

/// What the configs of two HF models say decides how their weights are read: A's folder, then B's.
/// All call it; nothing to do without a world. Errors: RankDiverged.
[[nodiscard]] Status agree_on_configs(comm::Link* world,
                                      const std::vector<std::filesystem::path>& folders);

/// Each process compares what the ranks that it stands for hold: DiffOptions::processes.
[[nodiscard]] std::vector<int> processes_of_subjects(const comm::Link* world,
                                                     const compare::Comparison& comparison,
                                                     const plan::Plan& plan);

}  // namespace bv::cli
