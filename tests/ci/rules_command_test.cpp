#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "fixtures/maker/fixture.hpp"
#include "tests/ci/run_command.hpp"
#include "tests/support/process.hpp"

namespace bv::cli::testing {
namespace {

std::string rules_file(const std::string& part) {
  return (std::filesystem::path(BV_FIXTURES) / part).string();
}

TEST(RulesLint, RightRulesExitZeroAndBrokenOnesExitOneWithTheirCode) {
  EXPECT_EQ(run_line({"rules", "lint", rules_file("rules/qwen3.rules.json")}).code, 0);
  for (const auto& [file, code, exit] : std::vector<std::tuple<std::string, std::string, int>>{
           {"unknown_kind", "BV1016", 3}, {"wildcard_count", "BV1009", 1}}) {
    const Ended ended = run_line({"rules", "lint", rules_file("broken/" + file + ".rules.json")});
    EXPECT_EQ(ended.code, exit) << file;
    EXPECT_NE(ended.out.find(code), std::string::npos) << ended.out;
  }
}

TEST(RulesLint, WarningsFailOnlyWhenStrict) {
  const std::string file = rules_file("broken/wildcard_order.rules.json");
  const Ended lax = run_line({"rules", "lint", file});
  EXPECT_EQ(lax.code, 0) << lax.out;
  EXPECT_NE(lax.out.find("BV1005"), std::string::npos) << lax.out;
  EXPECT_EQ(run_line({"rules", "lint", file, "--strict"}).code, 1);
}

/// Without a model nothing is asked of one.
TEST(RulesLint, OptionsThatChangeNothingAreSaid) {
  const std::string file = rules_file("rules/qwen3.rules.json");
  for (const std::vector<std::string>& option :
       std::vector<std::vector<std::string>>{{"--drop-mtp"},
                                             {"--no-moe-grouped-gemm"},
                                             {"--transformer-impl", "local"},
                                             {"--family", "qwen3"},
                                             {"--set", "num_hidden_layers=1"},
                                             {"--exclude", "*.1.*"},
                                             {"--expert-orientation", "in_out"},
                                             {"--revision", "main"}}) {
    std::vector<std::string> line = {"rules", "lint", file};
    line.insert(line.end(), option.begin(), option.end());
    const std::string note = option[0] + " changes nothing: no model is given";
    const Ended text = run_line(line);
    EXPECT_EQ(text.code, 0) << text.err;
    EXPECT_NE(text.out.find("note     " + note + "\n"), std::string::npos) << text.out;
    line.push_back("--json");
    EXPECT_EQ(nlohmann::json::parse(run_line(line).out)["notes"], nlohmann::json::array({note}));
  }
  const Ended both = run_line({"rules", "lint", file, "--rules", file});
  EXPECT_NE(both.out.find("--rules changes nothing"), std::string::npos) << both.out;
  for (const std::vector<std::string>& line : std::vector<std::vector<std::string>>{
           {"rules", "lint", file, "--strict"},
           {"rules", "lint", "--rules", file},
           {"rules", "lint", file, "--model", hf_case("qwen3"), "--family", "qwen3"},
           {"rules", "lint", file, "-q", "--drop-mtp"}}) {
    EXPECT_EQ(run_line(line).out.find("changes nothing"), std::string::npos) << line.back();
  }
  EXPECT_FALSE(
      nlohmann::json::parse(run_line({"rules", "lint", file, "--json"}).out).contains("notes"));
}

TEST(RulesLint, WhatIsOpenPassesWhereOnlyRefutedFails) {
  const std::string file = rules_file("broken/unknown_kind.rules.json");
  EXPECT_EQ(run_line({"rules", "lint", file, "--fail-on", "inconclusive"}).code, 3);
  EXPECT_EQ(run_line({"rules", "lint", file, "--fail-on", "refuted"}).code, 0);
  EXPECT_EQ(run_line({"rules", "lint", rules_file("broken/wildcard_count.rules.json"), "--fail-on",
                      "refuted"})
                .code,
            1);
}

TEST(RulesLint, ParametersThatNoRuleMakesAreNamedWhenTheModelIsGiven) {
  const std::string file = rules_file("broken/missing_k_norm.rules.json");
  EXPECT_EQ(run_line({"rules", "lint", file}).out.find("BV1003"), std::string::npos);
  const Ended ended = run_line({"rules", "lint", file, "--model", hf_case("qwen3")});
  EXPECT_EQ(ended.code, 1) << ended.out;
  EXPECT_NE(ended.out.find("BV1003"), std::string::npos) << ended.out;
  EXPECT_NE(ended.out.find("self_attention.k_layernorm.weight"), std::string::npos) << ended.out;
  EXPECT_EQ(run_line({"rules", "lint", rules_file("rules/qwen3_moe.rules.json"), "--model",
                      hf_case("qwen3_moe")})
                .code,
            0);
}

TEST(RulesShow, TheRulesOfAFamilyAreAFileThatIsRight) {
  const TempFolder folder;
  const std::string file = (folder.path() / "mine.rules.json").string();
  for (const std::string family : {"llama", "qwen3_moe", "qwen3_5_vl_moe", "deepseek_v3", "gpt_oss",
                                   "falcon_h1", "qwen3_next", "gemma3_text", "glm4_moe"}) {
    const Ended rules = run_line({"rules", "show", family, "--as-rules"});
    ASSERT_EQ(rules.code, 0) << family << rules.err;
    write_text(file, rules.out);
    EXPECT_EQ(run_line({"rules", "lint", file}).code, 0) << family;
    const Ended ended = run_line({"check", "--model", "fixture:" + family, "--rules", file});
    EXPECT_EQ(ended.code, 0) << family << ended.out;
  }
  EXPECT_EQ(run_line({"rules", "show", "--as-rules"}).code, 2);
}

/// Of every fixture: what a family is written down as says what the family says.
TEST(RulesShow, OfEveryFixtureEndAsItsFamilyDoes) {
  const TempFolder folder;
  const std::string file = (folder.path() / "mine.rules.json").string();
  const auto fixtures = fixtures::builtin_fixtures();
  ASSERT_TRUE(fixtures.has_value());
  ASSERT_GT(fixtures->size(), 100U);
  for (const fixtures::Fixture& one : *fixtures) {
    const std::string model = "fixture:" + one.name;
    const Ended rules = run_line({"rules", "show", one.family, "--as-rules", "--model", model});
    ASSERT_EQ(rules.code, 0) << model << rules.err;
    write_text(file, rules.out);
    const Ended family = run_line({"check", "--model", model, "--tp", "1"});
    const Ended ended = run_line({"check", "--model", model, "--tp", "1", "--rules", file});
    EXPECT_EQ(ended.code, family.code) << model << ended.out << ended.err;
  }
}

/// They gave different answers about one file: copies of the embedding were "read by no rule".
TEST(RulesLint, WithAModelItSaysWhatCheckSays) {
  for (const auto& [model, file] : std::vector<std::pair<std::string, std::string>>{
           {"qwen3", "rules/qwen3"},
           {"qwen3", "broken/missing_k_norm"},
           {"qwen3", "broken/unknown_kind"},
           {"qwen3", "broken/swapped_gate_up"},
           {"qwen3_5_moe_packed", "broken/per_expert_on_packed"}}) {
    const std::string path = rules_file(file + ".rules.json");
    const Ended lint = run_line({"rules", "lint", path, "--model", hf_case(model)});
    const Ended check =
        run_line({"check", "--level", "headers", "--model", hf_case(model), "--rules", path});
    EXPECT_EQ(lint.code, check.code) << file << lint.out;
    EXPECT_EQ(lint.out, check.out) << file;
  }
}

TEST(RulesList, NamesEveryWordThatARulesFileMayUse) {
  const Ended ended = run_line({"rules", "list"});
  EXPECT_EQ(ended.code, 0);
  for (const char* name :
       {"\nQKVMapping ", "\nauto ", "\npacked_fc1 ", "\ngpt_oss_fc1 ", "\ngdn4 "}) {
    EXPECT_NE(ended.out.find(name), std::string::npos) << name;
  }
  for (const char* planted : {"column_after_concat", "hidden_first", "qkv_plain"}) {
    EXPECT_EQ(ended.out.find(planted), std::string::npos) << planted;
  }
}

TEST(RulesLint, SeveralFilesAreJudgedAndTheWorstCounts) {
  const std::string right = rules_file("rules/qwen3.rules.json");
  const std::string wrong = rules_file("broken/wildcard_count.rules.json");
  const Ended ended = run_line({"rules", "lint", right, wrong});
  EXPECT_EQ(ended.code, 1) << ended.out;
  EXPECT_NE(support::unwrapped(ended.out).find(right + ": "), std::string::npos) << ended.out;
  EXPECT_NE(support::unwrapped(ended.out).find(wrong + ": "), std::string::npos) << ended.out;
  EXPECT_EQ(run_line({"rules", "lint", right, right}).code, 0);
  EXPECT_EQ(run_line({"rules", "lint", wrong, "/nowhere/x.json"}).code, 5);
}

TEST(RulesLint, ManyFindingsOfOneCodeAreCountedNotShown) {
  const TempFolder folder;
  std::string rows;
  for (int i = 0; i < 1000; ++i) {
    rows += std::string(i == 0 ? "" : ",") + R"({"kind":"row","megatron":"a)" + std::to_string(i) +
            R"(.*","hf":"b"})";
  }
  write_text(folder.path() / "r.json", R"({"schema":"bridge-rules/1","rules":[)" + rows + "]}");
  const std::string file = (folder.path() / "r.json").string();
  const Ended ended = run_line({"rules", "lint", file});
  EXPECT_EQ(ended.code, 1);
  EXPECT_NE(ended.out.find("992 more of BV1009 are not shown"), std::string::npos) << ended.out;
  EXPECT_NE(ended.out.find("1,000 rules, 1,000 errors, 0 warnings"), std::string::npos)
      << ended.out;
  EXPECT_LT(ended.out.size(), 8000U);
}

