// Nothing green that no evidence stands behind: verdict files that lie, patterns that name nothing.

#include <fmt/format.h>

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

class Evidence : public testing::Test {
 protected:
  std::string at(const std::string& name) const { return folder / name; }
  TempFolder folder;
};

Json& first_of(Json& json, const char* claim) {
  for (Json& verdict : json.at("verdicts")) {
    if (verdict.at("claim") == claim) {
      return verdict;
    }
  }
  ADD_FAILURE() << claim;
  return json.at("verdicts").front();
}

/// Every field that follows from others is held against them.
TEST_F(Evidence, AFileOfVerdictsThatContradictsItselfIsRefused) {
  ASSERT_EQ(run({"roundtrip", "--model", "fixture:llama", "--layouts", "all", "--max-ranks", "8",
                 "--out", at("v")})
                .code,
            0);
  const Json whole = Json::parse(file_text(at("v/verdicts.json")));
  const auto certified = [&](const Json& json) {
    write_text(at("forged.json"), json.dump());
    return run({"certify", at("forged.json"), "--out", at("c.gz")});
  };
  ASSERT_EQ(certified(whole).code, 0) << certified(whole).all();
  fs::remove(at("c.gz"));
  const std::vector<std::pair<std::string, std::function<void(Json&)>>> lies = {
      {"status", [](Json& j) { j["status"] = "partial"; }},
      {"result.word", [](Json& j) { j["result"]["word"] = "FAIL"; }},
      {"result.exit_code", [](Json& j) { j["result"]["exit_code"] = 1; }},
      {"result.undecided", [](Json& j) { j["result"]["undecided"] = {"nothing"}; }},
      {"subjects", [](Json& j) { j["claims"][0]["subjects"] = 100000; }},
      {"claims", [](Json& j) { j["claims"].erase(0); }},
      {"layouts", [](Json& j) { j["layouts"][0]["tp"] = 64; }},
      {"one of layouts", [](Json& j) { j["layouts"].erase(0); }},
      {"subjects", [](Json& j) { first_of(j, "names")["cases"] = 7000; }},
      {"refuted_cases", [](Json& j) { first_of(j, "names")["refuted_cases"] = 1; }},
      {"evidence", [](Json& j) { first_of(j, "names")["evidence"] = "-------"; }},
      {"waiver", [](Json& j) { first_of(j, "names")["waiver"] = "w.toml:1:1"; }},
      {"waiver", [](Json& j) { first_of(j, "names")["evidence"] = "P-----W"; }},
      {"result.counts", [](Json& j) { first_of(j, "names")["outcome"] = "Held"; }},
      {"model.tensors", [](Json& j) { j["model"]["tensors"] = 1; }},
      {"the id says",
       [](Json& j) {
         j["layouts"][0]["ep"] = 2;
         j["layouts"][0]["ranks"] = 2;
       }},
  };
  for (const auto& [says, lie] : lies) {
    Json json = whole;
    lie(json);
    const Ended ended = certified(json);
    EXPECT_EQ(ended.code, 5) << says << ended.all();
    EXPECT_NE(ended.flat().find(says), std::string::npos) << says << ended.all();
    EXPECT_FALSE(fs::exists(at("c.gz"))) << says;
  }
}

TEST_F(Evidence, ACertificateSpeaksOfEveryLayoutThatItNames) {
  ASSERT_EQ(
      run({"roundtrip", "--model", "fixture:llama", "--layouts", "all", "--out", at("v")}).code, 0);
  Json json = Json::parse(file_text(at("v/verdicts.json")));
  Json row = json.at("layouts").front();
  row["id"] = "tp1pp1ep1etp1cp64";
  row["cp"] = 64;
  row["tp"] = row["pp"] = row["ep"] = row["etp"] = 1;
  json.at("layouts").push_back(row);
  write_text(at("more.json"), json.dump());
  const Ended ended = run({"certify", at("more.json"), "--out", at("c.gz")});
  EXPECT_EQ(ended.code, 2) << ended.all();
  EXPECT_NE(ended.flat().find("says nothing of layout tp1pp1ep1etp1cp64"), std::string::npos)
      << ended.all();
}

/// PEFT passes over such entries; each is named with the nearest name.
TEST_F(Evidence, EntriesOfAnAdapterThatNameNothingAreNamed) {
  const fs::path golden = fs::path(BV_FIXTURES) / "golden/peft/llama_all";
  const Words check = {"check",     "--model", (golden / "base").string(), "--tp", "1",
                       "--adapter", at("a")};
  fs::copy(golden / "adapter", at("a"), fs::copy_options::recursive);
  const Ended right = run(check);
  ASSERT_EQ(right.code, 0) << right.all();
  EXPECT_EQ(right.out.find("PEFT ignores it"), std::string::npos) << right.out;
  const Json config = Json::parse(file_text(at("a/adapter_config.json")));
  const std::vector<std::tuple<std::string, Json, std::string>> entries = {
      {"rank_pattern", {{"q_porj", 6}}, "\"q_porj\""},
      {"alpha_pattern", {{"self_attn.kproj", 12}}, "\"self_attn.kproj\""},
      {"exclude_modules", {"lm_haed"}, "the nearest name is lm_head"},
      {"layers_pattern", {"blocks"}, "stands without layers_to_transform"},
      {"lora_bias", true, "holds no lora_B.bias"},
  };
  for (const auto& [key, value, says] : entries) {
    Json changed = config;
    changed[key] = value;
    write_text(at("a/adapter_config.json"), changed.dump());
    const Ended ended = run(check);
    EXPECT_NE(ended.flat().find(key + " of adapter_config.json"), std::string::npos)
        << key << ended.all();
    EXPECT_NE(ended.flat().find(says), std::string::npos) << key << ended.all();
  }
  Json targets = config;
  targets["target_modules"].push_back("q_porj");
  write_text(at("a/adapter_config.json"), targets.dump());
  EXPECT_NE(run(check).flat().find("\"q_porj\", which matches nothing of the base"),
            std::string::npos)
      << run(check).all();
}

