// Whatever convert accepted and wrote passes the command that it prints as the next one, and comes
// back: every option that changes what is written, in both forms of a Megatron checkpoint.

#include <fmt/format.h>

#include <set>

#include "tests/e2e/new_model.hpp"
#include "tests/e2e/process.hpp"
#include "tests/support/shell_words.hpp"

namespace bv::e2e::written_back {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// One conversion. `gone`: what a tensor that does not come back begins with.
struct Way {
  std::string model;  // of golden/hf; "peft/NAME": base of an adapter, which is merged
  Words options;
  bool dist = true;  // the option has a meaning for torch_dist
  std::string gone = {};
  bool lossy = false;  // a cast was asked for: convert says so, and other bytes come back
};

/// Options that decide what is written, each with the ways that it is tried.
const std::map<std::string, std::vector<Way>>& ways() {
  static const Words kPipeline = {"--pp", "2"};
  static const std::map<std::string, std::vector<Way>> out = {
      {"tp", {{"llama", {"--tp", "2"}, false}}},
      {"pp", {{"qwen3", kPipeline, false}}},
      {"ep", {{"qwen3_moe", {"--ep", "2"}, false}}},
      {"etp", {{"qwen3_moe", {"--tp", "2", "--etp", "1"}, false}}},
      {"vpp", {{"llama", {"--pp", "2", "--vpp", "2"}, false}}},
      {"cp", {{"llama", {"--cp", "2"}, false}}},
      {"layout", {{"qwen3_moe", {"--layout", "tp2pp1ep2etp1"}, false}}},
      {"decoder-first-pipeline-num-layers",
       {{"llama", kPipeline + Words{"--decoder-first-pipeline-num-layers", "1"}, false}}},
      {"decoder-last-pipeline-num-layers",
       {{"llama", kPipeline + Words{"--decoder-last-pipeline-num-layers", "1"}, false}}},
      {"pipeline-model-parallel-layout",
       {{"llama", kPipeline + Words{"--pipeline-model-parallel-layout", "Et|tttL"}, false}}},
      {"account-for-embedding-in-pipeline-split",
       {{"llama",
         kPipeline + Words{"--account-for-embedding-in-pipeline-split",
                           "--account-for-loss-in-pipeline-split"},
         false}}},
      {"account-for-loss-in-pipeline-split",
       {{"llama",
         kPipeline + Words{"--account-for-embedding-in-pipeline-split",
                           "--account-for-loss-in-pipeline-split"},
         false}}},
      {"make-vocab-size-divisible-by",
       {{"llama", {"--make-vocab-size-divisible-by", "64"}},
        {"qwen3_5_dense_bf16_tied", {"--make-vocab-size-divisible-by", "96"}}}},
      {"transformer-impl",
       {{"llama", {"--transformer-impl", "local"}},
        {"qwen3", {"--transformer-impl", "local"}},
        {"qwen3_moe", {"--transformer-impl", "local"}},
        {"mixtral", {"--transformer-impl", "local"}}}},
      {"moe-grouped-gemm", {{"qwen3_moe", {"--moe-grouped-gemm"}}}},
      {"no-moe-grouped-gemm",
       {{"qwen3_moe", {"--no-moe-grouped-gemm"}},
        {"qwen3_moe", {"--no-moe-grouped-gemm", "--transformer-impl", "local"}}}},
      {"drop-mtp",
       {{"qwen3_5_dense_mtp", {"--drop-mtp"}, true, "mtp."},
        {"qwen3_5_vl_moe_mtp_packed", {"--drop-mtp"}, true, "mtp.", true}}},
      {"expert-orientation", {{"qwen3_vl_moe_transposed", {"--expert-orientation", "in_out"}}}},
      {"exclude",
       {{"llama", {"--exclude", "lm_head.weight", "--allow-partial"}, true, "lm_head.weight"}}},
      {"allow-partial",
       {{"llama", {"--exclude", "lm_head*", "--allow-partial"}, true, "lm_head.weight"}}},
      {"set",
       {{"llama",
         {"--set", "num_attention_heads=4", "--set", "head_dim=20", "--set",
          "num_key_value_heads=2"}}}},
      {"dtype",
       {{"llama", {"--dtype", "bfloat16"}, true, "", true},
        {"qwen3_5_dense_bf16_tied", {"--dtype", "float32"}},
        {"qwen3_moe", {"--dtype", "float32"}},
        {"llama", {"--dtype", "float16", "--transformer-impl", "local"}, true, "", true}}},
      {"family", {{"qwen2", {"--family", "qwen2"}}}},
      {"adapter",
       {{"peft/llama_all", {}},
        {"peft/qwen35_moe", {}},
        {"peft/llama_all", {"--transformer-impl", "local"}}}},
      {"untie", {{"peft/tied_embed", {"--untie"}}}},
  };
  return out;
}

/// These change nothing of the bytes (places, looks, gates, speed), or are tried elsewhere: rules
/// and families by WrittenBackRules.
const std::set<std::string> kOthers = {"accept-changed",
                                       "ascii",
                                       "ci",
                                       "collectives",
                                       "color",
                                       "config",
                                       "device",
                                       "exit-zero",
                                       "fail-on",
                                       "families",
                                       "follow-links",
                                       "format",
                                       "help",
                                       "jobs",
                                       "json",
                                       "like",
                                       "model",
                                       "no-color",
                                       "no-progress",
                                       "no-verify",
                                       "num-layers-per-virtual-pipeline-stage",
                                       "out",
                                       "overwrite",
                                       "patience",
                                       "progress",
                                       "quantised",
                                       "quiet",
                                       "report",
                                       "resume",
                                       "revision",
                                       "rules",
                                       "seed",
                                       "strict",
                                       "to",
                                       "verbose",
                                       "version",
                                       "waivers"};

class WrittenBack : public testing::TestWithParam<std::string> {
 protected:
  /// The line that a run prints as the next one; "" for none.
  static Words next_of(const Ended& ended) {
    const std::string line = Json::parse(ended.out).at("next").at("command").get<std::string>();
    Words words = shell_words(line);
    EXPECT_GT(words.size(), 1U) << ended.all();
    return words.empty() ? words : Words(words.begin() + 1, words.end());
  }
  static std::map<std::string, EditedTensor> tensors_in(const fs::path& model) {
    std::map<std::string, EditedTensor> out;
    for (const auto& entry : fs::directory_iterator(model)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with("model") && name.ends_with(".safetensors")) {
        out.merge(read_tensors(entry.path()));
      }
    }
    return out;
  }
  static std::string model_of(const Way& way) {
    return way.model.starts_with("peft/") ? golden(way.model + "/base").string()
                                          : golden_hf(way.model).string();
  }
  /// What must come back.
  std::string wanted_of(const Way& way) const {
    if (!way.model.starts_with("peft/")) {
      return model_of(way);
    }
    const Words untie = way.options == Words{"--untie"} ? Words{"--untie"} : Words{};
    fs::remove_all(folder / "merged");
    const Ended merged =
        run(Words{"lora", "merge", "--model", model_of(way), "--adapter",
                  golden(way.model + "/adapter").string(), "--out", folder / "merged"} +
            untie);
    EXPECT_EQ(merged.code, 0) << merged.all();
    return folder / "merged";
  }
  void go(const Way& way, const std::string& form) {
    SCOPED_TRACE(fmt::format("{} {} to {}", way.model, fmt::join(way.options, " "), form));
    fs::remove_all(folder / "o");
    fs::remove_all(folder / "h");
    Words options = way.options;
    if (way.model.starts_with("peft/")) {
      options = options + Words{"--adapter", golden(way.model + "/adapter").string()};
    }
    const Ended there = run(
        Words{"convert", "--to", form, "--model", model_of(way), "--out", folder / "o", "--json"} +
        options);
    ASSERT_EQ(there.code, way.lossy ? 1 : 0) << there.all();
    const Ended check = run(next_of(there));
    EXPECT_EQ(check.code, 0) << there.all() << check.all();

    Words home = {"convert",    "--to",  "hf",         "--model",
                  folder / "o", "--out", folder / "h", "--json"};
    if (form == "torch_dist") {
      home = home + Words{"--like", model_of(way)};
      if (way.options == Words{"--untie"}) {
        home = home + Words{"--adapter", golden(way.model + "/adapter").string()};
      }
    }
    const Words partial = way.gone.starts_with("lm_head") ? Words{"--allow-partial"} : Words{};
    const Ended back = run(home + (form == "torch_dist" ? partial : Words{}));
    ASSERT_EQ(back.code, 0) << back.all();
    const Ended same = run(next_of(back) + (form == "torch_dist" ? Words{} : partial));
    EXPECT_EQ(same.code, 0) << back.all() << same.all();
    const auto found = tensors_in(folder / "h");
    for (const auto& [name, tensor] : tensors_in(wanted_of(way))) {
      if (!way.gone.empty() && name.starts_with(way.gone)) {
        EXPECT_FALSE(found.contains(name)) << name;
      } else if (!way.lossy) {
        ASSERT_TRUE(found.contains(name)) << name;
        EXPECT_EQ(found.at(name), tensor) << name;
      }
    }
  }

