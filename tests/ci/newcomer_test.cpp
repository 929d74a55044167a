// What somebody sees who is here for the first time and makes the usual mistakes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/ci/run_command.hpp"
#include "tests/support/golden_text.hpp"
#include "tests/support/process.hpp"

namespace bv::cli {
namespace {

namespace fs = std::filesystem;
using support::expect_golden;
using support::unwrapped;
using support::without_places;
using testing::Ended;
using ::testing::HasSubstr;
using testing::run_line;
using testing::TempFolder;

/// Both streams, as fixtures/text/newcomer/NAME.txt has them.
void expect_text(const Ended& ended, const std::string& name) {
  expect_golden("newcomer/" + name, unwrapped(without_places(ended.err + ended.out)));
}

TEST(Newcomer, ShardsWithoutManifestSayWhatIsMissingAndWhatCanBeDone) {
  const TempFolder temp;
  ASSERT_EQ(run_line({"convert", "--to", "megatron", "--model", "fixture:llama", "--tp", "2",
                      "--out", temp / "shards"})
                .code,
            0);
  fs::rename(temp / "shards/manifest.json", temp / "manifest.json");
  const Ended bare =
      run_line({"convert", "--to", "hf", "--model", temp / "shards", "--out", temp / "hf"});
  EXPECT_EQ(bare.code, 5);
  expect_text(bare, "no_manifest");
  // A config.json beside them makes them no HF model.
  fs::copy(temp / "shards/hf/config.json", temp / "shards/config.json");
  const Ended beside =
      run_line({"convert", "--to", "hf", "--model", temp / "shards", "--out", temp / "hf"});
  EXPECT_EQ(beside.code, 5);
  EXPECT_EQ(beside.err, bare.err);
  // The step that it names judges them.
  const Ended judged =
      run_line({"check", "--model", "fixture:llama", "--megatron", temp / "shards"});
  EXPECT_EQ(judged.code, 0) << judged.err << judged.out;
}

TEST(Newcomer, AnIterationThatIsNotThereIsSaidByEveryCommandThatReadsIt) {
  const TempFolder temp;
  fs::copy(testing::kGolden / "torch_dist/qwen3", temp.path() / "ckpt",
           fs::copy_options::recursive);
  testing::write_text(temp.path() / "ckpt/latest_checkpointed_iteration.txt", "500");
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"convert", "--to", "hf", "--model", temp / "ckpt", "--like", testing::hf_case("qwen3"),
            "--out", temp / "hf"},
           {"check", "--model", testing::hf_case("qwen3"), "--megatron", temp / "ckpt"},
           {"diff", testing::hf_case("qwen3"), temp / "ckpt"},
           {"inspect", "--model", temp / "ckpt"}}) {
    const Ended ended = run_line(words);
    EXPECT_EQ(ended.code, 5) << words[0] << ended.err << ended.out;
    EXPECT_THAT(unwrapped(ended.err), HasSubstr("names iter_0000500, which holds no checkpoint"));
    EXPECT_THAT(unwrapped(ended.err), HasSubstr("iter_0000000"));
  }
  fs::remove(temp / "ckpt/latest_checkpointed_iteration.txt");
  const Ended told = run_line({"diff", testing::hf_case("qwen3"), temp / "ckpt"});
  EXPECT_EQ(told.code, 0) << told.err << told.out;
  EXPECT_THAT(told.out, HasSubstr("iter_0000000 is taken, the last of 1 iteration"));
}

}  // namespace
}  // namespace bv::cli
