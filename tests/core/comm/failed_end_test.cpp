// The end of a world that has failed: the code of the cause for all, told once, and the word of
// rank 0 for those that wait for it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <thread>

#include "core/comm/group.hpp"
#include "core/comm/threads.hpp"

namespace bv::comm {
namespace {

constexpr Milliseconds kFailedPatience{600};

/// What each rank makes of it when one fails with `code`: rank 0 ends with its word.
std::vector<std::optional<Link::FailedEnd>> ends_when(int failing, Code code, bool host_speaks) {
  std::vector<std::optional<Link::FailedEnd>> out(4);
  const auto statuses = run_world(4, kFailedPatience, [&](Link& link) -> Status {
    Status met = link.rank() == failing ? Status(fail(code, "EP=2 on a model without experts"))
                                        : whole_world(link).barrier("the meeting");
    EXPECT_FALSE(met);
    link.fail_all(met.error());
    if (link.rank() == 0) {
      std::this_thread::sleep_for(kFailedPatience / 6);  // it reports
      if (!host_speaks) {
        throw std::runtime_error("killed");
      }
      link.leave("2");
    } else {
      out[static_cast<std::size_t>(link.rank())] = link.end_of_failed_host();
    }
    return met;
  });
  return out;
}

TEST(FailedEnd, GivesAllTheWordOfRankZeroAndWhatItTold) {
  for (const int failing : {0, 2}) {
    const auto ends = ends_when(failing, Code::BadValue, true);
    for (std::size_t rank = 1; rank < ends.size(); ++rank) {
      ASSERT_TRUE(ends[rank]) << rank;
      EXPECT_EQ(ends[rank]->word, "2");
      ASSERT_TRUE(ends[rank]->why);
      EXPECT_EQ(ends[rank]->why->code, Code::BadValue);
      EXPECT_EQ(ends[rank]->why->message, std::string(failing == 0 ? "" : "rank 2 stopped: ") +
                                              "EP=2 on a model without experts");
    }
  }
}

TEST(FailedEnd, IsNothingWhereRankZeroIsGone) {
  for (const int failing : {0, 2}) {
    const auto ends = ends_when(failing, Code::BadValue, false);
    for (std::size_t rank = 1; rank < ends.size(); ++rank) {
      EXPECT_FALSE(ends[rank]) << rank;
    }
  }
}

TEST(FailedEnd, IsNothingWhereRankZeroNeverLooks) {
  const auto began = std::chrono::steady_clock::now();
  const auto statuses = run_world(2, kFailedPatience, [&](Link& link) -> Status {
    if (link.rank() == 0) {
      std::this_thread::sleep_for(3 * kFailedPatience);
      return Done{};
    }
    const Error why = fail(Code::BadValue, "no");
    link.fail_all(why);
    EXPECT_FALSE(link.end_of_failed_host());
    EXPECT_LT(std::chrono::steady_clock::now() - began, 2 * kFailedPatience);
    return why;
  });
  EXPECT_FALSE(statuses[1]);
}

/// A third rank is told by the second whose error it is, and says it as it is.
TEST(FailedEnd, AnErrorThatIsPassedOnKeepsItsCodeAndItsRank) {
  const auto statuses = run_world(3, kFailedPatience, [&](Link& link) -> Status {
    if (link.rank() == 2) {
      return fail(Code::ReadFailed, "rank 16 of the adapter cannot be read");
    }
    return whole_world(link).barrier("the meeting");
  });
  for (const std::size_t rank : {0U, 1U}) {
    EXPECT_EQ(statuses[rank].error().code, Code::ReadFailed);
    EXPECT_EQ(statuses[rank].error().message,
              "rank 2 stopped: rank 16 of the adapter cannot be read");
  }
}

TEST(FailedEnd, ToBeToldToStopIsNoVerdict) {
  const auto statuses = run_world(2, kFailedPatience, [&](Link& link) -> Status {
    return link.rank() == 1 ? Status(fail(Code::Stopped, "stopped before the end"))
                            : whole_world(link).barrier("the meeting");
  });
  EXPECT_EQ(statuses[0].error().code, Code::RankLost);
  EXPECT_EQ(statuses[0].error().message, "rank 1 stopped: stopped before the end");
}

}  // namespace
}  // namespace bv::comm
