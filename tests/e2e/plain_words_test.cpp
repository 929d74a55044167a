// What a reader is told: the reason with -q, the option that mends it, no noise, no secrets.

#include <gmock/gmock.h>

#include "tests/e2e/lumen.hpp"

namespace bv::e2e {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(PlainWords, QuietAndUndecidedSaysWhyInOneLine) {
  const std::string llama = golden_hf("llama").string();
  for (const auto& [more, why] : std::vector<std::pair<Words, std::string>>{
           {{"--match", "*q_proj*", "--match", "*k_proj*", "--match", "*v_proj*"}, "partial run"},
           {{"--skip", "placement"}, "claim placement was skipped"}}) {
    const Ended ended = run(Words{"check", "--model", llama, "--tp", "1", "-q"} + more);
    EXPECT_EQ(ended.code, 3) << ended.all();
    EXPECT_THAT(ended.out, HasSubstr("open     " + why)) << ended.all();
    EXPECT_EQ(std::count(ended.out.begin(), ended.out.end(), '\n'), 3) << ended.out;
  }
  const Ended green = run({"check", "--model", llama, "--tp", "1", "-q"});
  EXPECT_EQ(std::count(green.out.begin(), green.out.end(), '\n'), 1) << green.out;
}

TEST(PlainWords, AGlobFarFromEveryNameHasNoNearestOne) {
  const std::string llama = golden_hf("llama").string();
  for (const char* far : {"qa_outputs.*", "*x*", "*", "classifier.weight"}) {
    const Ended ended = run({"check", "--model", llama, "--exclude", far});
    EXPECT_THAT(ended.flat(), Not(HasSubstr("nearest name"))) << far;
  }
  for (const char* near : {"model.layers.0.mlp.up_prj.weight", "lm_heed.*", "*.q_prj.weight"}) {
    const Ended ended = run({"check", "--model", llama, "--exclude", near});
    EXPECT_EQ(ended.code, 2) << ended.all();
    EXPECT_THAT(ended.flat(), HasSubstr("the nearest name is ")) << near;
  }
}

TEST(PlainWords, FilesOfTheKernelAreNoInput) {
  const std::string secret = "hush-hush-4711";
  const std::string file = "/proc/self/environ";
  const std::string llama = golden_hf("llama").string();
  const TempFolder folder;
  std::filesystem::create_symlink(file, folder / "adapter_config.json");
  std::filesystem::create_symlink(file, folder / "config.json");
  for (const Words& line : std::vector<Words>{
           {"check", "--model", llama, "--rules", file},
           {"check", "--model", llama, "--waivers", file},
           {"check", "--headers", file},
           {"check", "--model", folder.path().string()},
           {"report", "html", file},
           {"rules", "lint", file},
           {"certify", "verify", file},
           {"fuzz", "--replay", file},
           {"check", "--model", llama, "--layouts", file},
           {"lora", "check", "--model", llama, "--adapter", folder.path().string()}}) {
    const Ended ended = run(line, {{"AAA_SECRET", secret}});
    EXPECT_NE(ended.code, 0) << line[0] << " " << line[1];
    EXPECT_THAT(ended.all(), Not(HasSubstr(secret))) << line[0] << " " << line[1];
    EXPECT_THAT(ended.all(), Not(HasSubstr("PATH="))) << line[0] << " " << line[1];
  }
  const Ended rules = run({"check", "--model", llama, "--rules", file});
  EXPECT_EQ(rules.code, 5) << rules.all();
  EXPECT_THAT(rules.flat(), HasSubstr("is not a regular file"));
}

TEST_F(Families, AnotherFamilyThanTheManifestsNamesTheOption) {
  const std::string shards = folder_ / "shards";
  ASSERT_EQ(run({"convert", "--to", "megatron", "--model", folder_ / "lumen", "--families",
                 folder_ / "families", "--tp", "1", "--out", shards})
                .code,
            0);
  write(replaced(family_of_howto(), "mlp.router.weight\", \"hf", "mlp.rooter.weight\", \"hf"));
  const Ended ended = run({"convert", "--to", "hf", "--model", shards, "--families",
                           folder_ / "families", "--out", folder_ / "back"});
  EXPECT_EQ(ended.code, 5) << ended.all();
  EXPECT_THAT(ended.flat(), HasSubstr("BV7031"));
  EXPECT_THAT(ended.flat(), HasSubstr("--families DIR"));
}

TEST_F(Families, SeveralLikeItIsNotReadAsPartOfTheSentence) {
  const Ended ended = check({"--only", "offsets"});
  EXPECT_THAT(ended.flat(), Not(HasSubstr("judges that, and")));
  EXPECT_THAT(ended.flat(), HasSubstr("judges that ("));
}

TEST_F(Families, ATableThatIsNotThereNamesTheNearest) {
  write(replaced(family_of_howto(), "\"table\": \"lumen_router\"", "\"table\": \"lumen_roter\""));
  EXPECT_THAT(check({"-q"}).flat(), HasSubstr("perhaps \"lumen_router\""));
  write(
      replaced(family_of_howto(), "\"table\": \"lumen_router\"", "\"table\": \"something_else\""));
  EXPECT_THAT(check({"-q"}).flat(), HasSubstr("a table of this file's \"tables\""));
}

}  // namespace
}  // namespace bv::e2e
