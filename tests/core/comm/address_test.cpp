// Where rank 0 is, as MASTER_ADDR may say it.

#include <gtest/gtest.h>

#include "core/comm/door.hpp"
#include "core/comm/group.hpp"
#include "tests/core/comm/socket_world.hpp"

namespace bv::comm {
namespace {

TEST(Address, EveryNameOfThisHostIsReached) {
  std::vector<std::string> names = {"127.0.0.1", "127.0.1.1", "localhost"};
  if (listen_on("::1", 0)) {  // a host without IPv6 has no such name
    names.emplace_back("::1");
  }
  for (const std::string& name : names) {
    auto all = launches(4);
    for (Launch& one : all) {
      one.address = name;
    }
    for (const Status& end : on_sockets(all, kSocketPatience, [](Link& link) -> Status {
           return whole_world(link).barrier("the meeting");
         })) {
      EXPECT_TRUE(end) << name << " " << end.error().message;
    }
  }
}

TEST(Address, ThatOfThisHostAloneIsNotReachedElsewhere) {
  const auto here = listen_on("127.0.1.1", 0);
  ASSERT_TRUE(here);
  const auto soon = Clock::now() + kSocketPatience;
  EXPECT_TRUE(connect_to("127.0.1.1", here->port, soon));
  EXPECT_FALSE(connect_to("127.0.0.1", here->port, soon));
  EXPECT_FALSE(listen_on("127.0.1.1", here->port)) << "it is taken";
}

/// A process of an older version does not say its command, and less of its run.
TEST(Address, AnOlderVersionIsOfThisRunAndNamed) {
  auto all = launches(2);
  all[0].run = "none, port 1";
  Status end = Done{};
  std::thread host([&] {
    auto link = enter(all[0], kSocketPatience);
    end = link ? Status(Done{}) : Status(std::move(link).error());
  });
  const auto soon = Clock::now() + kSocketPatience;
  std::optional<io::Descriptor> socket;
  while (!socket) {
    socket = connect_to("127.0.0.1", all[0].port, soon);
  }
  const Fields hello = {{"rank", "1"},      {"size", "2"},   {"run", "none"},
                        {"version", "0.9"}, {"host", "old"}, {"port", "1"}};
  EXPECT_TRUE(tell(*socket, Frame::Kind::Hello, hello, soon));
  host.join();
  ASSERT_FALSE(end);
  EXPECT_EQ(end.error().message, "rank 1 on host old runs another version than rank 0");
}

/// Processes that nobody named know each other by what they were told to do.
TEST(Address, RunsWithoutANameDoNotMix) {
  std::vector<Launch> all = launches(2);
  for (Launch& one : all) {
    one.run.clear();
    one.command = "a";
  }
  for (Launch other : {all[0], all[1]}) {
    other.command = "b";
    all.push_back(other);
  }
  const auto ends = on_sockets(all, Milliseconds(8000), [](Link& link) -> Status {
    return whole_world(link).barrier("the meeting");
  });
  for (const Status& end : ends) {
    EXPECT_TRUE(end) << end.error().message;
  }
}

}  // namespace
}  // namespace bv::comm