  TempFolder folder;
};

TEST_P(WrittenBack, PassesWhatIsPrintedAndComesBack) {
  for (const Way& way : ways().at(GetParam())) {
    go(way, "megatron");
    if (way.dist) {
      go(way, "torch_dist");
    }
  }
}

std::vector<std::string> names() {
  std::vector<std::string> out;
  for (const auto& [name, all] : ways()) {
    out.push_back(name);
  }
  return out;
}

INSTANTIATE_TEST_SUITE_P(Options, WrittenBack, testing::ValuesIn(names()), [](const auto& one) {
  std::string out = one.param;
  std::erase(out, '-');
  return out;
});

/// An option that is new is tried, or is said to change nothing.
TEST(WrittenBackOptions, AreAllOfConvert) {
  std::istringstream lines(run({"help", "convert"}, {{"COLUMNS", "400"}}).out);
  std::set<std::string> seen;
  for (std::string line; std::getline(lines, line);) {
    constexpr std::size_t kNames = 6;  // the column of long names; other lines are texts
    if (line.find("--") == kNames) {
      seen.insert(line.substr(kNames + 2, line.find_first_of(" ,=[", kNames) - kNames - 2));
    }
  }
  EXPECT_GT(seen.size(), 40U);
  for (const std::string& name : seen) {
    EXPECT_TRUE(ways().contains(name) || kOthers.contains(name)) << name;
  }
}

