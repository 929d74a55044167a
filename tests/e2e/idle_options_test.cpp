// Options that change nothing on a model are said, and stand in no line that is copied.

#include <gmock/gmock.h>

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

struct Idle {
  Words option;
  std::string because;
};
const std::vector<Idle> kOfADenseModel = {
    {{"--drop-mtp"}, "the checkpoint holds no MTP layer that the family knows"},
    {{"--expert-orientation", "in_out"}, "the model has no stacks of experts"},
    {{"--no-moe-grouped-gemm"}, "the model has no experts"},
    {{"--moe-grouped-gemm"}, "the model has no experts"},
    {{"--patience", "60"}, "there is one process"},
    {{"--seed", "3"}, "level headers draws no values"}};

std::string next_of(const std::string& text) {
  const std::size_t at = text.find("\nnext ");
  return at == std::string::npos ? "" : text.substr(at + 1, text.find('\n', at + 1) - at - 1);
}

TEST(IdleOptions, EachIsSaidOnceAndNotRepeated) {
  const std::string llama = golden_hf("llama").string();
  for (const Idle& idle : kOfADenseModel) {
    const Ended ended = run(Words{"check", "--model", llama, "--tp", "1"} + idle.option);
    EXPECT_EQ(ended.code, 0) << ended.all();
    EXPECT_THAT(ended.out, HasSubstr("note     " + idle.option[0] +
                                     " changes nothing: " + idle.because + "\n"));
    EXPECT_THAT(next_of(ended.out), HasSubstr("roundtrip")) << ended.out;
    if (idle.option[0] != "--seed") {  // roundtrip moves bytes
      EXPECT_THAT(next_of(ended.out), Not(HasSubstr(idle.option[0]))) << ended.out;
    }
  }
}

TEST(IdleOptions, LinesOfReplayLeaveThemOut) {
  const Ended ended =
      run({"check", "--model", golden_hf("llama").string(), "--tp", "1", "--set",
           "num_hidden_layers=9", "--drop-mtp", "--no-moe-grouped-gemm", "--seed", "3"});
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_THAT(ended.out, HasSubstr("= replay"));
  for (const std::string option : {" --drop-mtp", " --no-moe-grouped-gemm", " --seed"}) {
    EXPECT_THAT(ended.out, Not(HasSubstr("llama" + option)));
    const std::size_t replay = ended.out.find("= replay");
    ASSERT_NE(replay, std::string::npos) << ended.out;
    EXPECT_EQ(ended.out.substr(replay, ended.out.find('\n', replay) - replay).find(option),
              std::string::npos)
        << ended.out;
  }
}

TEST(IdleOptions, OtherCommandsSayThemToo) {
  const TempFolder folder;
  const std::string llama = golden_hf("llama").string();
  const Ended convert = run({"convert", "--to", "megatron", "--model", llama, "--tp", "1", "--out",
                             folder / "m", "--drop-mtp", "--no-moe-grouped-gemm"});
  EXPECT_EQ(convert.code, 0) << convert.all();
  EXPECT_THAT(convert.out, HasSubstr("--drop-mtp changes nothing"));
  EXPECT_THAT(convert.out, HasSubstr("--no-moe-grouped-gemm changes nothing"));
  const Ended diff = run({"diff", llama, folder / "m", "--expert-orientation", "in_out"});
  EXPECT_THAT(diff.out, HasSubstr("--expert-orientation changes nothing")) << diff.all();
}

TEST(IdleOptions, WhatChangesSomethingIsNotOne) {
  const TempFolder folder;
  ASSERT_EQ(run({"fixture", "make", "glm4_moe/mtp", "--out", folder / "glm"}).code, 0);
  const Ended ended =
      run({"check", "--model", folder / "glm", "--tp", "1", "--drop-mtp", "--no-moe-grouped-gemm"});
  EXPECT_THAT(ended.out, Not(HasSubstr("changes nothing"))) << ended.all();
  EXPECT_THAT(next_of(ended.out), HasSubstr("--drop-mtp")) << ended.out;
  const Ended data = run({"check", "--model", golden_hf("llama").string(), "--tp", "1", "--level",
                          "data", "--seed", "3"});
  EXPECT_THAT(data.out, Not(HasSubstr("changes nothing"))) << data.all();
}

/// They are for many models.
TEST(IdleOptions, OfTheEnvironmentNothingIsSaid) {
  const Ended ended = run({"check", "--model", golden_hf("llama").string(), "--tp", "1"},
                          {{"BRIDGE_VERIFY_DROP_MTP", "1"}});
  EXPECT_EQ(ended.code, 0) << ended.all();
  EXPECT_THAT(ended.out, Not(HasSubstr("changes nothing")));
}

}  // namespace
}  // namespace bv::e2e
