// Foreign rules that every round trip takes for right: the oracles refute them.

#include <array>

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

std::string rules_file(const std::string& part) {
  return (std::filesystem::path(BV_FIXTURES) / part).string();
}

TEST(ForeignRules, RightOnesPass) {
  for (const char* name : {"qwen3", "qwen3_moe", "qwen3_5_moe_packed"}) {
    const Ended ended = run({"check", "--model", golden_hf(name).string(), "--rules",
                             rules_file(std::string("rules/") + name + ".rules.json"), "--only",
                             "names,placement"});
    EXPECT_EQ(ended.code, 0) << name << ended.all();
  }
}

TEST(ForeignRules, WrongPlacementIsRefutedWithItsParameter) {
  for (const auto& [model, file, parameter] : std::vector<std::array<std::string, 3>>{
           {"qwen3", "swapped_gate_up", "mlp.linear_fc1.weight"},
           {"qwen3", "qkv_concat", "self_attention.linear_qkv.weight"},
           {"qwen3_5_moe_packed", "gdn_concat", "self_attention.in_proj.weight"}}) {
    const Ended ended = run({"check", "--model", golden_hf(model).string(), "--rules",
                             rules_file("broken/" + file + ".rules.json")});
    EXPECT_EQ(ended.code, 1) << file << ended.all();
    EXPECT_NE(ended.out.find("BV2006"), std::string::npos) << ended.out;
    EXPECT_NE(ended.out.find(parameter), std::string::npos) << ended.out;
  }
}

}  // namespace
}  // namespace bv::e2e
