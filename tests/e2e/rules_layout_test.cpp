// Rules that bring lines of notation of their own: the folder that was written with them remembers
// them.

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

ordered_json read_json(const fs::path& path) {
  std::ifstream in(path);
  return ordered_json::parse(in);
}

/// The right rules of Llama with qkv as a line in place of its kind, and shards that were written
/// with them.
class RulesLayout : public testing::Test {
 protected:
  void SetUp() override {
    ordered_json file = read_json(fs::path(BV_FIXTURES) / "rules" / "llama.rules.json");
    int changed = 0;
    for (ordered_json& rule : file["rules"]) {
      if (rule["hf"].is_object() && rule["hf"].contains("q")) {
        rule.erase("kind");
        rule["layout"] =
            "q[(g n d) ...], k[(g d) ...], v[(g d) ...] -> w[(g (q: n d | k: d | v: d)) ...] "
            "cut 0 by t";
        rule["axes"] = {
            {"g", "num_query_groups"}, {"n", "s0d0 / s1d0"}, {"d", "s1d0 / num_query_groups"}};
        ++changed;
      }
    }
    ASSERT_EQ(changed, 1);
    write_text(folder / "r.json", file.dump(1));
    const Ended there = run({"convert", "--to", "megatron", "--model", golden_hf("llama").string(),
                             "--rules", folder / "r.json", "--tp", "2", "--out", folder / "s"});
    ASSERT_EQ(there.code, 0) << there.all();
    fs::remove(folder / "r.json");
  }
  TempFolder folder;
};

TEST_F(RulesLayout, TheWayBackNeedsNoRules) {
  const Ended back = run({"convert", "--to", "hf", "--model", folder / "s", "--out", folder / "b"});
  ASSERT_EQ(back.code, 0) << back.all();
  const Ended equal = run({"diff", golden_hf("llama").string(), folder / "b"});
  EXPECT_EQ(equal.code, 0) << equal.all();
}

TEST_F(RulesLayout, TraceAndLayoutKnowTheLinesOfTheFolder) {
  const std::string parameter = "decoder.layers.0.self_attention.linear_qkv.weight";
  const Ended traced = run({"trace", "--model", folder / "s", parameter, "0"});
  EXPECT_EQ(traced.code, 0) << traced.all();
  EXPECT_NE(traced.out.find("model.layers.0.self_attn.q_proj.weight"), std::string::npos)
      << traced.out;
  const Ended laid = run({"layout", "--model", folder / "s", "--rank", "1"});
  EXPECT_EQ(laid.code, 0) << laid.all();
}

/// What the manifest does not vouch for is told as before.
TEST_F(RulesLayout, RulesThatChangedAreNamed) {
  write_text(folder / "s/rules.json", "{");
  const Ended broken =
      run({"convert", "--to", "hf", "--model", folder / "s", "--out", folder / "b"});
  EXPECT_NE(broken.code, 0) << broken.all();
  EXPECT_NE(broken.all().find("rules.json"), std::string::npos) << broken.all();
  EXPECT_FALSE(fs::exists(folder / "b"));
}

}  // namespace
}  // namespace bv::e2e
