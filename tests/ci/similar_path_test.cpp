#include "ci/cli/session/similar_path.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/ci/run_command.hpp"

namespace bv::cli {
namespace {

namespace fs = std::filesystem;
using testing::Ended;
using ::testing::HasSubstr;
using testing::run_line;
using testing::TempFolder;

class SimilarPath : public ::testing::Test {
 protected:
  void SetUp() override {
    temp_.write("models/hf/llama/config.json", "{}");
    temp_.write("models/megatron/run/x", "");
    temp_.write("models/My_Model/config.json", "{}");
  }
  [[nodiscard]] std::string near(const std::string& path) const {
    const auto found = similar_path(temp_.path() / path);
    return found ? found->lexically_relative(temp_.path()).string() : "";
  }
  TempFolder temp_;
};

TEST_F(SimilarPath, EachMissingPartIsReplacedByTheNearestName) {
  EXPECT_EQ(near("models/hf/lama"), "models/hf/llama");
  EXPECT_EQ(near("modles/hf/llama/config.jsn"), "models/hf/llama/config.json");
  EXPECT_EQ(near("models/my-model"), "models/My_Model");
  EXPECT_EQ(near("models/hf/lama/"), "models/hf/llama");
}

TEST_F(SimilarPath, AWrongFolderIsReplacedByTheOnlyOneThatHoldsTheRest) {
  EXPECT_EQ(near("models/fh/llama"), "models/hf/llama");
  fs::create_directories(temp_.path() / "models/megatron/llama");
  EXPECT_EQ(near("models/fh/llama"), "");
}

TEST_F(SimilarPath, NothingIsSaidOfAPathThatIsThereOrNearNothing) {
  EXPECT_EQ(near("models/hf/llama"), "");
  EXPECT_EQ(near("models/hf/qwen3"), "");
  EXPECT_EQ(first_missing(temp_.path() / "models/none/x"), temp_.path() / "models/none");
}

/// A line for each option whose value is a path that is read; @ is the path that is not there.
const std::map<std::string, std::vector<std::string>, std::less<>> kLines = {
    {"model", {"check", "--model", "@"}},
    {"headers", {"check", "--headers", "@"}},
    {"rules", {"check", "--model", "fixture:llama", "--rules", "@"}},
    {"families", {"check", "--model", "fixture:llama", "--families", "@"}},
    {"megatron", {"check", "--model", "fixture:llama", "--megatron", "@"}},
    {"like", {"convert", "--to", "hf", "--model", "TORCH_DIST", "--out", "OUT", "--like", "@"}},
    {"layouts", {"check", "--model", "fixture:llama", "--layouts", "@"}},
    {"adapter", {"lora", "check", "--model", "fixture:llama", "--adapter", "@"}},
    {"against", {"check", "--model", "fixture:llama", "--against", "@"}},
    {"merged", {"lora", "check", "--model", "MODEL", "--adapter", "ADAPTER", "--merged", "@"}},
    {"slices", {"lora", "check", "--model", "MODEL", "--adapter", "ADAPTER", "--slices", "@"}},
    {"waivers", {"check", "--model", "fixture:llama", "--waivers", "@"}},
    {"baseline", {"survey", "RULES", "--baseline", "@"}},
    {"replay", {"fuzz", "--replay", "@"}},
};

TEST(SimilarPathOf, EveryOptionThatNamesAnInputIsSaid) {
  const TempFolder temp;
  fs::create_directories(temp.path() / "existing-input");
  const std::map<std::string, std::string, std::less<>> places = {
      {"@", temp / "exsting-input"},
      {"OUT", temp / "out"},
      {"TORCH_DIST", (testing::kGolden / "torch_dist/qwen3").string()},
      {"MODEL", (testing::kGolden / "peft/llama_all/base").string()},
      {"ADAPTER", (testing::kGolden / "peft/llama_all/adapter").string()},
      {"RULES", (temp.path() / "existing-input").string()}};
  for (const OptionSpec& spec : option_specs()) {
    const bool reads =
        spec.value == "REF" || spec.value.ends_with("FILE") || spec.value.ends_with("DIR");
    if (!reads || spec.name == "out" || spec.name == "dump-headers" || spec.name == "survivors" ||
        spec.name == "report") {
      continue;
    }
    const auto line = kLines.find(spec.name);
    ASSERT_NE(line, kLines.end()) << "a line for --" << spec.name;
    std::vector<std::string> words = line->second;
    for (std::string& word : words) {
      word = places.contains(word) ? places.find(word)->second : word;
    }
    const Ended ended = run_line(words);
    EXPECT_NE(ended.code, 0) << spec.name;
    EXPECT_THAT(ended.err, HasSubstr(std::string("did you mean --") + std::string(spec.name)))
        << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("existing-input?")) << ended.err;
  }
}

TEST(SimilarPathOf, EveryOperandThatNamesAnInputIsSaid) {
  const TempFolder temp;
  temp.write("verdicts.json", "{}");
  const std::string wrong = temp / "verdict.json";
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"report", "html", wrong},
                                             {"report", "merge", wrong, wrong},
                                             {"report", "diff", wrong, wrong},
                                             {"certify", wrong, "--out", temp / "x"},
                                             {"certify", "verify", wrong},
                                             {"rules", "lint", wrong},
                                             {"survey", wrong},
                                             {"diff", wrong, "fixture:llama"},
                                             {"diff", "fixture:llama", wrong}}) {
    const Ended ended = run_line(words);
    EXPECT_NE(ended.code, 0);
    EXPECT_THAT(ended.err, HasSubstr("did you mean ")) << words[0] << words[1] << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("verdicts.json?")) << ended.err;
  }
}

TEST(SimilarPathOf, APathThatStopsEarlyIsSaid) {
  const TempFolder temp;
  fs::create_directories(temp.path() / "peft");
  const Ended ended =
      run_line({"check", "--model", "fixture:llama", "--adapter", temp / "pefft/run7"});
  EXPECT_THAT(ended.err, HasSubstr("there is no " + temp / "pefft, but "));
}

TEST(SimilarPathOf, ATildeThatNoShellReplacedIsSaid) {
  const TempFolder home;
  fs::create_directories(home.path() / "m");
  const Ended ended =
      run_line({"check", "--model", "~/m"}, {{"LANG", "C.UTF-8"}, {"HOME", home.path().string()}});
  EXPECT_THAT(ended.err, HasSubstr("did you mean --model " + home / "m" + "?"));
}

TEST(SimilarPathOf, AnErrorAboutSomethingElseStaysAsItIs) {
  const TempFolder temp;
  fs::create_directories(temp.path() / "m");
  const Ended ended =
      run_line({"check", "--model", "fixture:llama", "--families", temp / "mm", "--tp", "0"});
  EXPECT_THAT(ended.err, ::testing::Not(HasSubstr("did you mean")));
}

}  // namespace
}  // namespace bv::cli
