// Collectives by NCCL, with a library that has its functions and the driver's (fake/fake_nccl.cpp):
// the bytes are those of the link, and every way to fail is an error that says why.

#include "core/comm/nccl.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <random>

#include "core/comm/grid.hpp"
#include "core/comm/threads.hpp"

namespace bv::comm {
namespace {

using ::testing::HasSubstr;
constexpr Milliseconds kPatience{5000};
const NcclNames kFake{{BV_FAKE_NCCL}, {BV_FAKE_NCCL}};

/// A fault of the fake library while it lives.
class Fault {
 public:
  explicit Fault(const char* name) { ::setenv("FAKE_NCCL", name, 1); }
  Fault(const Fault&) = delete;
  Fault& operator=(const Fault&) = delete;
  Fault(Fault&&) = delete;
  Fault& operator=(Fault&&) = delete;
  ~Fault() { ::unsetenv("FAKE_NCCL"); }
};

std::vector<Status> in_carried_world(int size, const std::function<Status(Link&)>& work,
                                     Milliseconds patience = kPatience) {
  return run_world(size, patience, [&](Link& link) -> Status {
    BV_TRY(maker, open_nccl(link.rank(), patience, kFake));
    link.carry_by(maker);
    return work(link);
  });
}

Bytes some(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  Bytes out(count);
  for (std::byte& one : out) {
    one = static_cast<std::byte>(random());
  }
  return out;
}

TEST(Nccl, GivesTheBytesOfTheLinkForWorldsOfOneAndMany) {
  for (const int size : {1, 2, 3, 8}) {
    const auto work = [&](Link& link) -> Status {
      Group world = whole_world(link);
      for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{100003}}) {
        for (int root = 0; root < size; ++root) {
          const bool is_root = link.rank() == root;
          std::vector<Bytes> parts;
          for (int i = 0; is_root && i < size; ++i) {
            parts.push_back(
                some(count + static_cast<std::size_t>(i) * 7, static_cast<unsigned>(i)));
          }
          BV_TRY(mine, world.scatter(root, parts, "parts"));
          EXPECT_EQ(mine, some(count + static_cast<std::size_t>(link.rank()) * 7,
                               static_cast<unsigned>(link.rank())));
          BV_TRY(told, world.broadcast(root, is_root ? some(count, 99) : Bytes(), "all"));
          EXPECT_EQ(told, some(count, 99));
        }
        const std::size_t own = link.rank() % 2 == 0 ? count : 0;  // some give nothing
        BV_TRY(all, world.all_gather(some(own, static_cast<unsigned>(link.rank())), "each"));
        EXPECT_EQ(all.size(), static_cast<std::size_t>(size));
        for (int i = 0; i < size; ++i) {
          EXPECT_EQ(all[static_cast<std::size_t>(i)],
                    some(i % 2 == 0 ? count : 0, static_cast<unsigned>(i)));
        }
      }
      return Done{};
    };
    for (const Status& end : in_carried_world(size, work)) {
      EXPECT_TRUE(end) << size << ": " << end.error().message;
    }
  }
}

TEST(Nccl, GroupsOfAGridHaveCarriersOfTheirOwn) {
  parallel::Layout layout;
  layout.tp = 2;
  layout.pp = 2;
  for (const Status& end : in_carried_world(4, [&](Link& link) -> Status {
         BV_TRY(grid, grid_of(link, layout));
         BV_TRY(over_tp, grid.tp.all_gather(some(5, static_cast<unsigned>(link.rank())), "tp"));
         BV_TRY(over_pp, grid.pp.all_gather(some(9, static_cast<unsigned>(link.rank())), "pp"));
         EXPECT_EQ(over_tp.size(), 2U);
         EXPECT_EQ(over_pp.size(), 2U);
         EXPECT_EQ(over_tp[static_cast<std::size_t>(grid.tp.place())],
                   some(5, static_cast<unsigned>(link.rank())));
         return Done{};
       })) {
    EXPECT_TRUE(end) << end.error().message;
  }
}

/// Ranks that ask for different things are told apart before anything is carried.
TEST(Nccl, RanksAtDifferentPlacesAreToldApart) {
  bool diverged = false;
  for (const Status& end : in_carried_world(2, [](Link& link) -> Status {
         Group world = whole_world(link);
         BV_CHECK(world.broadcast(0, some(10, 1), link.rank() == 0 ? "weights" : "biases"));
         return Done{};
       })) {
    diverged = diverged || (!end && end.error().code == Code::RankDiverged);
  }
  EXPECT_TRUE(diverged);
}

Error failed_alone(const std::function<Status(Link&)>& work, Milliseconds patience = kPatience) {
  const auto ends = in_carried_world(1, work, patience);
  EXPECT_FALSE(ends.front());
  return ends.front() ? Error{} : ends.front().error();
}