/// Rules for an architecture that no family knows travel with a torch_dist checkpoint as well.
TEST(WrittenBackRules, TravelWithATorchDistCheckpoint) {
  TempFolder folder;
  nova_moe().write(folder);
  const Ended there = run({"convert", "--to", "torch_dist", "--model", folder / "m", "--rules",
                           folder / "r.json", "--out", folder / "o"});
  ASSERT_EQ(there.code, 3) << there.all();
  const Ended check = run({"check", "--model", folder / "m", "--megatron", folder / "o"});
  EXPECT_EQ(check.code, 3) << check.all();
  EXPECT_NE(check.flat().find("judged by the rules of B, rules.json"), std::string::npos)
      << check.all();
  const Ended back = run({"convert", "--to", "hf", "--model", folder / "o", "--like", folder / "m",
                          "--out", folder / "h"});
  EXPECT_EQ(back.code, 3) << back.all();
  EXPECT_EQ(read_tensors(folder / "h/model.safetensors"),
            read_tensors(folder / "m/model.safetensors"));
}

class Record : public testing::Test {
 protected:
  void edit(const std::function<void(Json&)>& change) const {
    const std::string file = folder / "o/iter_0000000/bridge-verify.json";
    Json json = Json::parse(file_text(file));
    change(json);
    write_text(file, json.dump());
  }
  Ended check(const Words& options = {}) const {
    return run(Words{"check", "--model", model, "--megatron", folder / "o"} + options);
  }
  void convert(const std::string& name, const Words& options) {
    model = golden_hf(name).string();
    fs::remove_all(folder / "o");
    const Ended ended = run(
        Words{"convert", "--to", "torch_dist", "--model", model, "--out", folder / "o"} + options);
    ASSERT_LE(ended.code, 1) << ended.all();
  }

  TempFolder folder;
  std::string model;
};

