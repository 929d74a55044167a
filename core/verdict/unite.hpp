#pragma once
// What the processes of a world found of one subject, as one run.

#include <span>
#include <string>

#include "core/verdict/verdict.hpp"

namespace bv {

/// The part of a run that can make another one worse: verdicts that are neither Proved nor Held,
/// warnings and input errors.
[[nodiscard]] Run findings(const Run& run);

/// `found`: the findings of every process, in order; `names` are theirs in messages. A verdict that
/// some made and others did not becomes the worst one, with the names of who made it; one that all
/// made alike is theirs as it is. Warnings and input errors of a kind that `run` does not have are
/// added by name. With the same `found` every process has the same bad verdicts afterwards.
void unite(Run& run, std::span<const Run> found, std::span<const std::string> names);

}  // namespace bv
