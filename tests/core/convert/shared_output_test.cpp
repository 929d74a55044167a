// Several ranks that convert one model together: the folder of one process, both ways, and no
// folder at all when one of them is lost.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "core/checkpoint/open_model.hpp"
#include "core/comm/group.hpp"
#include "core/comm/threads.hpp"
#include "core/convert/convert.hpp"
#include "core/plan/layout_set.hpp"
#include "tests/support/golden_model.hpp"

namespace bv::convert {
namespace {

namespace fs = std::filesystem;

constexpr comm::Milliseconds kPatience{3000};

std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> out;
  for (const std::string& name : support::files_below(folder)) {
    out[name] = support::file_text(folder / name);
  }
  return out;
}

Status convert_on(comm::Link* world, const checkpoint::HfModel& source,
                  const parallel::Layout& layout, const fs::path& out) {
  ConvertOptions options;
  options.world = world;
  BV_CHECK(to_megatron(source, support::catalogue(), layout, out, options));
  return Done{};
}

Status back_on(comm::Link* world, const fs::path& shards, const fs::path& out) {
  BV_TRY(folder, checkpoint::open_megatron(shards, support::families(), support::catalogue()));
  ConvertOptions options;
  options.world = world;
  BV_CHECK(to_hf(folder, support::catalogue(), out, options));
  return Done{};
}

TEST(SharedOutput, IsTheFolderOfOneProcessBothWays) {
  for (const char* name : {"llama", "qwen3_moe"}) {
    const checkpoint::HfModel source = support::open_golden(name);
    const auto layout = plan::with_padding(source.model, {.tp = 2, .pp = 2});
    const support::TempFolder temp;
    ASSERT_TRUE(convert_on(nullptr, source, layout, temp.path() / "alone"));
    ASSERT_TRUE(back_on(nullptr, temp.path() / "alone", temp.path() / "back"));
    for (const int size : {1, 2, 3, 4, 7}) {
      const fs::path shards = temp.path() / ("shards" + std::to_string(size));
      const fs::path hf = temp.path() / ("hf" + std::to_string(size));
      for (const Status& end : comm::run_world(size, kPatience, [&](comm::Link& link) -> Status {
             BV_CHECK(convert_on(&link, source, layout, shards));
             BV_CHECK(comm::whole_world(link).barrier("between"));
             return back_on(&link, shards, hf);
           })) {
        ASSERT_TRUE(end) << size << end.error().message;
      }
      EXPECT_TRUE(contents(shards) == contents(temp.path() / "alone")) << name << size;
      EXPECT_TRUE(contents(hf) == contents(temp.path() / "back")) << name << size;
    }
  }
}

TEST(SharedOutput, DoesNotAppearWhenARankIsLost) {
  const checkpoint::HfModel source = support::open_golden("llama");
  const auto layout = plan::with_padding(source.model, {.tp = 2, .pp = 2});
  for (const int odd : {0, 3}) {
    const support::TempFolder temp;
    const auto ends = comm::run_world(4, kPatience, [&](comm::Link& link) -> Status {
      if (link.rank() == odd) {
        throw std::runtime_error("killed");
      }
      return convert_on(&link, source, layout, temp.path() / "out");
    });
    for (std::size_t rank = 0; rank < ends.size(); ++rank) {
      ASSERT_FALSE(ends[rank]);
      if (static_cast<int>(rank) != odd) {
        EXPECT_EQ(ends[rank].error().code, Code::RankLost) << ends[rank].error().message;
      }
    }
    EXPECT_FALSE(fs::exists(temp.path() / "out"));
  }
}

TEST(SharedOutput, TheErrorOfTheHostReachesAll) {
  const checkpoint::HfModel source = support::open_golden("llama");
  const auto layout = plan::with_padding(source.model, {.tp = 2});
  const support::TempFolder temp;
  support::write_text(temp.path() / "out" / "mine.txt", "somebody's own");
  for (const Status& end : comm::run_world(3, kPatience, [&](comm::Link& link) {
         return convert_on(&link, source, layout, temp.path() / "out");
       })) {
    ASSERT_FALSE(end);
    EXPECT_THAT(end.error().message, ::testing::HasSubstr("out"));
  }
  EXPECT_EQ(support::files_below(temp.path() / "out"), std::vector<std::string>{"mine.txt"});
}

}  // namespace
}  // namespace bv::convert
