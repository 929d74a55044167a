// Collectives, each against the plain statement of what it gives.

#include <gtest/gtest.h>

#include "core/comm/group.hpp"
#include "core/comm/threads.hpp"

namespace bv::comm {
namespace {

constexpr Milliseconds kGroupPatience{5000};

void in_world(int size, const std::function<Status(Link&)>& work) {
  for (const Status& end : run_world(size, kGroupPatience, work)) {
    EXPECT_TRUE(end) << end.error().message;
  }
}

TEST(Group, ScatterGivesEachMemberItsPart) {
  for (const int size : {1, 2, 5}) {
    for (int root = 0; root < size; ++root) {
      in_world(size, [&](Link& link) -> Status {
        std::vector<Bytes> parts;
        for (int i = 0; link.rank() == root && i < size; ++i) {
          parts.push_back(bytes_of(std::string(static_cast<std::size_t>(i), 'x')));
        }
        BV_TRY(mine, whole_world(link).scatter(root, parts, "parts"));
        EXPECT_EQ(mine.size(), static_cast<std::size_t>(link.rank()));
        return Done{};
      });
    }
  }
}

TEST(Group, AllGatherGivesEveryMemberWhatAllGave) {
  in_world(4, [](Link& link) -> Status {
    Group odd_or_even(link, link.rank() % 2 == 0 ? std::vector<int>{0, 2} : std::vector<int>{1, 3},
                      "parity");
    BV_TRY(all, odd_or_even.all_gather(bytes_of(std::to_string(link.rank())), "names"));
    const std::string got = text_of(all[0]) + text_of(all[1]);
    EXPECT_EQ(got, link.rank() % 2 == 0 ? "02" : "13");
    return Done{};
  });
}

TEST(Group, GatherGivesTheRootAloneWhatAllGave) {
  in_world(3, [](Link& link) -> Status {
    BV_TRY(all, whole_world(link).gather(1, bytes_of(std::to_string(link.rank())), "names"));
    EXPECT_EQ(all.size(), link.rank() == 1 ? 3U : 0U);
    if (link.rank() == 1) {
      EXPECT_EQ(text_of(all[0]) + text_of(all[1]) + text_of(all[2]), "012");
    }
    return Done{};
  });
}

TEST(Group, BroadcastGivesAllTheBytesOfTheRoot) {
  in_world(3, [](Link& link) -> Status {
    BV_TRY(got, whole_world(link).broadcast(2, bytes_of(link.rank() == 2 ? "right" : "wrong"),
                                            "a word"));
    EXPECT_EQ(text_of(got), "right");
    return Done{};
  });
}

TEST(Group, BroadcastAsGivesTypeAndShapeToRanksThatDoNotKnowThem) {
  const TypedBytes sent{DType::BF16, {2, 1}, bytes_of(std::string("\x80\x3f\x00\x40", 4))};  // 1, 2
  in_world(3, [&](Link& link) -> Status {
    const TypedBytes nothing{DType::U8, {}, {}};
    BV_TRY(same, whole_world(link).broadcast_as(0, link.rank() == 0 ? sent : nothing, DType::BF16,
                                                "bits"));
    EXPECT_TRUE(same == sent);
    BV_TRY(wide, whole_world(link).broadcast_as(0, link.rank() == 0 ? sent : nothing, DType::F32,
                                                "wide"));
    const TypedBytes wanted{DType::F32, {2, 1}, bytes_of(std::string("\0\0\x80\x3f\0\0\0\x40", 8))};
    EXPECT_TRUE(wide == wanted);
    return Done{};
  });
}

TEST(Group, BroadcastAsRefusesACastThatIsNotDefinedAndATensorThatIsNotWhole) {
  for (const TypedBytes& sent :
       {TypedBytes{DType::U8, {1}, bytes_of("a")}, TypedBytes{DType::F32, {2}, bytes_of("four")}}) {
    for (const Status& end : run_world(2, kGroupPatience, [&](Link& link) -> Status {
           BV_CHECK(whole_world(link).broadcast_as(0, sent, DType::F32, "t"));
           return Done{};
         })) {
      EXPECT_FALSE(end);
    }
  }
}

}  // namespace
}  // namespace bv::comm
