// `lora slice` in a world of processes: each writes files of its ranks, and the folder is that of
// one process.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/e2e/world.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

Words slicing_line(const std::string& name, const std::string& adapter, const std::string& tp,
                   const std::string& out) {
  return {"lora",      "slice", "--model", fixture("golden/peft/" + name + "/base"),
          "--adapter", adapter, "--tp",    tp,
          "--out",     out};
}

TEST(WorldSlice, WritesTheFolderOfOneProcess) {
  for (const char* name : {"llama_all", "qwen3_moe_named_targets"}) {
    const std::string adapter = fixture(std::string("golden/peft/") + name + "/adapter");
    for (const char* tp : {"1", "2"}) {
      const TempFolder temp;
      const Ended alone = run(slicing_line(name, adapter, tp, temp / "alone"));
      ASSERT_EQ(alone.code, 0) << alone.all();
      for (const int size : {2, 4, 8}) {
        const std::string out = temp / fmt::format("by{}", size);
        const auto ends = run_world(size, slicing_line(name, adapter, tp, out));
        for (std::size_t rank = 0; rank < ends.size(); ++rank) {
          EXPECT_EQ(ends[rank].code, 0) << name << size << ends[rank].all();
          EXPECT_EQ(rank == 0, !ends[rank].all().empty()) << ends[rank].all();
        }
        EXPECT_TRUE(contents(out) == contents(temp / "alone")) << name << tp << size;
        const auto said = [](const Ended& end, const std::string& folder) {
          std::string text = end.flat();
          for (std::size_t at = text.find(folder); at != std::string::npos;
               at = text.find(folder)) {
            text.replace(at, folder.size(), "OUT");
          }
          return text.substr(text.find("factors of"), 30);
        };
        EXPECT_EQ(said(ends[0], out), said(alone, temp / "alone"));
      }
    }
  }
}

TEST(WorldSlice, AnotherAdapterOnOneRankIsNamedAndNothingIsWritten) {
  const TempFolder temp;
  const std::string right = fixture("golden/peft/llama_all/adapter");
  fs::copy(right, temp / "other");
  auto config = nlohmann::json::parse(file_text(temp / "other/adapter_config.json"));
  config["lora_alpha"] = 7;
  write_text(temp.path() / "other/adapter_config.json", config.dump());
  for (const int odd : {0, 1, 2}) {
    const auto ends = run_world(
        3, slicing_line("llama_all", right, "2", temp / "out"),
        {{odd, {.arguments = slicing_line("llama_all", temp / "other", "2", temp / "out")}}});
    for (const Ended& end : ends) {
      EXPECT_EQ(end.code, 5) << end.all();
    }
    EXPECT_THAT(ends[0].flat(), HasSubstr("has another adapter than rank 0"));
    EXPECT_EQ(files_below(temp.path()).size(), 2U) << "the other adapter alone";
  }
}

TEST(WorldSlice, AMistakeIsToldOnce) {
  const TempFolder temp;
  const std::string adapter = fixture("golden/peft/llama_all/adapter");
  write_text(temp.path() / "full/mine", "x");
  for (const Words& line : {slicing_line("llama_all", adapter, "3", temp / "out"),
                            slicing_line("llama_all", adapter, "2", temp / "full")}) {
    const Ended alone = run(line);
    EXPECT_NE(alone.code, 0);
    const auto ends = run_world(3, line);
    for (std::size_t rank = 0; rank < ends.size(); ++rank) {
      EXPECT_EQ(ends[rank].code, alone.code) << ends[rank].all();
      EXPECT_EQ(rank == 0, !ends[rank].all().empty()) << ends[rank].all();
    }
    EXPECT_FALSE(fs::exists(temp / "out"));
  }
}

}  // namespace
}  // namespace bv::e2e
