// Healthy checkpoints as they are published: names under other prefixes, buffers, heads and fields
// that the golden cases do not have; and what --exclude and --match make of a run.

#include <fmt/format.h>

#include <algorithm>

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

using Line = std::vector<std::string>;

Line joined(Line line, const Line& more) {
  line.insert(line.end(), more.begin(), more.end());
  return line;
}

EditedCheckpoint renamed(EditedCheckpoint model, const std::string& from, const std::string& to) {
  std::map<std::string, EditedTensor> tensors;
  for (auto& [name, tensor] : model.tensors) {
    tensors[name.starts_with(from) ? to + name.substr(from.size()) : name] = std::move(tensor);
  }
  model.tensors = std::move(tensors);
  return model;
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t out = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++out;
  }
  return out;
}

/// check, convert there and back: the same tensors under the same names, but for `gone`.
void expect_green(const EditedCheckpoint& model, const Line& options = {}, const Line& gone = {}) {
  const TempFolder folder;
  const std::string source = folder / "m";
  model.write(source);
  const Ended checked = run(joined({"check", "--model", source}, options));
  EXPECT_EQ(checked.code, 0) << checked.all();
  const Ended there = run(joined(
      {"convert", "--to", "megatron", "--model", source, "--tp", "2", "--out", folder / "shards"},
      options));
  ASSERT_EQ(there.code, 0) << there.all();
  const Ended back =
      run({"convert", "--to", "hf", "--model", folder / "shards", "--out", folder / "back"});
  ASSERT_EQ(back.code, 0) << back.all();
  EXPECT_EQ(back.out.find("left out when ") != std::string::npos, !gone.empty()) << back.out;
  auto wanted = model.tensors;
  for (const std::string& name : gone) {
    EXPECT_EQ(wanted.erase(name), 1U) << name;
  }
  EXPECT_TRUE(read_tensors(folder / "back") == wanted);
}

/// Placement is compared on small sizes, also where no field of the config names the size.
TEST(Published, TowersOfAnySizeArePlaced) {
  const TempFolder folder;
  const Ended made = run({"fixture", "make", "step3p7", "--out", folder / "made"});
  ASSERT_EQ(made.code, 0) << made.all();
  EditedCheckpoint model = EditedCheckpoint::read(folder / "made");
  nlohmann::ordered_json dump = {{"schema", "bridge-headers/1"}, {"config", model.config}};
  std::int64_t at = 0;
  int changed = 0;
  for (auto& [name, tensor] : model.tensors) {
    if (name.find("resblocks.") != std::string::npos && name.find(".mlp.") != std::string::npos) {
      auto& wide = tensor.shape[name.ends_with("c_proj.weight") ? 1 : 0];
      wide = name.ends_with("c_proj.bias") ? wide : 500000;
      ++changed;
    }
    const auto size = static_cast<std::int64_t>(tensor_bytes({"", tensor.dtype, tensor.shape}));
    dump["tensors"][name] = {bv::name(tensor.dtype), tensor.shape, "model.safetensors", at,
                             at + size};
    at += size;
  }
  ASSERT_GT(changed, 0);
  write_text(folder / "headers.json", dump.dump());
  const Ended ended = run({"check", "--headers", folder / "headers.json", "--only", "placement"});
  EXPECT_EQ(ended.code, 0) << ended.all();
}

TEST(Published, WrappedModelsAreGreenAndComeBackUnderTheirNames) {
  expect_green(renamed(EditedCheckpoint::golden("qwen3_moe"), "", "module."));
  expect_green(renamed(EditedCheckpoint::golden("llama"), "", "policy.model."));
  expect_green(renamed(EditedCheckpoint::golden("qwen3_5_vl_dense"), "model.", "thinker."));
}

TEST(Published, BareModelsWithoutPrefixAreGreen) {
  EditedCheckpoint model = renamed(EditedCheckpoint::golden("qwen2"), "model.", "");
  model.tensors.erase("lm_head.weight");
  model.config["architectures"] = {"Qwen2Model"};
  model.config["tie_word_embeddings"] = false;
  expect_green(model);
}

TEST(Published, BuffersThatLoadersComputeAgainAreLeftOut) {
  EditedCheckpoint model = EditedCheckpoint::golden("qwen3");
  model.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = {
      DType::F32, {5}, std::vector<std::byte>(20)};
  model.tensors["model.layers.1.self_attn.masked_bias"] = {
      DType::F32, {}, std::vector<std::byte>(4)};
  expect_green(
      model, {},
      {"model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.1.self_attn.masked_bias"});
}

EditedCheckpoint made_fixture(const TempFolder& folder, const std::string& name) {
  const Ended ended = run({"fixture", "make", name, "--out", folder / name});
  EXPECT_EQ(ended.code, 0) << ended.all();
  return EditedCheckpoint::read(folder / name);
}

