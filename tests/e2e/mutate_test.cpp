// mutate as a user runs it: one family, its matrix in verdicts.json, and its options.

#include <nlohmann/json.hpp>

#include "tests/core/verdict/schema_check.hpp"
#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

using Json = nlohmann::ordered_json;

TEST(Mutate, PutsTheMatrixBesideTheGateIntoVerdictsJson) {
  const Ended ended = run({"mutate", "mistral", "--layout", "tp2", "--json"});
  ASSERT_EQ(ended.code, 0) << ended.all();
  const Json out = Json::parse(ended.out);
  const support::SchemaCheck schema(Json::parse(
      file_text(std::filesystem::path(BV_FIXTURES) / "../reports/schema/verdicts-1.schema.json")));
  EXPECT_EQ(schema.faults(out), std::vector<std::string>{});
  const Json& mutation = out["mutation"];
  EXPECT_EQ(mutation["survived"], 0);
  EXPECT_EQ(mutation["survivors"], Json::array());
  EXPECT_EQ(mutation["places"], 1);
  EXPECT_EQ(mutation["mutants"].get<int>(),
            mutation["killed"].get<int>() + mutation["equivalent"].get<int>());
  for (std::size_t i = 0; i < mutation["operators"].size(); ++i) {
    const Json& row = mutation["operators"][i];
    if (row["operator"] == "SWAP" && row["side"] == "(2)") {
      // Exchanged the same way in both directions: no round trip can see it, at any tolerance.
      EXPECT_GT(row["killed"], 0);
      EXPECT_EQ(mutation["gate"]["matrix"][i], (Json{0, 0, 0}));
    }
  }
}

TEST(Mutate, PlantsTheOperatorsAskedForAndWritesTheSurvivors) {
  const TempFolder folder;
  const Ended ended =
      run({"mutate", "llama_tied_kv2", "--layout", "tp2pp2", "--operators", "TIE,REPL<->SHARD",
           "--survivors", folder / "s.jsonl", "--out", folder / "report"});
  ASSERT_EQ(ended.code, 0) << ended.all();
  EXPECT_EQ(file_text(folder / "s.jsonl"), "");
  EXPECT_TRUE(Json::parse(file_text(folder / "report/verdicts.json")).contains("mutation"));
  EXPECT_NE(ended.out.find("TIE (2)"), std::string::npos) << ended.out;
  EXPECT_EQ(ended.out.find("SWAP"), std::string::npos) << ended.out;
  EXPECT_NE(ended.out.find("gate 0.02"), std::string::npos) << ended.out;
}

TEST(Mutate, RefusesAnOperatorAndASampleThatAreNone) {
  const Ended op = run({"mutate", "llama", "--operators", "SWAB"});
  EXPECT_EQ(op.code, 2) << op.all();
  EXPECT_NE(op.err.find("did you mean SWAP?"), std::string::npos) << op.err;
  const Ended sample = run({"mutate", "lama"});
  EXPECT_EQ(sample.code, 2) << sample.all();
  EXPECT_NE(sample.err.find("did you mean llama?"), std::string::npos) << sample.err;
}

}  // namespace
}  // namespace bv::e2e
