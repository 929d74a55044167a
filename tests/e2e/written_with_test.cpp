// What convert wrote is judged with what its manifest says, and with nothing that has to be
// repeated.

#include <fmt/format.h>

#include "tests/e2e/new_model.hpp"
#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

class WrittenWith : public testing::Test {
 protected:
  void convert(const std::string& model, const Words& options, int code = 0) const {
    fs::remove_all(shards);
    const Ended ended =
        run(Words{"convert", "--to", "megatron", "--model", model, "--out", shards} + options);
    ASSERT_EQ(ended.code, code) << ended.all();
  }
  Ended check(const std::string& model, const Words& options = {}) const {
    return run(Words{"check", "--model", model, "--megatron", shards} + options);
  }
  void edit_manifest(const std::function<void(Json&)>& change) const {
    Json json = Json::parse(file_text(shards + "/manifest.json"));
    change(json);
    write_text(shards + "/manifest.json", json.dump());
  }
  static void expect(const Ended& ended, int code, const Words& says) {
    EXPECT_EQ(ended.code, code) << ended.all();
    for (const std::string& words : says) {
      EXPECT_NE(ended.flat().find(words), std::string::npos) << words << "\n" << ended.all();
    }
  }

  TempFolder folder;
  std::string shards = folder / "s";
};

struct Case {
  std::string model;
  Words options;
  Words told;  // what the report says was taken
  int convert = 0;
  Words check = {};
};

/// Every option that decides what convert writes, and that the shards do not show.
const std::vector<Case>& cases() {
  static const std::vector<Case> out = {
      {"llama",
       {"--pp", "2", "--decoder-first-pipeline-num-layers", "1"},
       {"--decoder-first-pipeline-num-layers 1"}},
      {"llama",
       {"--pp", "2", "--decoder-last-pipeline-num-layers", "1"},
       {"--decoder-last-pipeline-num-layers 1"}},
      {"llama", {"--pp", "2", "--pipeline-model-parallel-layout", "Et|tttL"}, {"Et|tttL"}},
      {"llama",
       {"--pp", "2", "--account-for-embedding-in-pipeline-split",
        "--account-for-loss-in-pipeline-split"},
       {"--account-for-embedding-in-pipeline-split", "--account-for-loss-in-pipeline-split"}},
      {"llama", {"--pp", "2", "--vpp", "2"}, {}},
      {"llama", {"--make-vocab-size-divisible-by", "64"}, {"--make-vocab-size-divisible-by 64"}},
      {"llama", {"--transformer-impl", "local"}, {"--transformer-impl local"}},
      {"llama",
       {"--set", "num_attention_heads=4", "--set", "head_dim=20", "--set", "num_key_value_heads=2",
        "--tp", "2", "--make-vocab-size-divisible-by", "4"},
       {"--set num_attention_heads=4", "--set head_dim=20"}},
      {"llama", {"--dtype", "bfloat16"}, {"--dtype bfloat16"}, 1},
      {"qwen3_5_dense_bf16_tied", {"--dtype", "float32"}, {"--dtype float32"}},
      {"qwen3_moe", {"--no-moe-grouped-gemm", "--ep", "2", "--pp", "2"}, {"--no-moe-grouped-gemm"}},
      {"qwen3_5_dense_mtp", {"--drop-mtp"}, {"--drop-mtp"}},
      {"qwen3_vl_moe_transposed",
       {"--expert-orientation", "in_out"},
       {"--expert-orientation in_out"}},
      {"llama",
       {"--exclude", "lm_head.weight", "--allow-partial"},
       {"--exclude lm_head.weight"},
       0,
       {"--allow-partial"}},
      {"qwen2", {"--family", "qwen2"}, {}},
  };
  return out;
}

TEST_F(WrittenWith, WhatConvertAcceptedPassesWithoutItsOptions) {
  for (const Case& one : cases()) {
    SCOPED_TRACE(one.model + " " + fmt::format("{}", fmt::join(one.options, " ")));
    const std::string model = golden_hf(one.model).string();
    convert(model, one.options, one.convert);
    expect(check(model, one.check), 0, one.told);
    const Ended plain = run(Words{"diff", model, shards} +
                            (one.check.empty() ? Words{} : Words{"--fail-on", "refuted"}));
    if (one.check.empty()) {
      expect(plain, 0, one.told);
    }
    // The same options again change nothing.
    Words again;
    for (std::size_t i = 0; i < one.options.size(); ++i) {
      if (one.options[i] != "--vpp") {
        again.push_back(one.options[i]);
      } else {
        ++i;  // names of shards say it
      }
    }
    EXPECT_EQ(check(model, again).code, 0) << check(model, again).all();
  }
}

