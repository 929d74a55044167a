// The forward claim of the command: families green, faults that survive every round trip refuted.

#include <array>
#include <filesystem>
#include <regex>

#include "tests/e2e/process.hpp"
#include "tests/support/checkpoint_edit.hpp"

namespace bv::e2e {
namespace {

/// One family and the layouts on which its small model is computed.
struct Family {
  const char* fixture;
  std::vector<std::string> layouts;
};

std::vector<std::string> line_of(const std::string& model,
                                 const std::vector<std::string>& layouts) {
  std::vector<std::string> out = {
      "check", "--model", model, "--only", "forward", "--make-vocab-size-divisible-by", "4"};
  for (const std::string& layout : layouts) {
    out.insert(out.end(), {"--layout", layout});
  }
  return out;
}

class ForwardFamily : public testing::TestWithParam<Family> {};

TEST_P(ForwardFamily, HoldsOnEveryLayout) {
  const Family& family = GetParam();
  const Ended ended = run(line_of(std::string("fixture:") + family.fixture, family.layouts));
  EXPECT_EQ(ended.code, 0) << ended.all();
  EXPECT_NE(ended.last_line().find("held " + std::to_string(family.layouts.size()) + "  refuted 0"),
            std::string::npos)
      << ended.last_line();
}

const std::vector<std::string> kDense = {"tp1pp1ep1etp1", "tp2pp1ep1etp1", "tp2pp2ep1etp1"};
/// ETP that is not TP among them.
const std::vector<std::string> kExperts = {"tp1pp1ep1etp1", "tp2pp1ep2etp1", "tp1pp2ep2etp2",
                                           "tp2pp1ep4etp2", "tp4pp1ep1etp2"};

INSTANTIATE_TEST_SUITE_P(
    Fixtures, ForwardFamily,
    testing::Values(Family{"llama", kDense}, Family{"llama/kv2", {"tp4pp1ep1etp1"}},
                    Family{"llama/tied", kDense}, Family{"mistral", kDense},
                    Family{"qwen2", kDense}, Family{"qwen3", kDense}, Family{"qwen3/tied", kDense},
                    Family{"qwen3_moe", kExperts}, Family{"qwen3_moe/packed", kExperts},
                    Family{"qwen3_moe/some_dense", kExperts}, Family{"qwen3_next", kExperts},
                    Family{"qwen3_next/mtp", kExperts}, Family{"qwen3_5", kDense},
                    Family{"qwen3_5/mtp", kDense}, Family{"qwen3_5/from_vl", kDense},
                    Family{"qwen3_5_moe", kExperts}, Family{"qwen3_5_moe/per_expert", kExperts},
                    Family{"qwen3_5_moe/mtp", kExperts},
                    Family{"qwen3_5_token_classification", kDense}, Family{"qwen3_5_vl", kDense},
                    Family{"qwen3_5_vl/mtp_tied", kDense},
                    Family{"qwen3_5_vl_moe/mtp_packed", kExperts},
                    Family{"qwen3_5_vl_moe/per_expert_mtp_packed", kExperts},
                    Family{"qwen3_vl", kDense}, Family{"qwen3_vl_moe", kExperts},
                    Family{"qwen3_vl_moe/packed", kExperts}, Family{"gpt_oss", kExperts},
                    Family{"deepseek_v3/mtp", kExperts}, Family{"glm4_moe/packed", kExperts},
                    Family{"gemma3_text", kDense}, Family{"mixtral", kExperts}),
    [](const auto& one) {
      std::string label = one.param.fixture;
      std::replace(label.begin(), label.end(), '/', '_');
      return label;
    });

/// A rule set that is its own inverse, or reads the tensors of a neighbour: nothing else need see
/// it.
struct Broken {
  const char* model;
  const char* file;
  const char* layout;
  const char* parameter;  // at fault
};
constexpr const char* kSquare = "square";

class ForwardBroken : public testing::TestWithParam<Broken> {};

TEST_P(ForwardBroken, IsRefutedWithItsFirstOutputAndTheRuleAtFault) {
  const Broken& one = GetParam();
  const TempFolder folder;
  std::string model = golden_hf(one.model).string();
  if (std::string_view(one.model) == kSquare) {  // hidden size = heads x head size
    model = folder / "m";
    const Ended made = run({"fixture", "make", "llama", "--set", "hidden_size=48", "--out", model});
    ASSERT_EQ(made.code, 0) << made.all();
  }
  auto line = line_of(model, {one.layout});
  line.insert(line.end(), {"--rules", fixture(one.file)});
  const Ended ended = run(line);
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_NE(ended.out.find("BV5004"), std::string::npos) << ended.out;
  EXPECT_TRUE(std::regex_search(
      ended.out, std::regex("(layer_output\\.[0-9]+|vision_output|mtp_output\\.0) differs by ")))
      << ended.out;
  EXPECT_NE(ended.out.find("this rule alone"), std::string::npos) << ended.out;
  EXPECT_NE(ended.out.find(one.parameter), std::string::npos) << ended.out;
}

INSTANTIATE_TEST_SUITE_P(
    RoundTripSafe, ForwardBroken,
    testing::Values(Broken{"qwen3", "broken/swapped_gate_up.rules.json", "tp1pp1ep1etp1",
                           "mlp.linear_fc1.weight"},
                    Broken{"qwen3", "broken/swapped_gate_up.rules.json", "tp2pp1ep1etp1",
                           "mlp.linear_fc1.weight"},
                    Broken{"qwen3", "broken/qkv_concat.rules.json", "tp1pp1ep1etp1",
                           "self_attention.linear_qkv.weight"},
                    Broken{"qwen3", "broken/qkv_concat.rules.json", "tp4pp1ep1etp1",
                           "self_attention.linear_qkv.weight"},
                    Broken{"qwen3_5_moe_packed", "broken/gdn_concat.rules.json", "tp2pp1ep1etp1",
                           "self_attention.in_proj.weight"},
                    Broken{kSquare, "broken/transposed_o_proj.rules.json", "tp1pp1ep1etp1",
                           "self_attention.linear_proj.weight"},
                    Broken{kSquare, "broken/transposed_o_proj.rules.json", "tp2pp1ep1etp1",
                           "self_attention.linear_proj.weight"},
                    Broken{"qwen3_5_dense_mtp", "broken/eh_proj_halves.rules.json", "tp2pp1ep1etp1",
                           "mtp.layers.0.eh_proj.weight"},
                    Broken{"qwen3_next", "broken/norm_kept.rules.json", "tp2pp1ep1etp1",
                           "self_attention.out_norm.weight"},
                    Broken{"qwen3_next", "broken/norm_twice.rules.json", "tp1pp1ep1etp1",
                           "self_attention.out_norm.weight"},
                    Broken{"qwen3", "broken/norm_minus_one.rules.json", "tp1pp1ep1etp1",
                           "self_attention.q_layernorm.weight"}),
    [](const auto& one) {
      std::string label = std::string(one.param.file) + "_" + one.param.layout;
      label = label.substr(label.find('/') + 1);
      std::erase(label, '.');
      return label;
    });

/// Both norms have one shape: only a computation tells them apart, and no rule alone mends it.
TEST(Forward, SeesNormsThatReadEachOthersTensors) {
  auto line = line_of(golden_hf("qwen3").string(), {"tp2pp1ep1etp1"});
  line.insert(line.end(), {"--rules", fixture("broken/swapped_qk_norms.rules.json")});
  const Ended ended = run(line);
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_NE(ended.out.find("layer_output.0 differs by"), std::string::npos) << ended.out;
  EXPECT_NE(ended.out.find("several rules are wrong"), std::string::npos) << ended.out;
}

TEST(Forward, RightForeignRulesHold) {
  for (const auto& [model, file] :
       std::vector<std::array<std::string, 2>>{{"qwen3", "qwen3"},
                                               {"qwen3_moe", "qwen3_moe"},
                                               {"qwen3_next", "qwen3_next"},
                                               {"qwen3_5_moe_packed", "qwen3_5_moe_packed"},
                                               {"qwen3_5_dense_mtp", "qwen3_5_mtp"},
                                               {"llama", "llama"}}) {
    auto line = line_of(golden_hf(model).string(), {"tp1pp1ep1etp1", "tp2pp2ep1etp1"});
    line.insert(line.end(), {"--rules", fixture("rules/" + file + ".rules.json")});
    const Ended ended = run(line);
    EXPECT_EQ(ended.code, 0) << model << ended.all();
  }
}

/// Headers of published models are enough: their sizes shrink, their structure stays.
TEST(Forward, HoldsForPublishedGeometriesFromHeadersAlone) {
  for (const char* name : {"qwen3.5-397b-a17b", "qwen3.6-27b", "qwen3-235b-a22b",
                           "qwen3-next-80b-a3b", "deepseek-v3-bf16"}) {
    const Ended ended =
        run({"check", "--headers", fixture(std::string("headers/") + name + ".headers.json.gz"),
             "--only", "forward", "--layout", "tp1pp1ep1etp1", "--layout", "tp2pp1ep8etp1"});
    const bool dense = std::string_view(name) == "qwen3.6-27b";
    EXPECT_EQ(ended.code, dense ? 2 : 0) << name << ended.all();
  }
}

/// Sizes by other names, in wrappers, of towers, of Mamba, of experts beyond what a token takes.
TEST(Forward, HoldsForEveryPublishedGeometryWhoseFamilyHasAForm) {
  for (const auto& entry : std::filesystem::directory_iterator(fixture("headers"))) {
    const Ended ended = run({"check", "--headers", entry.path().string(), "--only", "forward",
                             "--layout", "tp1pp1ep1etp1"});
    const bool lacks = ended.out.find("no forward form for model_type step3p") != std::string::npos;
    EXPECT_EQ(ended.code, lacks ? 3 : 0) << entry.path() << ended.all();
  }
}

/// Sizes of experts say nothing of a hybrid without a layer of them.
TEST(Forward, AHybridWithoutExpertsNeedsNoNumberOfThem) {
  const TempFolder folder;
  const std::string model = folder / "m";
  ASSERT_EQ(run({"fixture", "make", "nemotron_h_vl", "--out", model}).code, 0);
  for (const bool sizes : {true, false}) {
    support::EditedCheckpoint edited = support::EditedCheckpoint::read(model);
    auto& text = edited.config["llm_config"];
    text.erase("n_routed_experts");
    if (!sizes) {
      text.erase("moe_intermediate_size");
      text.erase("moe_shared_expert_intermediate_size");
    }
    edited.write(folder.path() / (sizes ? "a" : "b"));
    const Ended ended = run({"check", "--model", folder / (sizes ? "a" : "b"), "--only", "forward",
                             "--layout", "tp1pp1ep1etp1"});
    EXPECT_EQ(ended.code, 0) << ended.all();
  }
}

TEST(Forward, IsNotRequestedBelowLevelFull) {
  for (const auto& [level, said] : std::vector<std::array<std::string, 2>>{
           {"headers", "not asked"}, {"data", "not asked"}, {"full", "held"}}) {
    const Ended ended = run({"check", "--model", golden_hf("qwen3").string(), "--level", level,
                             "--tp", "2", "--make-vocab-size-divisible-by", "4"});
    EXPECT_EQ(ended.code, 0) << ended.all();
    const std::size_t row = ended.out.find("  forward ");
    ASSERT_NE(row, std::string::npos) << ended.out;
    const std::string line = ended.out.substr(row, ended.out.find('\n', row) - row);
    EXPECT_EQ(line.find("not asked") != std::string::npos, said == "not asked") << line;
  }
}

/// Outside the forward oracles' scope nothing is green.
TEST(Forward, AModelWithoutAFormIsUnsupported) {
  const Ended ended = run({"check", "--model", golden_hf("llama").string(), "--set",
                           "hidden_act=relu", "--only", "forward", "--tp", "1"});
  EXPECT_EQ(ended.code, 3) << ended.all();
  EXPECT_NE(ended.last_line().find("unsupported 1"), std::string::npos) << ended.last_line();
  EXPECT_NE(ended.out.find("hidden_act"), std::string::npos) << ended.out;
}

/// The same seed gives the same report, another seed another model.
TEST(Forward, IsRepeatable) {
  std::array<std::string, 3> found;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const Ended ended =
        run({"check", "--model", golden_hf("qwen3").string(), "--only", "forward", "--tp", "2",
             "--make-vocab-size-divisible-by", "4", "--rules",
             fixture("broken/qkv_concat.rules.json"), "--seed", i == 2 ? "8" : "7"});
    EXPECT_EQ(ended.code, 1) << ended.all();
    const std::size_t at = ended.out.find("differs by");
    ASSERT_NE(at, std::string::npos) << ended.out;
    found[i] = ended.out.substr(at, ended.out.find('\n', at) - at);
  }
  EXPECT_EQ(found[0], found[1]);
  EXPECT_NE(found[0], found[2]);
}

/// The classes of these read tie_word_embeddings of the whole config alone.
TEST(Forward, ATextConfigThatSaysTiedTiesNoWrapper) {
  for (const char* fixture : {"kimi_k25", "exaone4_5"}) {
    const TempFolder folder;
    const std::string model = folder / "m";
    ASSERT_EQ(run({"fixture", "make", fixture, "--out", model, "--set",
                   "text_config.tie_word_embeddings=true"})
                  .code,
              0);
    const Ended ended =
        run({"check", "--model", model, "--only", "forward", "--layout", "tp1pp2ep1etp1"});
    EXPECT_EQ(ended.code, 0) << fixture << ended.all();
  }
}

/// A base model and a classifier have the rules of the class with a head; their own names and what
/// they lack are judged by the other claims.
TEST(Forward, HoldsForClassesWithoutAHeadOrAPrefix) {
  for (const auto& [name, stem] : {std::pair{"llama", "Llama"}, std::pair{"qwen3", "Qwen3"},
                                   std::pair{"gemma2", "Gemma2"}, std::pair{"olmoe", "Olmoe"}}) {
    const TempFolder folder;
    const auto whole = support::EditedCheckpoint::golden(name);
    support::EditedCheckpoint base = whole;
    base.config["architectures"] = {std::string(stem) + "Model"};
    base.tensors.clear();
    support::EditedCheckpoint classifier = whole;
    classifier.config["architectures"] = {std::string(stem) + "ForSequenceClassification"};
    classifier.tensors.erase("lm_head.weight");
    const auto width = whole.tensors.at("model.norm.weight").shape[0];
    classifier.tensors["score.weight"] = {
        DType::F32, {2, width}, std::vector<std::byte>(static_cast<std::size_t>(8 * width))};
    for (const auto& [tensor, value] : whole.tensors) {
      if (tensor.starts_with("model.")) {
        base.tensors[tensor.substr(6)] = value;
      }
    }
    support::EditedCheckpoint tokens = classifier;
    tokens.config["architectures"] = {std::string(stem) + "ForTokenClassification"};
    tokens.tensors["score.bias"] = {DType::F32, {2}, std::vector<std::byte>(8)};
    base.write(folder.path() / "base");
    classifier.write(folder.path() / "classifier");
    tokens.write(folder.path() / "tokens");
    const std::vector<std::string> full = {"--level", "full", "--tp", "1"};
    for (const auto& line :
         {Words{"check", "--model", folder / "base"},
          Words{"check", "--model", folder / "classifier", "--exclude", "score.*"},
          Words{"check", "--model", folder / "tokens", "--exclude", "score.*"}}) {
      const Ended ended = run(line + full);
      EXPECT_EQ(ended.code, 0) << name << ended.all();
      EXPECT_TRUE(std::regex_search(ended.out, std::regex("forward +[0-9]+  ok"))) << ended.out;
    }
  }
}

}  // namespace
}  // namespace bv::e2e
