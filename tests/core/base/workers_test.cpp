#include "core/base/workers.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <new>
#include <stdexcept>
#include <system_error>

namespace bv {
namespace {

Error numbered(std::size_t i) {
  return fail(Code::ReadFailed, std::to_string(i)).advise("help");
}

/// Refuses every thread behind the first `allowed` ones.
StartThread refuse_after(int allowed) {
  return [allowed](std::function<void()> loop) mutable {
    if (allowed-- <= 0) {
      throw std::system_error(EAGAIN, std::generic_category());
    }
    return std::thread(std::move(loop));
  };
}

TEST(Workers, DoEveryPieceOnceOnAnyNumberOfThreads) {
  for (const int jobs : {-1, 0, 1, 2, 7, 300}) {
    std::vector<std::atomic<int>> done(97);
    const auto status = for_each_parallel(done.size(), jobs, [&](std::size_t i) -> Status {
      ++done[i];
      return Done{};
    });
    EXPECT_TRUE(status) << jobs;
    for (const auto& one : done) {
      EXPECT_EQ(one, 1) << jobs;
    }
  }
  EXPECT_TRUE(for_each_parallel(0, 8, [](std::size_t) -> Status { return numbered(0); }));
}

TEST(Workers, ReturnTheErrorWithTheLowestIndexAndStop) {
  std::atomic<int> calls{0};
  const auto one = for_each_parallel(1000, 1, [&](std::size_t i) -> Status {
    ++calls;
    return i == 3 ? Status(numbered(i)) : Status(Done{});
  });
  ASSERT_FALSE(one);
  EXPECT_EQ(one.error().message, "3");
  EXPECT_EQ(calls, 4);
  // Two errors that are both met: every piece waits for the other one.
  std::atomic<int> met{0};
  const auto two = for_each_parallel(2, 2, [&](std::size_t i) -> Status {
    for (++met; met < 2;) {
      std::this_thread::yield();
    }
    return numbered(i);
  });
  ASSERT_FALSE(two);
  EXPECT_EQ(two.error().message, "0");
}

/// Was std::terminate: exit 134 without a message.
TEST(Workers, MakeAnErrorOfAnException) {
  for (const int jobs : {1, 4}) {
    const auto thrown = for_each_parallel(
        9, jobs, [](std::size_t) -> Status { throw std::runtime_error("by a library"); });
    ASSERT_FALSE(thrown);
    EXPECT_EQ(thrown.error().code, Code::Assertion);
    EXPECT_EQ(thrown.error().message, "an exception reached a worker: by a library");
    const auto unknown = for_each_parallel(9, jobs, [](std::size_t) -> Status { throw 7; });
    ASSERT_FALSE(unknown);
    EXPECT_EQ(unknown.error().message, "an exception reached a worker: of unknown type");
    const auto memory =
        for_each_parallel(9, jobs, [](std::size_t) -> Status { throw std::bad_alloc(); });
    ASSERT_FALSE(memory);
    EXPECT_EQ(memory.error().code, Code::OutOfMemory);
    EXPECT_FALSE(memory.error().help.empty());
  }
}

/// Was std::terminate as well.
TEST(Workers, DoWithFewerThreadsWhenTheSystemRefusesThem) {
  for (const int allowed : {0, 1, 3}) {
    std::vector<std::atomic<int>> done(50);
    const auto status = for_each_parallel(
        done.size(), 8,
        [&](std::size_t i) -> Status {
          ++done[i];
          return Done{};
        },
        refuse_after(allowed));
    EXPECT_TRUE(status);
    for (const auto& one : done) {
      EXPECT_EQ(one, 1);
    }
  }
}

TEST(Workers, DoWithFewerThreadsWhenThereIsNoMemoryForThem) {
  const auto none = [](const std::function<void()>&) -> std::thread { throw std::bad_alloc(); };
  EXPECT_TRUE(for_each_parallel(
      5, 8, [](std::size_t) -> Status { return Done{}; }, none));
}

}  // namespace
}  // namespace bv