TEST_F(WrittenWith, AnOptionThatSaysSomethingElseIsNamedAndIsWhatIsCompared) {
  const std::string model = golden_hf("llama").string();
  convert(model, {"--pp", "2", "--decoder-first-pipeline-num-layers", "1"});
  expect(check(model, {"--decoder-first-pipeline-num-layers", "3"}), 1,
         {"manifest.json of B says --decoder-first-pipeline-num-layers 1, and",
          "--decoder-first-pipeline-num-layers 3 was given"});
  convert(model, {"--dtype", "bfloat16"}, 1);
  expect(check(model, {"--dtype", "preserve"}), 1,
         {"manifest.json of B says --dtype bfloat16, and --dtype preserve was given"});
  convert(model, {});
  expect(check(model, {"--transformer-impl", "local"}), 1,
         {"manifest.json of B says --transformer-impl transformer_engine"});
}

TEST_F(WrittenWith, AManifestThatLiesIsNeverAGreen) {
  const std::string model = golden_hf("llama").string();
  convert(model, {"--pp", "2"});
  edit_manifest([](Json& json) { json["layout"]["num_layers_in_first_pipeline_stage"] = 1; });
  expect(check(model), 1, {"--decoder-first-pipeline-num-layers 1"});
  edit_manifest([](Json& json) { json["layout"]["num_layers_in_first_pipeline_stage"] = 4000; });
  expect(check(model), 5,
         {"error[BV2002]", "manifest.json", "--decoder-first-pipeline-num-layers 4000"});
  convert(model, {"--pp", "2"});
  edit_manifest([](Json& json) { json["layout"]["pp"] = 4; });
  expect(check(model), 5, {"error[BV7031]", "pp4", "pp2"});
  convert(model, {});
  edit_manifest([](Json& json) { json["settings"] = Json::array({{"num_hidden_layers", "3"}}); });
  expect(check(model), 1, {"--set num_hidden_layers=3"});
  convert(model, {});
  edit_manifest([](Json& json) { json["settings"] = Json::array({{"", "3"}}); });
  EXPECT_EQ(check(model).code, 5) << check(model).all();
  convert(model, {});
  edit_manifest([](Json& json) { json["family"] = "no such family"; });
  expect(check(model), 5, {"no such family"});
  convert(model, {});
  edit_manifest([](Json& json) { json["family"] = "gemma2"; });
  EXPECT_NE(check(model).code, 0);
  convert(model, {});
  edit_manifest([](Json& json) { json["excluded"] = {"lm_head.weight"}; });
  EXPECT_EQ(check(model).code, 1) << check(model).all();
  convert(model, {});
  write_text(shards + "/manifest.json", file_text(shards + "/manifest.json").substr(0, 900));
  EXPECT_EQ(check(model).code, 5) << check(model).all();
}

/// Rules of an architecture that no family knows travel with the shards. What they say of
/// themselves is no evidence: the oracle is asked where the elements belong.
TEST_F(WrittenWith, RulesOfTheFolderAreTakenAndJudged) {
  NewModel model = nova_moe();
  model.write(folder);
  convert(folder / "m", {"--rules", folder / "r.json", "--tp", "2"}, 3);
  expect(check(folder / "m"), 3, {"judged by the rules of B, rules.json", "placement"});
  NewModel other = nova_moe();  // up in the place of gate, in its tensors and in its rules
  for (auto& [name, tensor] : other.checkpoint.tensors) {
    if (const std::size_t at = name.find("gate_proj"); at != std::string::npos) {
      std::string up = name;
      std::swap(tensor, other.checkpoint.tensors.at(up.replace(at, 9, "up_proj")));
    }
  }
  other.write(folder);
  convert(folder / "m", {"--rules", folder / "r.json", "--tp", "2"}, 3);
  RuleRow& row = model.rule("linear_fc1.weight*");
  std::swap(row.hf["gate"], row.hf["up"]);
  model.write(folder);
  fs::copy_file(folder / "r.json", shards + "/rules.json", fs::copy_options::overwrite_existing);
  expect(check(folder / "m"), 1, {"placement"});
}

/// manifest.json is no rare name: a whole one of another program says nothing.
TEST_F(WrittenWith, AManifestOfAnotherProgramIsNoMatter) {
  const std::string model = golden_hf("llama").string();
  convert(model, {"--pp", "2"});
  for (const char* text : {"{\"name\": \"app\", \"layout\": {}}", " {}\n"}) {
    write_text(shards + "/manifest.json", text);
    EXPECT_EQ(check(model).code, 0) << check(model).all();
  }
}

/// What the environment says is meant for all commands; the folder is what it is.
TEST_F(WrittenWith, TheManifestBeatsTheEnvironment) {
  const std::string model = golden_hf("llama").string();
  convert(model, {"--make-vocab-size-divisible-by", "64"});
  const Ended ended = run({"check", "--model", model, "--megatron", shards},
                          {{"BRIDGE_VERIFY_MAKE_VOCAB_SIZE_DIVISIBLE_BY", "128"}});
  expect(ended, 0, {"--make-vocab-size-divisible-by 64"});
}

/// The wrong folder: neither model is blamed for what the other one lacks.
TEST_F(WrittenWith, ACheckpointOfAnotherModelIsCalledThat) {
  convert(golden_hf("qwen3_moe").string(), {});
  const std::string other = golden_hf("llama").string();
  expect(check(other), 5,
         {"are not the same model", "written of family qwen3_moe", "family llama, which"});
}

}  // namespace
}  // namespace bv::e2e