/// A file is ours when it has the form of what is written, not when it mentions us.
TEST_F(Evidence, AReportNeverReplacesAFileOfSomebodyElse) {
  for (const char* format : {"text", "plain", "json", "jsonl", "html", "junit", "sarif", "ctrf",
                             "markdown", "github", "gitlab", "csv", "card"}) {
    const Words line = {"check",
                        "--model",
                        "fixture:qwen2",
                        "--tp",
                        "1",
                        "--report",
                        std::string(format) + "=" + at("r")};
    const std::string mine = "# how we run bridge-verify\nbridge-verify check --model m\n";
    write_text(at("r"), mine);
    const Ended refused = run(line);
    EXPECT_EQ(refused.code, 5) << format << refused.all();
    EXPECT_NE(refused.err.find("error[BV8006]"), std::string::npos) << format << refused.err;
    EXPECT_EQ(file_text(at("r")), mine) << format;
    fs::remove(at("r"));
    for (int again = 0; again < 2; ++again) {
      EXPECT_EQ(run(line).code, 0) << format << again;
    }
    const std::string other = std::string(format) == "json" ? "csv" : "json";
    EXPECT_EQ(run({"check", "--model", "fixture:qwen2", "--report", other + "=" + at("r")}).code, 5)
        << format;
    fs::remove(at("r"));
  }
  write_text(at("c.gz"), "my notes of bridge-verify");
  ASSERT_EQ(
      run({"roundtrip", "--model", "fixture:llama", "--layouts", "all", "--out", at("v")}).code, 0);
  const Words certify = {"certify", at("v/verdicts.json"), "--out", at("c.gz")};
  EXPECT_EQ(run(certify).code, 5);
  EXPECT_EQ(file_text(at("c.gz")), "my notes of bridge-verify");
  fs::remove(at("c.gz"));
  EXPECT_EQ(run(certify).code, 0);
  EXPECT_EQ(run(certify).code, 0);
  write_text(at("s"), "mine");
  EXPECT_EQ(
      run({"mutate", "llama", "--layout", "tp2", "--operators", "SWAP", "--survivors", at("s")})
          .code,
      5);
  EXPECT_EQ(file_text(at("s")), "mine");
}

// Fixtures.

/// The MTP layers stand behind the others: so do the copies that are stored with them.
TEST_F(Evidence, CopiesOfMtpLayersFollowTheNumberOfLayers) {
  for (const char* name : {"deepseek_v3/mtp", "glm4_moe/mtp"}) {
    for (const Words& more :
         {Words{"--set", "num_hidden_layers=6"}, Words{"--set", "num_hidden_layers=3"},
          Words{"--set", "num_nextn_predict_layers=1"}}) {
      Words make = {"fixture", "make", name, "--overwrite", "--out", at("f")};
      make.insert(make.end(), more.begin(), more.end());
      ASSERT_EQ(run(make).code, 0) << name << more.back() << run(make).all();
      const Ended ended = run({"check", "--model", at("f"), "--tp", "1"});
      EXPECT_EQ(ended.code, 0) << name << more.back() << ended.all();
    }
  }
}

/// Any fixture gives way to another one, and nothing else does.
TEST_F(Evidence, AFixtureTakesThePlaceOfAnotherOneAndOfNothingElse) {
  const auto make = [&](const std::string& name, const Words& more = {}) {
    Words line = {"fixture", "make", name, "--overwrite", "--out", at("f")};
    line.insert(line.end(), more.begin(), more.end());
    return run(line);
  };
  ASSERT_EQ(make("llama").code, 0);
  EXPECT_EQ(make("qwen3_moe", {"--seed", "4"}).code, 0) << make("qwen3_moe").all();
  EXPECT_EQ(make("llama", {"--set", "num_hidden_layers=2"}).code, 0);
  EXPECT_EQ(make("gemma4").code, 0) << make("gemma4").all();
  write_text(at("f/notes.txt"), "mine");
  EXPECT_EQ(make("llama").code, 5);
  EXPECT_EQ(file_text(at("f/notes.txt")), "mine");
  fs::remove(at("f/notes.txt"));
  Json config = Json::parse(file_text(at("f/config.json")));
  config["mine"] = 1;
  write_text(at("f/config.json"), config.dump());
  EXPECT_EQ(make("llama").code, 5);
}

TEST_F(Evidence, AFixtureThatIsNotTinyIsRefusedAtOnce) {
  const Ended ended =
      run({"fixture", "make", "llama", "--set", "num_hidden_layers=65536", "--out", at("f")});
  EXPECT_EQ(ended.code, 2) << ended.all();
  EXPECT_NE(ended.err.find("at most 100,000"), std::string::npos) << ended.err;
  EXPECT_FALSE(fs::exists(at("f")));
}

}  // namespace
}  // namespace bv::e2e
