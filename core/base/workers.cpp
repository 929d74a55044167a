#include "core/base/workers.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <new>
#include <optional>
#include <system_error>
#include <vector>

namespace bv {
namespace {

Error out_of_memory() {
  return fail(Code::OutOfMemory, "memory ran out")
      .advise("take fewer jobs with -j, or a larger machine");
}

/// The list of work, and the first thing that went wrong with it.
class Work {
 public:
  Work(std::size_t count, const std::function<Status(std::size_t)>& work)
      : count_(count), work_(work) {}

  /// Never throws: it is all that a thread does.
  void loop() noexcept {
    for (std::size_t i = next_++; i < count_ && !failed_; i = next_++) {
      try {
        if (auto status = work_(i); !status) {
          keep(i, std::move(status).error());
        }
      } catch (const std::bad_alloc&) {
        no_memory_ = true;  // even the text of an error may be too much now
        failed_ = true;
      } catch (const std::exception& exception) {
        keep_exception(i, exception.what());
      } catch (...) {
        keep_exception(i, "of unknown type");
      }
    }
  }

  /// Once every thread has ended.
  Status result() {
    if (error_) {
      return std::move(*error_);
    }
    return no_memory_ ? Status(out_of_memory()) : Status(Done{});
  }

 private:
  void keep(std::size_t index, Error&& error) {
    failed_ = true;
    const std::lock_guard lock(mutex_);
    if (!error_ || index < index_) {
      index_ = index;
      error_ = std::move(error);
    }
  }

  void keep_exception(std::size_t index, const char* what) noexcept {
    try {
      keep(index, fail(Code::Assertion, std::string("an exception reached a worker: ") + what)
                      .advise("report it with the command line and the output of bridge-verify "
                              "doctor"));
    } catch (...) {
      no_memory_ = true;
      failed_ = true;
    }
  }

  std::size_t count_;
  const std::function<Status(std::size_t)>& work_;
  std::atomic<std::size_t> next_{0};
  std::atomic<bool> failed_{false};
  std::atomic<bool> no_memory_{false};
  std::mutex mutex_;
  std::size_t index_ = 0;
  std::optional<Error> error_;
};

}  // namespace

Status for_each_parallel(std::size_t count, int jobs,
                         const std::function<Status(std::size_t)>& work, const StartThread& start) {
  Work shared(count, work);
  const std::size_t wanted = std::min(count, static_cast<std::size_t>(std::max(jobs, 1)));
  std::vector<std::thread> threads;
  try {
    threads.reserve(wanted);
    while (threads.size() + 1 < wanted) {
      const auto loop = [&shared] { shared.loop(); };
      threads.push_back(start ? start(loop) : std::thread(loop));
    }
  } catch (const std::system_error&) {  // fewer hands, the same work
  } catch (const std::bad_alloc&) {
  }
  shared.loop();
  for (std::thread& thread : threads) {
    thread.join();
  }
  return shared.result();
}

}  // namespace bv