TEST(RulesLint, AFileThatIsNoRulesFileExitsFive) {
  EXPECT_EQ(run_line({"rules", "lint", hf_case("qwen3") + "/config.json"}).code, 5);
  EXPECT_EQ(run_line({"rules", "lint", "/nowhere/x.json"}).code, 5);
}

TEST(RulesUnderTest, NamesAndShapesOfRightRulesAreProved) {
  for (const char* name : {"qwen3", "qwen3_next", "qwen3_moe", "qwen3_5_moe_packed"}) {
    const Ended ended = run_line({"check", "--model", hf_case(name), "--rules",
                                  rules_file(std::string("rules/") + name + ".rules.json"),
                                  "--only", "names,shapes,coverage,inverse"});
    EXPECT_EQ(ended.code, 0) << name << ended.out << ended.err;
  }
}

TEST(RulesUnderTest, WrongNamesAreRefutedWithCodeAndTensor) {
  const Ended missing = run_line({"check", "--model", hf_case("qwen3"), "--rules",
                                  rules_file("broken/missing_k_norm.rules.json")});
  EXPECT_EQ(missing.code, 1) << missing.out << missing.err;
  EXPECT_NE(missing.out.find("BV1003"), std::string::npos) << missing.out;
  EXPECT_NE(missing.out.find("k_layernorm"), std::string::npos) << missing.out;
  const Ended packed = run_line({"check", "--model", hf_case("qwen3_5_moe_packed"), "--rules",
                                 rules_file("broken/per_expert_on_packed.rules.json")});
  EXPECT_EQ(packed.code, 1) << packed.out << packed.err;
  EXPECT_NE(packed.out.find("BV1004"), std::string::npos) << packed.out;
}