/// The record is input: what it says is told, and never makes a checkpoint of another model right.
TEST_F(Record, ThatLiesIsNeverAGreen) {
  convert("qwen3_5_dense_mtp", {});
  EXPECT_EQ(check().code, 0) << check().all();
  edit([](Json& json) { json["drop_mtp"] = true; });
  EXPECT_EQ(check().code, 1) << check().all();
  convert("llama", {"--dtype", "bfloat16"});
  EXPECT_EQ(check().code, 0) << check().all();
  edit([](Json& json) { json["dtype"] = "preserve"; });
  EXPECT_EQ(check().code, 1) << check().all();
  convert("llama", {});
  edit([](Json& json) { json["excluded"] = {"lm_head.weight"}; });
  EXPECT_EQ(check().code, 1) << check().all();
  convert("llama", {});
  edit([](Json& json) { json["settings"] = Json::array({{"num_hidden_layers", "3"}}); });
  EXPECT_EQ(check().code, 1) << check().all();
  convert("qwen3_moe", {});
  edit([](Json& json) { json["spelling"]["transformer_impl"] = "local"; });
  EXPECT_EQ(check().code, 1) << check().all();
  const std::vector<std::function<void(Json&)>> kBroken = {
      [](Json& json) { json["family"] = "no such family"; },
      [](Json& json) { json["more"] = 1; },
      [](Json& json) { json.erase("drop_mtp"); },
      [](Json& json) { json["drop_mtp"] = 1; },
      [](Json& json) { json["schema"] = "bridge-torch-dist/9"; },
      [](Json& json) {
        json["adapter"] = {{"digest", "no digits"}, {"untied", false}};
      },
      [](Json& json) {
        json["settings"] = Json::array({{"", "3"}});
      }};
  for (const auto& change : kBroken) {
    convert("llama", {});
    edit(change);
    EXPECT_EQ(check().code, 5) << check().all();
  }
  write_text(folder / "o/iter_0000000/bridge-verify.json", "{\"name\": \"of another program\"}");
  EXPECT_EQ(check().code, 5) << check().all();  // no other program writes a file of this name
}

/// Training saves no record: the options are given again, both ways.
TEST_F(Record, ThatIsGoneIsReplacedByTheSameOptions) {
  for (const auto& [name, options] : std::vector<std::pair<std::string, Words>>{
           {"qwen3_5_dense_mtp", {"--drop-mtp"}}, {"qwen3_moe", {"--transformer-impl", "local"}}}) {
    convert(name, options);
    fs::remove(folder / "o/iter_0000000/bridge-verify.json");
    EXPECT_EQ(check().code, 1) << check().all();
    EXPECT_EQ(check(options).code, 0) << check(options).all();
    fs::remove_all(folder / "h");
    const Ended back = run(Words{"convert", "--to", "hf", "--model", folder / "o", "--like", model,
                                 "--out", folder / "h"} +
                           options);
    EXPECT_EQ(back.code, 0) << back.all();
  }
}

/// The base alone is another model, and so is the base with another adapter.
TEST(WrittenBackAdapter, OfAnotherOneIsRefuted) {
  TempFolder folder;
  const std::string base = golden("peft/llama_all/base").string();
  const std::string adapter = golden("peft/llama_all/adapter").string();
  fs::copy(adapter, folder / "other");
  Json config = Json::parse(file_text(folder / "other/adapter_config.json"));
  config["lora_alpha"] = config["lora_alpha"].get<double>() * 2;
  write_text(folder / "other/adapter_config.json", config.dump());
  for (const char* form : {"megatron", "torch_dist"}) {
    const std::string out = folder / form;
    ASSERT_EQ(
        run({"convert", "--to", form, "--model", base, "--adapter", adapter, "--out", out}).code,
        0);
    const auto check = [&](const Words& with) {
      return run(Words{"check", "--model", base, "--megatron", out} + with);
    };
    EXPECT_EQ(check({"--adapter", adapter}).code, 0) << check({"--adapter", adapter}).all();
    const Ended other = check({"--adapter", folder / "other"});
    EXPECT_EQ(other.code, 1) << other.all();
    EXPECT_NE(other.flat().find("not the one that B was written with"), std::string::npos)
        << other.all();
    const Ended alone = check({});
    EXPECT_EQ(alone.code, 1) << alone.all();
    EXPECT_NE(alone.flat().find("--adapter DIR"), std::string::npos) << alone.all();
  }
}

}  // namespace
}  // namespace bv::e2e::written_back