TEST(Nccl, EveryWayToFailSaysWhy) {
  const auto broadcast = [](Link& link) -> Status {
    BV_CHECK(whole_world(link).broadcast(0, some(10, 1), "bytes"));
    return Done{};
  };
  for (const auto& [name, code, message] : {std::tuple("old", Code::NoGpu, "too old"),
                                            {"no-device", Code::NoGpu, "shows this process no GPU"},
                                            {"identity", Code::NoGpu, "NCCL does not start"},
                                            {"init", Code::RankLost, "joining the group"},
                                            {"broadcast", Code::RankLost, "a broadcast"},
                                            {"async", Code::RankLost, "a broadcast"}}) {
    const Fault fault(name);
    const Error error = failed_alone(broadcast);
    EXPECT_EQ(error.code, code) << name;
    EXPECT_THAT(error.message, HasSubstr(message)) << name;
    EXPECT_FALSE(error.help.empty()) << name;
  }
  const Fault fault("hang");
  const Error error = failed_alone(broadcast, Milliseconds(100));
  EXPECT_THAT(error.message, HasSubstr("did not end"));
  EXPECT_THAT(error.found, HasSubstr("100 ms"));
}

TEST(Nccl, ErrorsOfTheSystemAreSaidInItsWords) {
  const Fault fault("init");
  const Error error = failed_alone([](Link& link) -> Status {
    BV_CHECK(whole_world(link).broadcast(0, some(10, 1), "bytes"));
    return Done{};
  });
  EXPECT_THAT(error.found, HasSubstr("unhandled system error"));
}

/// Joining and leaving a group wait for all of it, and never end where one is gone.
TEST(Nccl, JoiningOrLeavingThatNeverEndsKeepsNobodyForEver) {
  const auto broadcast = [](Link& link) -> Status {
    BV_CHECK(whole_world(link).broadcast(0, some(10, 1), "bytes"));
    return Done{};
  };
  {
    const Fault fault("join");
    const Error error = failed_alone(broadcast, Milliseconds(100));
    EXPECT_EQ(error.code, Code::RankLost);
    EXPECT_THAT(error.message, HasSubstr("joining the group of 1 ranks did not end"));
  }
  const Fault fault("destroy");
  const auto began = std::chrono::steady_clock::now();
  EXPECT_TRUE(in_carried_world(1, broadcast, Milliseconds(100)).front());
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(5));
}

/// The rank that is gone is named, long before the patience ends; the group is not given up before
/// the thread that asks of it has stopped ("slow").
TEST(Nccl, ARankThatDiesWhileBytesAreCarriedIsNamedAtOnce) {
  for (const int odd : {0, 2}) {
    const Fault fault(odd == 0 ? "none" : "slow");
    const auto began = std::chrono::steady_clock::now();
    const auto ends = in_carried_world(
        3,
        [&](Link& link) -> Status {
          link.name_coordinates({"tp0 pp0", "tp1 pp0", "tp2 pp0"});
          Group world = whole_world(link);
          BV_CHECK(world.all_gather(some(100, 1), "the first bytes"));
          if (link.rank() == odd) {
            // It agrees on the sizes of the second, and ends before it gives its bytes.
            for (int rank = 0; rank < 3; ++rank) {
              if (rank != odd) {
                BV_CHECK(link.send(rank, "all-gather over the world of the second bytes: size",
                                   bytes_of("100")));
              }
            }
            throw std::runtime_error("died");
          }
          BV_CHECK(world.all_gather(some(100, 1), "the second bytes"));
          return Done{};
        },
        Milliseconds(60000));
    for (std::size_t rank = 0; rank < ends.size(); ++rank) {
      if (static_cast<int>(rank) != odd) {
        ASSERT_FALSE(ends[rank]) << rank;
        EXPECT_THAT(ends[rank].error().message,
                    HasSubstr("rank " + std::to_string(odd) + " (tp" + std::to_string(odd) +
                              " pp0) ended while the others were at work"));
      }
    }
    EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(20));
  }
}

TEST(Nccl, ALibraryThatIsNotThereOrLacksAFunctionIsNamed) {
  const auto opened = [](NcclNames names) {
    const auto out = open_nccl(0, kPatience, names);
    EXPECT_FALSE(out);
    return out ? Error{} : out.error();
  };
  Error error = opened({{BV_FAKE_NCCL}, {"libnowhere.so.1"}});
  EXPECT_EQ(error.code, Code::NoGpu);
  EXPECT_THAT(error.message, HasSubstr("the NVIDIA driver is not here"));
  EXPECT_THAT(error.wanted, HasSubstr("libnowhere.so.1"));
  error = opened({{"libnowhere.so.2"}, {BV_FAKE_NCCL}});
  EXPECT_THAT(error.message, HasSubstr("NCCL is not here"));
  error = opened({{"libm.so.6"}, {BV_FAKE_NCCL}});
  EXPECT_THAT(error.message, HasSubstr("NCCL lacks 13 functions"));
  EXPECT_THAT(error.found, HasSubstr("ncclCommInitRank"));
  EXPECT_EQ(opened({{BV_FAKE_NCCL}, {"libm.so.6"}}).code, Code::NoGpu);
}

/// The fake has 8: with one process more than these, or where each process sees fewer than there
/// are processes, they are counted around.
TEST(Nccl, TheGpuIsOneOfThoseThatTheProcessSees) {
  EXPECT_TRUE(open_nccl(7, kPatience, kFake));
  EXPECT_TRUE(open_nccl(8, kPatience, kFake));
}

}  // namespace
}  // namespace bv::comm
