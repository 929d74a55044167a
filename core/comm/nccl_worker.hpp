#pragma once
// A thread for calls of NCCL and of the driver that may never end.

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <thread>

#include "core/comm/nccl_table.hpp"

namespace bv::comm::nccl {

/// What a call gives, if it ends. NCCL waits for ever for a rank that is gone when a group is
/// joined or left, and in the first collective of two ranks, which connects them: a thread of its
/// own does that, and is left alone where it does not end.
template <class Call>
std::future<int> on_a_thread(Call call) {
  const auto ended = std::make_shared<std::promise<int>>();
  std::future<int> out = ended->get_future();
  std::thread([ended, call = std::move(call)]() mutable { ended->set_value(call()); }).detach();
  return out;
}

/// A call for a thread that has chosen no device yet.
template <class Call>
auto on_device(const Table& table, void* context, Call call) {
  return [set = table.context_set, context, call = std::move(call)] {
    const int chosen = set(context);
    return chosen == 0 ? call() : chosen;
  };
}

/// What became of work on the device.
struct Outcome {
  int nccl = 0;
  int driver = 0;
};

/// A thread that does one piece of work after the other. Work that never ends is left alone with
/// it.
class Worker {
 public:
  Worker() : queue_(std::make_shared<Queue>()) {
    std::thread([queue = queue_] { serve(*queue); }).detach();
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  Worker(Worker&&) = delete;
  Worker& operator=(Worker&&) = delete;
  ~Worker() { add({}); }

  std::future<Outcome> run(std::function<Outcome()> work) {
    std::packaged_task<Outcome()> task(std::move(work));
    std::future<Outcome> out = task.get_future();
    add(std::move(task));
    return out;
  }

 private:
  struct Queue {
    std::mutex mutex;
    std::condition_variable more;
    std::deque<std::packaged_task<Outcome()>> tasks;  // an empty one is the last
  };

  void add(std::packaged_task<Outcome()> task) {
    const std::lock_guard lock(queue_->mutex);
    queue_->tasks.push_back(std::move(task));
    queue_->more.notify_one();
  }
  static void serve(Queue& queue) {
    while (true) {
      std::unique_lock lock(queue.mutex);
      queue.more.wait(lock, [&] { return !queue.tasks.empty(); });
      std::packaged_task<Outcome()> task = std::move(queue.tasks.front());
      queue.tasks.pop_front();
      lock.unlock();
      if (!task.valid()) {
        return;
      }
      task();
    }
  }

  std::shared_ptr<Queue> queue_;
};

}  // namespace bv::comm::nccl
