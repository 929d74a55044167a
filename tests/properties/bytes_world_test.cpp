// The claim bytes, divided among ranks: the verdicts of one process, green and red, and none when a
// rank is lost.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "core/comm/threads.hpp"
#include "core/move/executor.hpp"
#include "core/plan/layout_set.hpp"
#include "core/verdict/verdicts_json.hpp"
#include "properties/claims/catalogue.hpp"
#include "tests/support/golden_model.hpp"

namespace bv::claims {
namespace {

constexpr comm::Milliseconds kWorldPatience{5000};

/// Every parameter comes out with one wrong bit.
class WrongDevice : public move::Executor {
 public:
  Status run(std::span<const move::MoveTask> tasks) override {
    BV_CHECK(right_.run(tasks));
    for (const move::MoveTask& task : tasks) {
      task.target[0] ^= std::byte{1};
    }
    return Done{};
  }

 private:
  move::CpuExecutor right_;
};

class FailingDevice : public move::Executor {
 public:
  Status run(std::span<const move::MoveTask> /*tasks*/) override {
    return fail(Code::NoGpu, "the GPU failed while it copied").advise("look at the log");
  }
};

Subject subject_of(const checkpoint::HfModel& model, comm::Link* world, move::Executor* device) {
  Subject out;
  out.parts = {{&model}};
  out.kinds = &support::catalogue();
  for (const parallel::Layout& layout :
       {parallel::Layout{}, parallel::Layout{.tp = 2}, parallel::Layout{.tp = 2, .pp = 2}}) {
    out.layouts.push_back(plan::with_padding(model.model, layout));
  }
  out.budget.world = world;
  out.budget.device = device;
  return out;
}

std::string lines(const std::vector<Verdict>& verdicts) {
  std::string out;
  for (const Verdict& one : verdicts) {
    out += verdict_json_line(one) + "\n";
  }
  return out;
}

TEST(BytesInWorld, HaveTheVerdictsOfOneProcessGreenAndRed) {
  for (const char* name : {"llama", "qwen3_moe"}) {
    for (const bool wrong : {false, true}) {
      WrongDevice device;
      const checkpoint::HfModel model = support::open_golden(name);
      const std::string wanted =
          lines(check_bytes(subject_of(model, nullptr, wrong ? &device : nullptr)));
      EXPECT_EQ(wanted.find("\"Refuted\"") != std::string::npos, wrong) << wanted;
      for (const int size : {1, 2, 3, 8}) {
        for (const Status& end :
             comm::run_world(size, kWorldPatience, [&](comm::Link& link) -> Status {
               WrongDevice own;
               const checkpoint::HfModel opened = support::open_golden(name);
               EXPECT_EQ(lines(check_bytes(subject_of(opened, &link, wrong ? &own : nullptr))),
                         wanted)
                   << name << " rank " << link.rank() << " of " << size;
               return Done{};
             })) {
          EXPECT_TRUE(end) << end.error().message;
        }
      }
    }
  }
}

TEST(BytesInWorld, AreUndecidedWhenARankIsLost) {
  const auto ends = comm::run_world(3, kWorldPatience, [&](comm::Link& link) -> Status {
    if (link.rank() == 1) {
      throw std::runtime_error("killed");
    }
    const checkpoint::HfModel model = support::open_golden("llama");
    for (const Verdict& one : check_bytes(subject_of(model, &link, nullptr))) {
      EXPECT_EQ(one.outcome, Outcome::Inconclusive);
      EXPECT_EQ(one.code, Code::RankLost);
      EXPECT_THAT(one.title, ::testing::HasSubstr("rank 1 (tp"));
    }
    return link.failure() ? Status(*link.failure()) : Status(Done{});
  });
  EXPECT_FALSE(ends[0]);
  EXPECT_FALSE(ends[2]);
}

/// Where all fail alike it is the verdict of one process; else it says who.
TEST(BytesInWorld, NameTheRanksWhoseDeviceFails) {
  for (const std::set<int>& failing : {std::set<int>{1}, {1, 2}, {0, 1, 2}}) {
    for (const Status& end : comm::run_world(3, kWorldPatience, [&](comm::Link& link) -> Status {
           FailingDevice device;
           move::CpuExecutor right;
           const bool fails = failing.contains(link.rank());
           const checkpoint::HfModel model = support::open_golden("llama");
           Subject subject = subject_of(model, &link,
                                        fails ? static_cast<move::Executor*>(&device)
                                              : static_cast<move::Executor*>(&right));
           subject.layouts.resize(1);
           for (const Verdict& one : check_bytes(subject)) {
             EXPECT_EQ(one.outcome, Outcome::Inconclusive);
             EXPECT_EQ(one.code, Code::NoGpu);
             EXPECT_EQ(one.title.starts_with("rank 1 (tp"), failing.size() < 3) << one.title;
             EXPECT_EQ(one.facts.size(), failing.size() == 2 ? 1U : 0U);
           }
           return Done{};
         })) {
      EXPECT_TRUE(end) << end.error().message;
    }
  }
}

}  // namespace
}  // namespace bv::claims
