// Threads that send, wait, die, hang and diverge: who is named, and that every wait ends.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "core/comm/group.hpp"
#include "core/comm/threads.hpp"

namespace bv::comm {
namespace {

using ::testing::HasSubstr;

constexpr Milliseconds kLinkPatience{400};

std::vector<std::string> coordinates(int size) {
  std::vector<std::string> out;
  for (int rank = 0; rank < size; ++rank) {
    out.push_back("tp" + std::to_string(rank) + " pp0 ep0");
  }
  return out;
}

/// All ranks but `odd` meet twice; `odd` does something of its own.
std::vector<Status> world_with(int size, int odd, const std::function<Status(Link&)>& its_work) {
  return run_world(size, kLinkPatience, [&](Link& link) -> Status {
    link.name_coordinates(coordinates(size));
    if (link.rank() == odd) {
      return its_work(link);
    }
    Group world = whole_world(link);
    BV_CHECK(world.barrier("the first meeting"));
    return world.barrier("the second meeting");
  });
}

void expect_all_others(const std::vector<Status>& ends, int odd, Code code,
                       const std::string& text) {
  for (std::size_t rank = 0; rank < ends.size(); ++rank) {
    if (static_cast<int>(rank) == odd) {
      continue;
    }
    ASSERT_FALSE(ends[rank]) << rank;
    EXPECT_EQ(ends[rank].error().code, code) << ends[rank].error().message;
    EXPECT_THAT(ends[rank].error().message, HasSubstr(text)) << rank;
  }
}

TEST(Link, MessagesOfOneRankArriveInOrder) {
  const auto ends = run_world(2, kLinkPatience, [](Link& link) -> Status {
    if (link.rank() == 0) {
      for (int i = 0; i < 50; ++i) {
        BV_CHECK(link.send(1, "number", bytes_of(std::to_string(i))));
      }
      return Done{};
    }
    for (int i = 0; i < 50; ++i) {
      BV_TRY(got, link.receive(0, "number"));
      EXPECT_EQ(text_of(got), std::to_string(i));
    }
    return Done{};
  });
  EXPECT_TRUE(ends[0]);
  EXPECT_TRUE(ends[1]);
}

TEST(Link, ARankThatDiesIsNamedWithItsCoordinatesToAllOthers) {
  for (const int odd : {0, 2, 3}) {
    const auto ends = world_with(4, odd, [](Link&) -> Status { throw std::runtime_error("died"); });
    expect_all_others(ends, odd, Code::RankLost,
                      "rank " + std::to_string(odd) + " (tp" + std::to_string(odd) +
                          " pp0 ep0) ended while the others were at work");
  }
}

TEST(Link, ARankThatDiesBetweenTwoCollectivesIsNamed) {
  const auto ends = world_with(4, 1, [](Link& link) -> Status {
    BV_CHECK(whole_world(link).barrier("the first meeting"));
    throw std::runtime_error("died");
  });
  expect_all_others(ends, 1, Code::RankLost, "rank 1 (tp1 pp0 ep0) ended");
}

TEST(Link, ARankThatHangsIsNamedByAllAndNobodyWaitsForEver) {
  const auto ends = world_with(4, 2, [](Link&) -> Status {
    std::this_thread::sleep_for(4 * kLinkPatience);
    return Done{};
  });
  expect_all_others(ends, 2, Code::RankLost, "rank 2 (tp2 pp0 ep0) does not move for 0.4 s");
}

TEST(Link, TheEndOfAChainOfWaitingRanksIsNamedNotTheNextOne) {
  const auto ends = run_world(3, kLinkPatience, [](Link& link) -> Status {
    if (link.rank() == 2) {
      std::this_thread::sleep_for(4 * kLinkPatience);
      return Done{};
    }
    BV_CHECK(link.receive(link.rank() + 1, "a word"));  // 0 waits for 1, 1 for 2
    return link.send(0, "a word", {});
  });
  EXPECT_THAT(ends[0].error().message, HasSubstr("rank 2 does not move"));
  EXPECT_THAT(ends[1].error().message, HasSubstr("rank 2 does not move"));
}

TEST(Link, ARankThatWorksLongerThanThePatienceAndMovesIsWaitedFor) {
  const auto ends = world_with(3, 1, [](Link& link) -> Status {
    for (int i = 0; i < 12; ++i) {
      std::this_thread::sleep_for(kLinkPatience / 4);
      link.advance();
    }
    Group world = whole_world(link);
    BV_CHECK(world.barrier("the first meeting"));
    return world.barrier("the second meeting");
  });
  for (const Status& end : ends) {
    EXPECT_TRUE(end) << end.error().message;
  }
}

TEST(Link, ARankThatDoesSomethingElseIsNamedWithBothPlaces) {
  const auto ends = world_with(
      4, 3, [](Link& link) -> Status { return whole_world(link).barrier("another meeting"); });
  for (const Status& end : ends) {
    ASSERT_FALSE(end);
    EXPECT_EQ(end.error().code, Code::RankDiverged);
    EXPECT_THAT(end.error().message, HasSubstr("does something else than"));
    EXPECT_THAT(end.error().found + end.error().wanted, HasSubstr("another meeting"));
    EXPECT_THAT(end.error().found + end.error().wanted, HasSubstr("the first meeting"));
  }
}

TEST(Link, ARankThatEndsEarlyIsNamed) {
  const auto ends = world_with(3, 1, [](Link&) -> Status { return Done{}; });
  expect_all_others(ends, 1, Code::RankDiverged, "rank 1 (tp1 pp0 ep0) is finished");
}

TEST(Link, RanksThatWaitForEachOtherAreToldSo) {
  const auto ends = run_world(2, kLinkPatience, [](Link& link) -> Status {
    BV_CHECK(link.receive(1 - link.rank(), "from " + std::to_string(1 - link.rank())));
    return Done{};
  });
  for (const Status& end : ends) {
    EXPECT_EQ(end.error().code, Code::RankDiverged);
    EXPECT_THAT(end.error().message, HasSubstr("and that one waits too"));
  }
}

TEST(Ending, GivesAllRanksTheWordOfRankZero) {
  for (const Status& end : run_world(4, kLinkPatience, [](Link& link) -> Status {
         BV_TRY(word, link.last_word(link.rank() == 0 ? "3" : "0"));
         EXPECT_EQ(word, "3") << link.rank();
         return Done{};
       })) {
    EXPECT_TRUE(end) << end.error().message;
  }
}

/// Nothing is said before all are done, and nobody who is done leaves meanwhile.
TEST(Ending, ARankThatIsLostBeforeItIsDoneIsNamedByAll) {
  for (const bool dies : {true, false}) {
    const auto ends = run_world(4, kLinkPatience, [&](Link& link) -> Status {
      link.name_coordinates(coordinates(4));
      if (link.rank() == 2) {
        std::this_thread::sleep_for(dies ? kLinkPatience / 4 : 5 * kLinkPatience);
        throw std::runtime_error("died");
      }
      BV_CHECK(link.last_word("0"));
      return Done{};
    });
    expect_all_others(
        ends, 2, Code::RankLost,
        std::string("rank 2 (tp2 pp0 ep0) ") + (dies ? "ended" : "does not move for 0.4 s"));
  }
}

TEST(Ending, ARankThatIsLostAfterItIsDoneTakesNothingFromTheOthers) {
  const auto ends = run_world(4, kLinkPatience, [](Link& link) -> Status {
    if (link.rank() == 2) {
      BV_CHECK(link.all_done());
      std::this_thread::sleep_for(kLinkPatience / 4);
      throw std::runtime_error("died");
    }
    if (link.rank() == 0) {
      BV_CHECK(link.all_done());
      std::this_thread::sleep_for(kLinkPatience / 2);  // it writes reports
    }
    BV_TRY(word, link.last_word("0"));
    EXPECT_EQ(word, "0");
    return Done{};
  });
  for (const int rank : {0, 1, 3}) {
    EXPECT_TRUE(ends[static_cast<std::size_t>(rank)]) << rank;
  }
}

TEST(Ending, ARankZeroThatIsLostBeforeItsWordIsNamedByAll) {
  for (const bool dies : {true, false}) {
    const auto ends = run_world(4, kLinkPatience, [&](Link& link) -> Status {
      link.name_coordinates(coordinates(4));
      if (link.rank() == 0) {
        BV_CHECK(link.all_done());
        std::this_thread::sleep_for(dies ? Milliseconds(0) : 5 * kLinkPatience);
        throw std::runtime_error("died");
      }
      BV_CHECK(link.last_word("0"));
      return Done{};
    });
    expect_all_others(
        ends, 0, Code::RankLost,
        std::string("rank 0 (tp0 pp0 ep0) ") + (dies ? "ended" : "does not move for 0.4 s"));
  }
}

TEST(Ending, AnErrorOfARankThatIsNotDoneIsToldToThoseThatAre) {
  const auto ends = run_world(3, kLinkPatience, [](Link& link) -> Status {
    if (link.rank() == 2) {
      std::this_thread::sleep_for(kLinkPatience / 4);
      return fail(Code::ReadFailed, "w.safetensors cannot be read");
    }
    BV_CHECK(link.last_word("0"));
    return Done{};
  });
  expect_all_others(ends, 2, Code::ReadFailed, "rank 2 stopped: w.safetensors cannot be read");
}

TEST(Link, AnErrorOfOneRankStopsAllAndSaysWhoseItIs) {
  const auto ends = world_with(3, 2, [](Link&) -> Status {
    return fail(Code::ReadFailed, "w.safetensors cannot be read").advise("look at the disk");
  });
  expect_all_others(ends, 2, Code::ReadFailed,
                    "rank 2 (tp2 pp0 ep0) stopped: w.safetensors cannot be read");
  EXPECT_EQ(ends[0].error().help, "look at the disk");
}

}  // namespace
}  // namespace bv::comm