TEST(RulesUnderTest, ExchangedNormsOfOneShapeAreRefuted) {
  const Ended ended = run_line({"check", "--model", hf_case("qwen3"), "--rules",
                                rules_file("broken/swapped_qk_norms.rules.json")});
  EXPECT_EQ(ended.code, 1) << ended.out << ended.err;
  EXPECT_NE(ended.out.find("BV1011"), std::string::npos) << ended.out;
  EXPECT_NE(ended.out.find("wanted  model.layers.0.self_attn.q_norm.weight"), std::string::npos)
      << ended.out;
}

/// One rule that is not known ended the run with exit 5.
TEST(RulesUnderTest, AnUnknownKindIsUnsupportedAndTheOtherRulesAreJudged) {
  const Ended ended = run_line({"check", "--model", hf_case("qwen3"), "--rules",
                                rules_file("broken/unknown_kind.rules.json")});
  EXPECT_EQ(ended.code, 3) << ended.out << ended.err;
  EXPECT_NE(ended.out.find("unsupported[BV1016]: rule r4 "), std::string::npos) << ended.out;
  EXPECT_NE(ended.out.find("did you mean qkv?"), std::string::npos) << ended.out;
  EXPECT_NE(ended.out.find("refuted 0  inconclusive 0  unsupported 1"), std::string::npos)
      << ended.out;
}

