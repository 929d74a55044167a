#include "core/verdict/verdicts_json.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>

#include "tests/core/verdict/schema_check.hpp"

namespace bv {
namespace {

using support::Json;

Json schema() {
  const std::filesystem::path path =
      std::filesystem::path(BV_FIXTURES).parent_path() / "reports/schema/verdicts-1.schema.json";
  std::ifstream file(path);
  return Json::parse(file);
}

Verdict refuted() {
  Verdict bad;
  bad.claim = "placement";
  bad.rule = "r1";
  bad.kind = "column";
  bad.rule_source = "my_bridge.py:257";
  bad.rule_class = "GatedMLPMapping";
  bad.layout = "tp2pp1ep1etp2";
  bad.outcome = Outcome::Refuted;
  bad.code = Code::WrongPlacement;
  bad.evidence = {.proved = true, .oracle = true};
  bad.megatron = "decoder.layers.*.in_proj.weight";
  bad.hf = {"a.weight", "b.weight"};
  bad.cases = 3;
  bad.refuted_cases = 2;
  bad.title = "rows are on the wrong rank";
  bad.facts = {"one", "two"};
  bad.found = "a[0:4]";
  bad.wanted = "a[0:2] b[0:2]";
  bad.extent = "2 of 4 rows";
  bad.why = "cut before joining";
  bad.help = "cut each part";
  bad.replay = "bridge-verify check --model tiny";
  bad.counterexamples = {{"in_proj",
                          "tp0 pp1",
                          {2, 0},
                          {"b.weight", {0, 0}},
                          {"a.weight", {2, 0}},
                          "0x3f80",
                          "0x4000"}};
  return bad;
}

bv::Run full_run() {
  bv::Run run;
  run.tool = {"bridge-verify", "0.1.0", "0123456789ab", "cpu", "g++ 12"};
  run.command = "check";
  run.argv = {"--model", "tiny"};
  run.seed = std::numeric_limits<std::uint64_t>::max();
  run.level = "headers";
  run.model_ref = "tiny";
  run.model_source = "directory";
  run.architecture = "TinyForCausalLM";
  run.model_type = "tiny";
  run.family = "tiny";
  run.family_reason = "chosen by architecture TinyForCausalLM";
  run.tensors = 3;
  run.elements = (std::int64_t{1} << 53) + 1;
  run.bytes = std::uint64_t{1} << 53;
  run.shards = 1;
  run.rules = 2;
  run.dtypes = {{"BF16", 2}, {"F32", 1}};
  run.detected = {{"experts", "packed", "gate_up_proj present"}};
  run.layouts = {{"tp2pp1ep1etp2", 2, 1, 1, 2, 1, 1, 2, "--make-vocab-size-divisible-by 64"}};
  run.layouts_note = "1 of 1";
  run.claims = {{.claim = "placement", .title = "same rows", .subjects = 3},
                {.claim = "names", .title = "names used", .subjects = 3}};
  Verdict good;
  good.claim = "names";
  good.outcome = Outcome::Proved;
  good.evidence = {.proved = true};
  good.cases = 3;
  run.verdicts = {refuted(), good};
  run.warnings = {
      fail(Code::RuleDead, "rule r9 matches nothing").at("tiny.json:3").advise("delete it")};
  run.input_errors = {
      fail(Code::CacheIncomplete, "1 of 2 shards is missing").pair("1", "2").fact("model-2")};
  run.notes = {"a note"};
  run.next = "bridge-verify roundtrip --model tiny";
  run.next_note = "moves the bytes";
  run.seconds = 0.25;
  run.started = "2026-01-01T00:00:00Z";
  run.host = "here";
  run.cpus = 2;
  run.peak_rss = 4096;
  return run;
}

TEST(VerdictsJson, FitsItsSchema) {
  const support::SchemaCheck check(schema());
  EXPECT_EQ(check.faults(Json::parse(verdicts_json(full_run()))), std::vector<std::string>{});
  EXPECT_EQ(check.faults(Json::parse(verdicts_json(bv::Run{}))), std::vector<std::string>{});
}

TEST(VerdictsJson, SchemaSeesMissingKeysAndWrongTypes) {
  const support::SchemaCheck check(schema());
  Json changed = Json::parse(verdicts_json(full_run()));
  changed["verdicts"][0].erase("outcome");
  changed["model"]["tensors"] = 1.5;
  changed["verdicts"][1]["evidence"] = "PP";
  EXPECT_EQ(check.faults(changed).size(), 3U);
}

TEST(VerdictsJson, KeysStandInTheOrderOfTheSchema) {
  const Json rules = schema();
  const Json out = Json::parse(verdicts_json(full_run()));
  const auto keys = [](const Json& object) {
    std::vector<std::string> names;
    for (const auto& [key, value] : object.items()) {
      names.push_back(key);
    }
    return names;
  };
  EXPECT_EQ(keys(out), rules["required"].get<std::vector<std::string>>());
  EXPECT_EQ(keys(out["verdicts"][0]),
            rules["definitions"]["verdict"]["required"].get<std::vector<std::string>>());
  EXPECT_EQ(keys(out["model"]),
            rules["properties"]["model"]["required"].get<std::vector<std::string>>());
}

TEST(VerdictsJson, ReadsBackWhatItWrote) {
  const std::string text = verdicts_json(full_run());
  const auto again = read_verdicts_json(text);
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_EQ(verdicts_json(*again), text);
  EXPECT_EQ(again->seed, std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(again->verdicts[0].counterexamples[0].rank, "tp0 pp1");
  EXPECT_EQ(again->input_errors[0].code, Code::CacheIncomplete);
}

TEST(VerdictsJson, ReadsBackTheMutationMatrix) {
  bv::Run run = full_run();
  Mutation mutation;
  mutation.claims = {{"names", "headers"}, {"placement", "headers"}};
  mutation.levels = {"text", "headers", "data"};
  mutation.gate_stds = {0.006, 0.02};
  mutation.places = 2;
  mutation.rows = {{"SWAP", "", 3, 2, 1, 0, 2, {0, 2}, {0, 2, 0}, {0, 1}},
                   {"SWAP", "(2)", 3, 2, 0, 1, 0, {0, 2}, {0, 2, 0}, {0, 0}}};
  mutation.reasons = {{"one rank", 1, 1}};
  mutation.survivors = {"SWAP a (2) on llama tp2"};
  run.mutation = mutation;
  const std::string text = verdicts_json(run);
  EXPECT_EQ(support::SchemaCheck(schema()).faults(Json::parse(text)), std::vector<std::string>{});
  const Json block = Json::parse(text)["mutation"];
  EXPECT_EQ(block["mutants"], 6);
  EXPECT_EQ(block["killed"], 4);
  EXPECT_EQ(block["survived"], 1);
  EXPECT_EQ(block["gate_rt_0_1_killed"], (Json{0, 1}));
  const auto again = read_verdicts_json(text);
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_EQ(again->mutation, run.mutation);
  Json broken = Json::parse(text);
  broken["mutation"]["matrix"].erase(1);
  const auto refused = read_verdicts_json(broken.dump());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::VerdictsInvalid);
}

TEST(VerdictsJson, ReadsBackStatesThatOverlap) {
  bv::Run run = full_run();
  run.partial = true;
  run.stopped = true;
  run.stop_signal = 15;
  const std::string text = verdicts_json(run);
  const auto again = read_verdicts_json(text);
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_EQ(conclude(*again).exit_code, 143);
  EXPECT_EQ(verdicts_json(*again), text);
}

TEST(VerdictsJson, WritesLargeNumbersAsText) {
  const Json out = Json::parse(verdicts_json(full_run()));
  EXPECT_EQ(out["command"]["seed"], "18446744073709551615");
  EXPECT_EQ(out["model"]["elements"], "9007199254740993");
  EXPECT_EQ(out["model"]["bytes"], std::uint64_t{1} << 53);
}

TEST(VerdictsJson, SplitsRuleSourcesIntoFileAndLine) {
  bv::Run run = full_run();
  run.verdicts[1].rule_source = "qwen3.json: decoder rule 3";
  const Json out = Json::parse(verdicts_json(run));
  EXPECT_EQ(out["verdicts"][0]["rule"]["source"],
            Json::parse(R"({"file":"my_bridge.py","line":257,"text":"my_bridge.py:257"})"));
  EXPECT_EQ(
      out["verdicts"][1]["rule"]["source"],
      Json::parse(R"({"file":"qwen3.json","line":null,"text":"qwen3.json: decoder rule 3"})"));
  EXPECT_EQ(out["verdicts"][0]["counterexample"]["rank"], Json::parse(R"({"tp":0,"pp":1})"));
}

TEST(VerdictsJson, OnlyTheRunBlockDependsOnTheMachine) {
  bv::Run other = full_run();
  other.seconds = 9;
  other.host = "there";
  other.started = "2027-01-01T00:00:00Z";
  other.cpus = 64;
  other.peak_rss = 1;
  Json a = Json::parse(verdicts_json(full_run()));
  Json b = Json::parse(verdicts_json(other));
  EXPECT_NE(a, b);
  a.erase("run");
  b.erase("run");
  EXPECT_EQ(a.dump(), b.dump());
}

TEST(VerdictsJson, SurvivesNamesThatAreNoText) {
  bv::Run run = full_run();
  run.verdicts[0].hf = {std::string("bad\xff\x00name", 9), "</script>"};
  EXPECT_TRUE(read_verdicts_json(verdicts_json(run)).has_value());
}

TEST(VerdictsJson, KeepsDetailsOfTheFirstThousandOfACode) {
  bv::Run run = full_run();
  run.verdicts.resize(1, run.verdicts[0]);
  run.verdicts.resize(1003, run.verdicts[0]);
  const Json out = Json::parse(verdicts_json(run));
  EXPECT_EQ(out["result"]["truncated"], Json::parse(R"({"BV2006":3})"));
  EXPECT_EQ(out["verdicts"][999]["facts"].size(), 2U);
  EXPECT_EQ(out["verdicts"][1000]["facts"].size(), 0U);
  EXPECT_TRUE(out["verdicts"][1000]["counterexample"].is_null());
  EXPECT_EQ(out["verdicts"].size(), 1003U);
}

TEST(VerdictsReader, NamesWhatIsWrong) {
  const auto message = [](const std::string& text) {
    const auto run = read_verdicts_json(text, "v.json");
    EXPECT_FALSE(run.has_value()) << text;
    EXPECT_EQ(run.error().code, Code::VerdictsInvalid);
    EXPECT_FALSE(run.error().help.empty());
    return run.error().message;
  };
  EXPECT_EQ(message(""), "v.json is not JSON: the file is empty");
  EXPECT_EQ(message("{\"schema\":"), "v.json is not JSON: the file ends before its last bracket");
  EXPECT_EQ(message("[1]"), "v.json is not a verdicts file that this version reads");
  EXPECT_EQ(message("{\"schema\":\"bridge-verdicts/2\"}"),
            "v.json is not a verdicts file that this version reads");
  EXPECT_EQ(message("{\"schema\":\"bridge-verdicts/1\"}"), "v.json has no usable tool");
  EXPECT_EQ(message(std::string(100000, '[')),
            "v.json is not JSON: the file ends before its last bracket");
}

TEST(VerdictsReader, RefusesEachWrongTypeByItsPath) {
  const Json good = Json::parse(verdicts_json(full_run()));
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"/verdicts/0/outcome", "verdicts[0].outcome"}, {"/verdicts/0/cases", "verdicts[0].cases"},
      {"/verdicts/0/code", "verdicts[0].code"},       {"/layouts/0/tp", "layouts[0].tp"},
      {"/claims/0/requested", "claims[0].requested"}, {"/command/seed", "command.seed"},
      {"/model/dtypes/BF16", "model.dtypes.BF16"},    {"/run/seconds", "run.seconds"}};
  for (const auto& [pointer, path] : cases) {
    Json changed = good;
    changed[Json::json_pointer(pointer)] = Json::array({"x"});
    const auto run = read_verdicts_json(changed.dump(), "v.json");
    ASSERT_FALSE(run.has_value()) << path;
    EXPECT_EQ(run.error().message, "v.json has no usable " + path);
    EXPECT_EQ(run.error().found, "[\"x\"]");
  }
}

TEST(VerdictsReader, NeverCrashesOnACutFile) {
  const std::string text = verdicts_json(full_run());
  std::size_t read = 0;
  for (std::size_t length = 0; length < text.size() - 2; length += 7) {
    read += read_verdicts_json(text.substr(0, length)).has_value() ? 1U : 0U;
  }
  EXPECT_EQ(read, 0U);
}

TEST(VerdictsReader, IgnoresUnknownKeys) {
  Json more = Json::parse(verdicts_json(full_run()));
  more["later"] = 1;
  more["verdicts"][0]["later"] = 1;
  EXPECT_TRUE(read_verdicts_json(more.dump()).has_value());
}

}  // namespace
}  // namespace bv
