// Links over sockets: the same promises as those of threads, and strangers at the door.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "core/comm/group.hpp"
#include "core/comm/rendezvous.hpp"
#include "tests/core/comm/socket_world.hpp"

namespace bv::comm {
namespace {

using ::testing::HasSubstr;

TEST(Processes, DoCollectivesOfAnySize) {
  for (const int size : {2, 4, 8}) {
    const auto ends = on_sockets(launches(size), kSocketPatience, [&](Link& link) -> Status {
      Group world = whole_world(link);
      std::vector<Bytes> parts;
      for (int i = 0; i < size; ++i) {
        parts.emplace_back(static_cast<std::size_t>(i) * 100001, std::byte{7});
      }
      BV_TRY(mine, world.scatter(size - 1, parts, "parts"));
      EXPECT_EQ(mine, parts[static_cast<std::size_t>(link.rank())]);
      BV_TRY(all, world.all_gather(mine, "parts"));
      EXPECT_EQ(all, parts);
      return world.barrier("the end");
    });
    for (const Status& end : ends) {
      EXPECT_TRUE(end) << end.error().message;
    }
  }
}

TEST(Processes, OneThatGoesAwayIsNamed) {
  for (const int odd : {0, 2}) {
    const auto ends = on_sockets(launches(4), kSocketPatience, [&](Link& link) -> Status {
      if (link.rank() == odd) {
        return fail(Code::Assertion, "gone without a word");  // on_sockets lets the link go
      }
      return whole_world(link).barrier("the meeting");
    });
    for (std::size_t rank = 0; rank < ends.size(); ++rank) {
      ASSERT_FALSE(ends[rank]);
      if (static_cast<int>(rank) != odd) {
        EXPECT_EQ(ends[rank].error().code, Code::RankLost);
        EXPECT_THAT(ends[rank].error().message,
                    HasSubstr("rank " + std::to_string(odd) + " ended"));
      }
    }
  }
}

TEST(Processes, OneThatDoesNotMoveIsNamedByAll) {
  const auto ends = on_sockets(launches(3), Milliseconds(600), [](Link& link) -> Status {
    if (link.rank() == 1) {
      std::this_thread::sleep_for(Milliseconds(2500));
      return Done{};
    }
    return whole_world(link).barrier("the meeting");
  });
  EXPECT_THAT(ends[0].error().message, HasSubstr("rank 1 does not move for 0.6 s"));
  EXPECT_THAT(ends[2].error().message, HasSubstr("rank 1 does not move for 0.6 s"));
}

TEST(Processes, OneThatStopsWhileTheWorldComesTogetherIsNamedAndNotTheOnesThatMissIt) {
  for (const int odd : {1, 2, 3}) {
    auto all = launches(4);
    const Launch stopped = all[static_cast<std::size_t>(odd)];
    std::vector<Status> ends(all.size(), Status(Done{}));
    std::vector<std::thread> threads;
    std::atomic<bool> over{false};
    for (std::size_t i = 0; i < all.size(); ++i) {
      threads.emplace_back([&, i] {
        if (static_cast<int>(i) == odd) {  // it says who it is, and not a word more
          const auto listener = listen_at(0, true);
          std::optional<io::Descriptor> socket;
          while (!socket) {
            socket = connect_to(stopped.address, stopped.port, Clock::now() + kSocketPatience);
          }
          const Fields hello = {
              {"rank", std::to_string(odd)}, {"size", "4"},
              {"run", stopped.run},          {"version", stopped.version},
              {"host", stopped.host},        {"port", std::to_string(listener->port)}};
          EXPECT_TRUE(send_all(socket->number(),
                               encoded(Frame::Kind::Hello, "", bytes_of(fields_text(hello))),
                               Clock::now() + kSocketPatience));
          while (!over) {
            std::this_thread::sleep_for(Milliseconds(10));
          }
          return;
        }
        auto link = enter(all[i], Milliseconds(600));
        ends[i] = link ? Status(Done{}) : Status(std::move(link).error());
        over = over || i == 0;
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
    for (std::size_t i = 0; i < ends.size(); ++i) {
      if (static_cast<int>(i) != odd) {
        ASSERT_FALSE(ends[i]) << i;
        EXPECT_EQ(ends[i].error().code, Code::RankLost);
        EXPECT_THAT(ends[i].error().message, HasSubstr("rank " + std::to_string(odd) +
                                                       " on host here went away or stopped"));
      }
    }
  }
}

/// Rank 0 is cut off after the first of the others has heard its word: the first tells the rest.
TEST(Processes, AWordThatOneHasHeardIsTheWordOfAll) {
  constexpr int kSize = 4;
  const auto all = launches(kSize);
  std::vector<std::string> words(kSize);
  std::vector<std::thread> threads;
  threads.emplace_back([&] {  // rank 0: every message of the ending, to rank 2 alone
    auto peers = meet(all[0], kSocketPatience);
    ASSERT_TRUE(peers) << peers.error().message;
    for (int rank = 1; rank < kSize; ++rank) {
      Peer& peer = (*peers)[static_cast<std::size_t>(rank)];
      EXPECT_TRUE(frame_from(peer.socket.number(), peer.reader, Clock::now() + kSocketPatience));
    }
    EXPECT_TRUE(send_all((*peers)[2].socket.number(), encoded(Frame::Kind::Left, "", bytes_of("3")),
                         Clock::now() + kSocketPatience));
  });
  for (int rank = 1; rank < kSize; ++rank) {
    threads.emplace_back([&, rank] {
      const auto at = static_cast<std::size_t>(rank);
      auto link = enter(all[at], kSocketPatience);
      ASSERT_TRUE(link) << link.error().message;
      if (const auto word = (*link)->last_word("0")) {
        words[at] = *word;
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(words, (std::vector<std::string>{"", "3", "3", "3"}));
}

TEST(Processes, OneThatFailsTellsTheOthersWhy) {
  const auto ends = on_sockets(launches(3), kSocketPatience, [](Link& link) -> Status {
    if (link.rank() == 2) {
      return fail(Code::ModelNotFound, "no such folder").advise("mount it");
    }
    return whole_world(link).barrier("the meeting");
  });
  EXPECT_THAT(ends[0].error().message, HasSubstr("rank 2 stopped: no such folder"));
  EXPECT_EQ(ends[1].error().help, "mount it");
}

/// At once, and not at its next meeting; one whose work is done takes nothing from the others.
TEST(Processes, OneThatWorksSeesThatAnotherHasFailed) {
  const auto ends = on_sockets(launches(3), kSocketPatience, [](Link& link) -> Status {
    if (link.rank() == 2) {
      return fail(Code::ModelNotFound, "no such folder");
    }
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!link.world_is_broken() && std::chrono::steady_clock::now() < until) {
      std::this_thread::sleep_for(Milliseconds(5));
    }
    return link.world_is_broken() ? Status(Done{}) : Status(fail(Code::Assertion, "not seen"));
  });
  EXPECT_TRUE(ends[0]) << ends[0].error().message;
  EXPECT_TRUE(ends[1]) << ends[1].error().message;
}

TEST(Processes, OneThatIsStuckIsEndedByTheLinkWhenItsWorldHasFailed) {
  std::atomic<int> ended = -1;
  const auto ends = on_sockets(launches(2), Milliseconds(600), [&](Link& link) -> Status {
    if (link.rank() == 1) {
      return fail(Code::ModelNotFound, "no such folder");
    }
    link.when_stuck([&, rank = link.rank()] { ended = rank; });
    std::this_thread::sleep_for(Milliseconds(300));
    EXPECT_EQ(ended, -1);  // not before the patience ends
    for (int i = 0; i < 100 && ended < 0; ++i) {
      std::this_thread::sleep_for(Milliseconds(50));
    }
    return Done{};
  });
  EXPECT_EQ(ended, 0);
}

TEST(Processes, ThatDoNotComeAreListed) {
  auto all = launches(4);
  all.erase(all.begin() + 2);
  const auto ends = on_sockets(all, Milliseconds(700), [](Link&) -> Status { return Done{}; });
  for (const Status& end : ends) {
    ASSERT_FALSE(end);
    EXPECT_EQ(end.error().code, Code::RankLost);
    EXPECT_EQ(end.error().message,
              "1 of the 4 processes of this world did not come within 0.7 s: rank 2");
  }
}

TEST(Processes, OfAnotherVersionAreRefusedByName) {
  auto all = launches(2);
  all[1].version = "2.0";
  for (const Status& end :
       on_sockets(all, kSocketPatience, [](Link&) -> Status { return Done{}; })) {
    ASSERT_FALSE(end);
    EXPECT_EQ(end.error().code, Code::RankDiverged);
    EXPECT_EQ(end.error().message, "rank 1 on host here runs another version than rank 0");
  }
}

TEST(Processes, TwoWorldsWithOnePortFindTheirOwn) {
  auto all = launches(2);
  for (Launch other : launches(2)) {
    other.port = all[0].port;
    other.run = "another run";
    all.push_back(other);
  }
  for (const Status& end : on_sockets(all, Milliseconds(8000), [](Link& link) -> Status {
         return whole_world(link).barrier("the meeting");
       })) {
    EXPECT_TRUE(end) << end.error().message;
  }
}

/// Somebody else at the door: bytes of another protocol, silence, half a frame.
TEST(Processes, StrangersAtTheDoorHoldNothingUp) {
  const auto all = launches(2);
  std::thread stranger([&] {
    std::vector<io::Descriptor> open;
    for (int i = 0; i < 20; ++i) {
      const auto until = Clock::now() + Milliseconds(500);
      if (auto socket = connect_to("127.0.0.1", all[0].port, until)) {
        const std::string text = i % 3 == 0   ? "GET / HTTP/1.1\r\n\r\n"
                                 : i % 3 == 1 ? ""
                                              : std::string("BVW1\x01\0\0\0", 8);
        static_cast<void>(send_all(socket->number(), bytes_of(text), until));
        open.push_back(std::move(*socket));
      }
      std::this_thread::sleep_for(Milliseconds(10));
    }
  });
  std::this_thread::sleep_for(Milliseconds(50));
  const auto ends = on_sockets(all, Milliseconds(5000), [](Link& link) -> Status {
    return whole_world(link).barrier("the meeting");
  });
  stranger.join();
  for (const Status& end : ends) {
    EXPECT_TRUE(end) << end.error().message;
  }
}

TEST(FrameReader, GivesFramesWhateverThePiecesTheyComeIn) {
  Bytes stream;
  for (int i = 0; i < 20; ++i) {
    const Bytes one = encoded(Frame::Kind::Message, "label " + std::to_string(i),
                              Bytes(static_cast<std::size_t>(i * 37), std::byte{9}));
    stream.insert(stream.end(), one.begin(), one.end());
  }
  std::mt19937 random(7);
  for (int round = 0; round < 50; ++round) {
    FrameReader reader;
    int frames = 0;
    for (std::size_t at = 0; at < stream.size();) {
      const std::size_t size = std::min<std::size_t>(stream.size() - at, 1 + random() % 300);
      ASSERT_TRUE(reader.feed(std::span(stream).subspan(at, size)));
      at += size;
      while (auto frame = reader.next()) {
        EXPECT_EQ(frame->label, "label " + std::to_string(frames));
        EXPECT_EQ(frame->bytes.size(), static_cast<std::size_t>(frames * 37));
        ++frames;
      }
    }
    EXPECT_EQ(frames, 20);
  }
}

TEST(FrameReader, RefusesHeadsThatAreNotOurs) {
  const Bytes right = encoded(Frame::Kind::Message, "a", bytes_of("b"));
  const auto refuses = [](const Bytes& bytes) { return !FrameReader(100).feed(bytes); };
  EXPECT_FALSE(refuses(right));
  for (const auto& [at, value] :
       {std::pair(0, 0), {4, 0}, {4, 99}, {5, 1}, {10, 1}, {12, 9}, {17, 1}, {23, 0x7f}}) {
    Bytes wrong = right;
    wrong[static_cast<std::size_t>(at)] = static_cast<std::byte>(value);
    EXPECT_TRUE(refuses(wrong)) << at << " " << value;
  }
}

TEST(FrameReader, ErrorsGoThereAndBack) {
  const Error why =
      fail(Code::DiskFull, "no\nroom").at("a file").fact("one").pair("1", "2").advise("free it");
  const Error back = error_from(error_fields(why));
  EXPECT_EQ(back.code, Code::DiskFull);
  EXPECT_EQ(back.message, "no room");
  EXPECT_EQ(back.where + back.found + back.wanted + back.help + back.facts.at(0),
            "a file12free itone");
  EXPECT_EQ(error_from("nonsense").code, Code::RankLost);
}

}  // namespace
}  // namespace bv::comm