/// Google's files of Gemma 4 E2B and E4B hold keys and values of all layers; no class reads those
/// of the last ones.
TEST(Published, KeysThatNoLayerReadsAreLeftOut) {
  const TempFolder folder;
  EditedCheckpoint model = made_fixture(folder, "gemma4_text");
  const int layers = model.config.at("num_hidden_layers").get<int>();
  Line gone;
  for (int layer = layers - model.config.at("num_kv_shared_layers").get<int>(); layer < layers;
       ++layer) {
    for (const char* leaf : {"k_proj", "v_proj", "k_norm"}) {
      gone.push_back(fmt::format("model.layers.{}.self_attn.{}.weight", layer, leaf));
      model.tensors[gone.back()] =
          model.tensors.at(fmt::format("model.layers.0.self_attn.{}.weight", leaf));
    }
  }
  ASSERT_FALSE(gone.empty());
  expect_green(model, {}, gone);
}

/// ERNIE 4.5 holds MTP layers that Megatron-Core's cannot be.
TEST(Published, MtpLayersWithoutAPlaceAreLeftOutAndDropMtpSaysThatTheyAre) {
  const TempFolder folder;
  EditedCheckpoint model = made_fixture(folder, "ernie4_5_moe");
  const EditedTensor norm = model.tensors.at("model.norm.weight");
  const Line gone = {"model.mtp_block.0.input_layernorm.weight", "model.mtp_emb_norm.0.weight"};
  for (const std::string& name : gone) {
    model.tensors[name] = norm;
  }
  model.config["num_nextn_predict_layers"] = 1;
  expect_green(model, {}, gone);
  expect_green(model, {"--drop-mtp"}, gone);
  model.write(folder.path() / "m");
  const Line line = {"convert",    "--to",  "megatron",        "--model",
                     folder / "m", "--out", folder / "shards", "--drop-mtp"};
  const Ended there = run(line);
  EXPECT_NE(there.flat().find("2 tensors left out by --drop-mtp"), std::string::npos);
  EXPECT_EQ(there.flat().find("changes nothing"), std::string::npos) << there.all();
  const std::string config = file_text(folder.path() / "shards" / "hf" / "config.json");
  EXPECT_EQ(nlohmann::json::parse(config).at("num_nextn_predict_layers"), 0);
}

/// A talker is trained: nothing computes it again.
TEST(Published, WhatIsLeftOutIsCalledByItsName) {
  const TempFolder folder;
  EditedCheckpoint model = made_fixture(folder, "qwen2_5_omni");
  model.tensors["talker.codec_head.weight"] = model.tensors.at("thinker.model.norm.weight");
  model.write(folder.path() / "m");
  const Ended checked = run({"check", "--model", folder / "m", "--out", folder / "reports"});
  EXPECT_EQ(checked.code, 0) << checked.all();
  EXPECT_NE(checked.flat().find("talker"), std::string::npos) << checked.all();
  EXPECT_EQ(checked.flat().find("every loader"), std::string::npos) << checked.all();
  const std::string verdicts = file_text(folder.path() / "reports" / "verdicts.json");
  EXPECT_NE(verdicts.find("its model is the thinker"), std::string::npos);
  EXPECT_EQ(verdicts.find("buffers that"), std::string::npos);
  const Ended there =
      run({"convert", "--to", "megatron", "--model", folder / "m", "--out", folder / "shards"});
  EXPECT_EQ(there.code, 0) << there.all();
  EXPECT_NE(there.flat().find("not in what comes back"), std::string::npos) << there.all();
  const Ended traced = run({"trace", "talker.codec_head.weight", "--model", folder / "m"});
  EXPECT_NE(traced.flat().find("is not converted: the talker"), std::string::npos) << traced.all();
}

/// Embedding models are bare models whose config.json still names the class with a head.
TEST(Published, BareModelsMayNameTheClassWithAHead) {
  EditedCheckpoint model = renamed(EditedCheckpoint::golden("qwen3"), "model.", "");
  model.tensors.erase("lm_head.weight");
  model.config["tie_word_embeddings"] = false;
  expect_green(model);
  EditedCheckpoint whole = EditedCheckpoint::golden("qwen3");
  whole.tensors.erase("lm_head.weight");
  whole.config["tie_word_embeddings"] = false;
  const TempFolder folder;
  whole.write(folder.path() / "m");
  const Ended refuted = run({"check", "--model", folder / "m"});
  EXPECT_EQ(refuted.code, 1) << refuted.all();
  const std::string advice = "architectures=[\"Qwen3Model\"]";
  EXPECT_NE(refuted.flat().find(advice), std::string::npos) << refuted.all();
  expect_green(whole, {"--set", advice});
}

