#pragma once
// Threads that share a list of work.

#include <cstddef>
#include <functional>

#include "core/base/result.hpp"

namespace bv {

/// Runs `work(i)` for i in [0, count) on `jobs` threads, in order of i; stops at the first error
/// and returns the one with the lowest index that was met.
[[nodiscard]] Status for_each_parallel(std::size_t count, int jobs,
                                       const std::function<Status(std::size_t)>& work);

}  // namespace bv
