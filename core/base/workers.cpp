#include "core/base/workers.hpp"

#include <atomic>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

namespace bv {

Status for_each_parallel(std::size_t count, int jobs,
                         const std::function<Status(std::size_t)>& work) {
  std::atomic<std::size_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  std::map<std::size_t, Error> errors;
  const auto loop = [&] {
    for (std::size_t i = next++; i < count && !failed; i = next++) {
      if (auto status = work(i); !status) {
        failed = true;
        const std::lock_guard lock(mutex);
        errors.emplace(i, std::move(status).error());
      }
    }
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < jobs; ++i) {
    threads.emplace_back(loop);
  }
  loop();
  for (std::thread& thread : threads) {
    thread.join();
  }
  if (!errors.empty()) {
    return errors.begin()->second;
  }
  return Done{};
}

}  // namespace bv