TEST(Published, ConstantsOfPythonInTheConfigAreRead) {
  EditedCheckpoint model = EditedCheckpoint::golden("llama");
  model.config["time_step_limit"] = {0.0, "INFINITE"};
  const TempFolder folder;
  model.write(folder.path() / "m");
  std::string text = file_text(folder.path() / "m" / "config.json");
  text.replace(text.find("\"INFINITE\""), 10, "Infinity");
  write_text(folder.path() / "m" / "config.json", text);
  const Ended ended = run({"check", "--model", folder / "m"});
  EXPECT_EQ(ended.code, 0) << ended.all();
  const Ended there =
      run({"convert", "--to", "megatron", "--model", folder / "m", "--out", folder / "shards"});
  ASSERT_EQ(there.code, 0) << there.all();
  const Ended back =
      run({"convert", "--to", "hf", "--model", folder / "shards", "--out", folder / "back"});
  ASSERT_EQ(back.code, 0) << back.all();
  EXPECT_NE(file_text(folder.path() / "back" / "config.json").find("Infinity"), std::string::npos);
}

EditedCheckpoint classifier() {
  EditedCheckpoint model = EditedCheckpoint::golden("llama");
  model.config["architectures"] = {"LlamaForQuestionAnswering"};
  model.tensors["qa_outputs.weight"] = model.tensors.at("lm_head.weight");
  model.tensors.erase("lm_head.weight");
  return model;
}

TEST(Exclude, IsTheWayOutForAHeadThatMegatronDoesNotHave) {
  const TempFolder folder;
  classifier().write(folder.path() / "m");
  const Ended refuted = run({"check", "--model", folder / "m"});
  EXPECT_EQ(refuted.code, 1) << refuted.all();
  EXPECT_EQ(count(refuted.out, "error["), 1U) << refuted.out;
  EXPECT_NE(refuted.out.find("--exclude 'qa_outputs.*'"), std::string::npos) << refuted.out;
  expect_green(classifier(), {"--exclude", "qa_outputs.*"}, {"qa_outputs.weight"});
  const Ended told = run({"check", "--model", folder / "m", "--exclude", "qa_outputs.*"});
  EXPECT_NE(told.all().find("left out by --exclude: qa_outputs.weight"), std::string::npos)
      << told.all();
  for (const Line& line : std::vector<Line>{{"roundtrip", "--model", folder / "m"},
                                            {"diff", folder / "m", folder / "m"}}) {
    const Ended ended = run(joined(line, {"--exclude", "qa_outputs.*"}));
    EXPECT_EQ(ended.code, 0) << ended.all();
  }
}

TEST(Exclude, TakesParametersAlongThereAndBack) {
  expect_green(EditedCheckpoint::golden("llama"),
               {"--exclude", "*layers.1.mlp.down_proj.weight", "--allow-partial"},
               {"model.layers.1.mlp.down_proj.weight"});
}

TEST(Exclude, OfHalfAParameterIsRefuted) {
  const Ended ended =
      run({"check", "--model", golden_hf("llama").string(), "--exclude", "*.1.mlp.gate_proj*"});
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_NE(ended.out.find("decoder.layers.1.mlp.linear_fc1.weight"), std::string::npos);
}

TEST(Exclude, ThatTakesNothingIsAUsageErrorWithTheNearestName) {
  for (const char* option : {"--exclude", "--match"}) {
    const Ended ended =
        run({"check", "--model", golden_hf("llama").string(), option, "model.layers.0.mpl.*"});
    EXPECT_EQ(ended.code, 2) << ended.all();
    EXPECT_NE(ended.err.find("matches no tensor"), std::string::npos) << ended.err;
    EXPECT_NE(ended.err.find("model.layers.0.mlp."), std::string::npos) << ended.err;
  }
}

TEST(Match, LooksAtThoseTensorsAloneAndTheRunIsPartial) {
  EditedCheckpoint model = EditedCheckpoint::golden("llama");
  model.tensors.erase("model.layers.3.mlp.up_proj.weight");  // not asked for
  const TempFolder folder;
  model.write(folder.path() / "m");
  const Line line = {"check", "--model", folder / "m", "--match", "*layers.1.*"};
  EXPECT_EQ(run(line).code, 3);
  const Ended allowed = run(joined(line, {"--allow-partial"}));
  EXPECT_EQ(allowed.code, 0) << allowed.all();
  const Ended other = run({"check", "--model", folder / "m", "--match", "*layers.3.*"});
  EXPECT_EQ(other.code, 1) << other.all();
}

TEST(Vocabulary, IsPaddedAlikeHoweverTheLayoutIsGiven) {
  const std::string model = golden_hf("llama").string();  // 131 rows
  for (const Line& layout : std::vector<Line>{{"--tp", "2"}, {"--layouts", "quick"}, {}}) {
    const Ended ended = run(joined({"check", "--model", model}, layout));
    EXPECT_EQ(ended.code, 0) << ended.all();
    EXPECT_NE(ended.out.find("131 vocabulary rows padded to a multiple of TP"), std::string::npos)
        << ended.out;
  }
  const Ended told =
      run({"check", "--model", model, "--tp", "2", "--make-vocab-size-divisible-by", "4"});
  EXPECT_EQ(told.out.find("padded to a multiple of TP"), std::string::npos) << told.out;
}

}  // namespace
}  // namespace bv::e2e
