#pragma once
// Threads that share a list of work.

#include <cstddef>
#include <functional>
#include <thread>

#include "core/base/result.hpp"

namespace bv {

/// Starts a thread; throws std::system_error when the system refuses one. Tests make it refuse.
using StartThread = std::function<std::thread(std::function<void()>)>;

/// Runs `work(i)` for i in [0, count) on at most `jobs` threads, in order of i; stops at the first
/// error and returns the one with the lowest index that was met. A thread that the system refuses
/// is done without: the caller's own always works. An exception of `work` is an error as well:
/// OutOfMemory for std::bad_alloc, else Assertion.
[[nodiscard]] Status for_each_parallel(std::size_t count, int jobs,
                                       const std::function<Status(std::size_t)>& work,
                                       const StartThread& start = {});

}  // namespace bv