TEST(RulesUnderTest, TheScreenSaysWhereTheRulesComeFromAndWhatTheyAreHeldAgainst) {
  const std::string file = rules_file("rules/qwen3.rules.json");
  const Ended ended = run_line({"check", "--model", hf_case("qwen3"), "--rules", file, "--json"});
  const auto json = nlohmann::json::parse(ended.out);
  const std::string reason = json["rules"]["reason"];
  EXPECT_NE(reason.find("from " + file), std::string::npos) << reason;
  EXPECT_NE(reason.find("held against family qwen3"), std::string::npos) << reason;
  EXPECT_EQ(json["rules"]["digest"].get<std::string>().size(), 32U);
}

TEST(RulesUnderTest, AVerdictNamesTheClassOfItsRule) {
  const TempFolder folder;
  std::string rules = support::file_text(rules_file("rules/qwen3.rules.json"));
  const std::string kind = "\"kind\": \"auto\"";
  for (std::size_t at = rules.find(kind); at != std::string::npos; at = rules.find(kind, at)) {
    rules.replace(at, kind.size(), "\"class\": \"AutoMapping\"");
  }
  const std::string file = (folder.path() / "r.json").string();
  write_text(file, rules);
  const auto said = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words = {"check", "--model", hf_case("qwen3"), "--tp", "1", "--json"};
    words.insert(words.end(), more.begin(), more.end());
    std::map<std::string, int> out;
    const auto json = nlohmann::json::parse(run_line(words).out);
    for (const auto& verdict : json.at("verdicts")) {
      const auto& name = verdict.at("rule").at("class");
      ++out[name.is_null() ? "" : name.get<std::string>()];
    }
    return out;
  };
  EXPECT_GT(said({"--rules", file})["AutoMapping"], 0);
  EXPECT_EQ(said({}).size(), 1U);  // a family's rules have none
  EXPECT_EQ(said({}).begin()->first, "");
}

/// A released bridge builds a norm that the family does not have; that was a silent PASS.
/// The same of rules of somebody else, unless they list the parameters of the built model.
TEST(RulesUnderTest, WhatUpstreamBuildsOtherwiseIsNotedForRulesWithoutAList) {
  const TempFolder folder;
  const fs::path registries = fs::path(BV_FIXTURES) / "registries";
  auto rules = nlohmann::json::parse(file_text(registries / "deepseek_v3.tied.rules.json"));
  const auto checked = [&] {
    write_text(folder.path() / "r.json", rules.dump());
    return run_line({"check", "--headers",
                     (registries / "deepseek_v3.tied.headers.json.gz").string(), "--rules",
                     (folder.path() / "r.json").string(), "--only", "names"})
        .out;
  };
  EXPECT_EQ(checked().find("unties the embeddings"), std::string::npos);
  ASSERT_EQ(rules.erase("model"), 1U);
  EXPECT_NE(checked().find("unties the embeddings"), std::string::npos) << checked();
}

TEST(RulesUnderTest, WhatUpstreamBuildsOtherwiseIsNoted) {
  const Ended with = run_line({"check", "--model", hf_case("deepseek_v3"), "--only", "names"});
  EXPECT_EQ(with.out.find("linear_q_proj.layer_norm_weight"), std::string::npos) << with.out;
  const Ended without = run_line(
      {"check", "--model", hf_case("deepseek_v3"), "--set", "q_lora_rank=null", "--only", "names"});
  EXPECT_NE(without.out.find("megatron-bridge 0.6.2"), std::string::npos) << without.out;
  EXPECT_NE(without.out.find("linear_q_proj.layer_norm_weight"), std::string::npos) << without.out;
  const Ended tied = run_line({"check", "--model", hf_case("deepseek_v3"), "--set",
                               "tie_word_embeddings=true", "--only", "names"});
  EXPECT_NE(tied.out.find("unties the embeddings"), std::string::npos) << tied.out;
}

}  // namespace
}  // namespace bv::cli::testing
