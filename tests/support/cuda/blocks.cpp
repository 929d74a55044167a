#include "tests/support/cuda/blocks.hpp"

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <vector>

// The linker's names of the section that __shared__ variables are in.
extern char __start_bv_shared[] __attribute__((weak));
extern char __stop_bv_shared[] __attribute__((weak));

thread_local dim3 gridDim;
thread_local dim3 blockDim;
thread_local dim3 blockIdx;
thread_local dim3 threadIdx;

namespace bv::fake_cuda {
namespace {

constexpr std::size_t kStackBytes = std::size_t{128} << 10;

/// Runs threads until one of them waits, and then that one alone.
struct Fiber {
  ucontext_t context{};  // of its start; from then on it is left and entered by jumps, which call
  jmp_buf place{};       // nothing of the system
  bool started = false;
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  unsigned thread = 0;
};

/// Fibers outlive a block: making them is what costs.
struct Fibers {
  std::vector<std::unique_ptr<Fiber>> all;
  std::vector<Fiber*> idle;
};

class Block {
 public:
  Block(const std::function<void()>& thread, const std::vector<unsigned>& order, Fibers& fibers)
      : thread_(thread), order_(order), fibers_(fibers) {}

  /// False: some threads wait for others that have ended.
  [[nodiscard]] bool run() {
    current_ = this;
    while (next_ < order_.size()) {
      resume(idle());
    }
    for (bool back = true; !waiting_.empty() && ended_ == 0; back = !back) {
      std::vector<Fiber*> all = std::move(waiting_);
      waiting_.clear();
      if (back) {
        std::reverse(all.begin(), all.end());
      }
      for (Fiber* one : all) {
        resume(*one);
      }
    }
    return waiting_.empty();
  }

  static void wait_here() { current_->wait(); }

 private:
  Fiber& idle() {
    if (fibers_.idle.empty()) {
      fibers_.all.push_back(std::make_unique<Fiber>());
      Fiber& made = *fibers_.all.back();
      ::getcontext(&made.context);
      made.context.uc_stack.ss_sp = made.stack.get();
      made.context.uc_stack.ss_size = kStackBytes;
      made.context.uc_link = nullptr;
      ::makecontext(&made.context, &Block::live, 0);
      return made;
    }
    Fiber* out = fibers_.idle.back();
    fibers_.idle.pop_back();
    return *out;
  }

  void resume(Fiber& fiber) {
    running_ = &fiber;
    threadIdx.x = fiber.thread;
    if (_setjmp(scheduler_) != 0) {
      return;
    }
    if (fiber.started) {
      _longjmp(fiber.place, 1);
    }
    fiber.started = true;
    ::setcontext(&fiber.context);
  }

  /// Of the fiber that runs, until it is resumed.
  void leave() {
    if (_setjmp(running_->place) == 0) {
      _longjmp(scheduler_, 1);
    }
  }

  /// Of a fiber, for ever: the block may be another one after each rest.
  static void live() {
    while (true) {
      current_->start_threads();
      current_->fibers_.idle.push_back(current_->running_);
      current_->leave();
    }
  }

  void start_threads() {
    while (next_ < order_.size()) {
      running_->thread = order_[next_++];
      threadIdx.x = running_->thread;
      thread_();
      ++ended_;
    }
  }

  void wait() {
    waiting_.push_back(running_);
    leave();
  }

  static thread_local Block* current_;
  const std::function<void()>& thread_;
  const std::vector<unsigned>& order_;
  Fibers& fibers_;
  std::size_t next_ = 0;   // of order_, the next thread to start
  std::size_t ended_ = 0;  // threads
  std::vector<Fiber*> waiting_;
  Fiber* running_ = nullptr;
  jmp_buf scheduler_{};
};
thread_local Block* Block::current_ = nullptr;

}  // namespace

cudaError_t run_blocks(dim3 grid, dim3 block, const std::function<void()>& thread,
                       std::mt19937& random) {
  thread_local Fibers fibers;
  gridDim = grid;
  blockDim = block;
  std::vector<unsigned> order(block.x);
  std::iota(order.begin(), order.end(), 0U);
  std::shuffle(order.begin(), order.end(), random);
  const unsigned first = static_cast<unsigned>(random()) % grid.x;
  for (unsigned i = 0; i < grid.x; ++i) {
    blockIdx.x = (first + i) % grid.x;
    if (__start_bv_shared != nullptr) {
      std::memset(__start_bv_shared, 0x7f,
                  static_cast<std::size_t>(__stop_bv_shared - __start_bv_shared));
    }
    if (!Block(thread, order, fibers).run()) {
      return cudaErrorLaunchFailure;
    }
  }
  return cudaSuccess;
}

void wait_for_threads() {
  Block::wait_here();
}

}  // namespace bv::fake_cuda

void __syncthreads() {
  bv::fake_cuda::wait_for_threads();
}
