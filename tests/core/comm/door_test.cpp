// A world that comes together while something is wrong: every rank ends in time, and what it says
// names who does not fit.

#include "core/comm/door.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>

#include "core/comm/group.hpp"
#include "tests/core/comm/socket_world.hpp"

namespace bv::comm {
namespace {

using ::testing::HasSubstr;

constexpr Milliseconds kDoorPatience{1500};

std::vector<Status> ends_of(const std::vector<Launch>& all) {
  return on_sockets(all, kDoorPatience,
                    [](Link& link) -> Status { return whole_world(link).barrier("the meeting"); });
}

std::vector<Launch> without_name(std::vector<Launch> all) {
  for (Launch& one : all) {
    one.run.clear();
  }
  return all;
}

/// Message and facts of an error.
std::string told_by(const Status& end) {
  if (end) {
    return "";
  }
  std::string out = end.error().message;
  for (const std::string& fact : end.error().facts) {
    out += "\n" + fact;
  }
  return out;
}

TEST(Door, ARankOfAnotherVersionIsNamedByAllHoweverLateTheyCome) {
  auto all = launches(4);
  all[1].version = "2.0";
  std::vector<Status> ends(all.size(), Status(Done{}));
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < all.size(); ++i) {
    threads.emplace_back([&, i] {
      std::this_thread::sleep_for(Milliseconds(i == 3 ? 600 : 0));
      auto link = enter(all[i], kDoorPatience);
      ends[i] = link ? Status(Done{}) : Status(std::move(link).error());
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  for (const Status& end : ends) {
    ASSERT_FALSE(end);
    EXPECT_EQ(end.error().code, Code::RankDiverged);
    EXPECT_EQ(end.error().message, "rank 1 on host here runs another version than rank 0");
  }
}

TEST(Door, ARankThatIsThereTwiceIsNamed) {
  auto all = launches(3);
  all[2].rank = 1;
  for (const Status& end : ends_of(all)) {
    ASSERT_FALSE(end);
    EXPECT_EQ(end.error().code, Code::RankDiverged) << told_by(end);
    EXPECT_THAT(told_by(end), HasSubstr("rank 1 is here already"));
  }
  all = without_name(launches(3));
  all[2].rank = 1;
  const auto ends = ends_of(all);
  EXPECT_THAT(told_by(ends[0]), HasSubstr("did not come within 1.5 s: rank 2"));
  EXPECT_THAT(told_by(ends[0]), HasSubstr("rank 1 of 3 processes on host here was turned away: "
                                          "rank 1 is here already"));
  EXPECT_THAT(told_by(ends[1]) + told_by(ends[2]), HasSubstr("rank 1 is here already"));
}

TEST(Door, AProcessThatWasToldOfAnotherSizeIsNamed) {
  for (const int odd : {0, 1}) {
    auto all = launches(2);
    all[static_cast<std::size_t>(odd)].size = 3;
    for (const Status& end : ends_of(all)) {
      ASSERT_FALSE(end);
      EXPECT_EQ(end.error().code, Code::RankDiverged) << told_by(end);
      EXPECT_THAT(told_by(end),
                  HasSubstr(odd == 0 ? "rank 1 of 2 processes on host here does not belong to this "
                                       "world: this world has 3 processes"
                                     : "rank 1 of 3 processes on host here does not belong to this "
                                       "world: this world has 2 processes"));
    }
    all = without_name(all);
    for (const Status& end : ends_of(all)) {
      EXPECT_THAT(told_by(end), HasSubstr(odd == 0 ? "this world has 3 processes"
                                                   : "this world has 2 processes"));
    }
  }
}

TEST(Door, ASecondRankZeroIsNamed) {
  auto all = launches(2);
  all[1].rank = 0;
  for (const bool named : {true, false}) {
    const auto ends = ends_of(named ? all : without_name(all));
    const std::string told = told_by(ends[0]) + "\n" + told_by(ends[1]);
    if (named) {
      EXPECT_EQ(ends[0].error().code, Code::RankDiverged) << told;
      EXPECT_EQ(ends[1].error().code, Code::RankDiverged) << told;
      EXPECT_THAT(told, HasSubstr("two processes say that they are rank 0 of this world"));
    } else {
      EXPECT_THAT(told, HasSubstr("another rank 0 of 2 processes listens at port "));
    }
    EXPECT_THAT(told, HasSubstr("rank 0 is here already"));
  }
}

TEST(Door, AHostThatNobodyKnowsIsSaidByAll) {
  auto all = launches(2);
  all[0].address = all[1].address = "no-such-host.invalid";
  const auto ends = ends_of(all);
  for (const Status& end : ends) {
    EXPECT_THAT(told_by(end), HasSubstr("no-such-host.invalid of MASTER_ADDR"));
  }
  EXPECT_EQ(ends[1].error().code, Code::BadValue);
}

/// Who listens at the port of rank 0: it accepts and is silent, answers in another language, or
/// goes away. Rank 0 is at one of the ports behind it.
TEST(Door, StrangersAtThePortsOfRankZeroHoldNothingUp) {
  for (const std::string text : {"", "HTTP/1.1 400 Bad Request\r\n\r\n", "gone"}) {
    const auto taken = listen_at(0, true);
    std::atomic<bool> over{false};
    std::thread stranger([&] {
      std::vector<io::Descriptor> open;
      while (!over) {
        if (auto socket = accepted(taken->socket.number())) {
          static_cast<void>(
              send_all(socket->number(), bytes_of(text), Clock::now() + Milliseconds(100)));
          if (text != "gone") {
            open.push_back(std::move(*socket));
          }
        }
        std::this_thread::sleep_for(Milliseconds(5));
      }
    });
    auto all = launches(3);
    for (Launch& one : all) {
      one.port = taken->port;
    }
    for (const Status& end : ends_of(all)) {
      EXPECT_TRUE(end) << text << told_by(end);
    }
    all.erase(all.begin());
    for (const Status& end : ends_of(all)) {
      EXPECT_THAT(told_by(end), HasSubstr("port " + std::to_string(taken->port) +
                                          ": what listens "
                                          "there "))
          << text;
    }
    over = true;
    stranger.join();
  }
}

/// More connections than are kept, all silent.
TEST(Door, ManySilentConnectionsKeepNobodyOut) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit more = before;
  more.rlim_cur = std::min<rlim_t>(before.rlim_max, 8192);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &more), 0);
  {
    const auto all = launches(2);
    std::vector<io::Descriptor> silent;
    std::vector<Status> ends(2, Status(Done{}));
    const auto enters = [&](std::size_t i) {
      auto link = enter(all[i], Milliseconds(20000));
      ends[i] = link ? Status(Done{}) : Status(std::move(link).error());
      if (link) {
        (*link)->leave();
      }
    };
    std::thread host([&] { enters(0); });
    while (silent.size() < 1100) {
      if (auto socket = connect_to("127.0.0.1", all[0].port, Clock::now() + Milliseconds(1000))) {
        silent.push_back(std::move(*socket));
      }
    }
    std::thread guest([&] { enters(1); });
    host.join();
    guest.join();
    for (const Status& end : ends) {
      EXPECT_TRUE(end) << told_by(end);
    }
  }
  ::setrlimit(RLIMIT_NOFILE, &before);
}

/// A process that gave up and comes again is one process.
TEST(Door, ARankThatComesAgainTakesItsPlace) {
  auto all = launches(3);
  std::vector<Status> ends(all.size(), Status(Done{}));
  const auto enters = [&](std::size_t i) {
    auto link = enter(all[i], kSocketPatience);
    ends[i] = link ? whole_world(**link).barrier("the meeting") : Status(std::move(link).error());
    if (link && ends[i]) {
      (*link)->leave();
    }
  };
  std::vector<std::thread> threads;
  threads.emplace_back(enters, 0);
  {
    std::optional<io::Descriptor> first;
    while (!first) {
      first = connect_to("127.0.0.1", all[0].port, Clock::now() + kSocketPatience);
    }
    const auto soon = Clock::now() + kSocketPatience;
    ASSERT_TRUE(tell(*first, Frame::Kind::Hello, hello_of(all[1], 1), soon));
    FrameReader reader(kHelloBytesMax);
    const auto answer = frame_from(first->number(), reader, soon);
    ASSERT_TRUE(answer && answer->kind == Frame::Kind::Welcome);
  }
  threads.emplace_back(enters, 1);
  std::this_thread::sleep_for(Milliseconds(300));
  threads.emplace_back(enters, 2);
  for (std::thread& thread : threads) {
    thread.join();
  }
  for (const Status& end : ends) {
    EXPECT_TRUE(end) << told_by(end);
  }
}

}  // namespace
}  // namespace bv::comm
