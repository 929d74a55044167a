// A checkpoint of every quantisation scheme, given to every command that reads weights: one block
// that says what it is and what to do, and never green.

#include <fmt/format.h>

#include "core/base/text.hpp"
#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

/// One tensor beside the weight [rows, columns] that it replaces.
EditedTensor zeros(DType dtype, Shape shape) {
  EditedTensor out{dtype, std::move(shape), {}};
  out.bytes.resize(tensor_bytes({"", dtype, out.shape}));
  return out;
}

struct Scheme {
  std::string name;  // as the message says it
  ordered_json config;
  /// What the module of a weight [o, i] holds in its place.
  std::map<std::string, EditedTensor> (*made)(std::int64_t o, std::int64_t i);
};

const std::vector<Scheme>& schemes() {
  static const std::vector<Scheme> table = {
      {"FP8 (E4M3) with a per-tensor scale",
       {{"quant_method", "fp8"}},
       [](std::int64_t o, std::int64_t i) -> std::map<std::string, EditedTensor> {
         return {{"weight", zeros(DType::F8E4M3, {o, i})}, {"weight_scale", zeros(DType::F32, {})}};
       }},
      {"FP8 (E4M3) with 16 x 8 block scales",
       {{"quant_method", "fp8"}, {"weight_block_size", {16, 8}}},
       [](std::int64_t o, std::int64_t i) -> std::map<std::string, EditedTensor> {
         return {{"weight", zeros(DType::F8E4M3, {o, i})},
                 {"weight_scale_inv", zeros(DType::F32, {(o + 15) / 16, (i + 7) / 8})}};
       }},
      {"NVFP4",
       {{"quant_method", "modelopt"}, {"quant_algo", "NVFP4"}},
       [](std::int64_t o, std::int64_t i) -> std::map<std::string, EditedTensor> {
         return {{"weight", zeros(DType::U8, {o, i / 2})},
                 {"weight_scale", zeros(DType::F8E4M3, {o, i / 8})},
                 {"weight_scale_2", zeros(DType::F32, {})}};
       }},
      {"GPTQ INT4",
       {{"quant_method", "gptq"}, {"bits", 4}},
       [](std::int64_t o, std::int64_t i) -> std::map<std::string, EditedTensor> {
         return {{"qweight", zeros(DType::I32, {i / 8, o})},
                 {"qzeros", zeros(DType::I32, {1, o / 8})},
                 {"scales", zeros(DType::F16, {1, o})},
                 {"g_idx", zeros(DType::I32, {i})}};
       }},
      {"AWQ INT4",
       {{"quant_method", "awq"}, {"bits", 4}},
       [](std::int64_t o, std::int64_t i) -> std::map<std::string, EditedTensor> {
         return {{"qweight", zeros(DType::I32, {i, o / 8})},
                 {"qzeros", zeros(DType::I32, {1, o / 8})},
                 {"scales", zeros(DType::F16, {1, o})}};
       }},
      {"compressed-tensors packed integers",
       {{"quant_method", "compressed-tensors"}, {"format", "pack-quantized"}},
       [](std::int64_t o, std::int64_t i) -> std::map<std::string, EditedTensor> {
         return {{"weight_packed", zeros(DType::I32, {o, i / 8})},
                 {"weight_scale", zeros(DType::BF16, {o, 1})},
                 {"weight_shape", zeros(DType::I64, {2})}};
       }},
      {"bitsandbytes 4-bit (NF4)",
       {{"load_in_4bit", true}},
       [](std::int64_t o, std::int64_t i) -> std::map<std::string, EditedTensor> {
         return {{"weight", zeros(DType::U8, {o * i / 2, 1})},
                 {"weight.absmax", zeros(DType::U8, {o})},
                 {"weight.quant_map", zeros(DType::F32, {16})},
                 {"weight.quant_state.bitsandbytes__nf4", zeros(DType::U8, {90})}};
       }},
      {"bitsandbytes 8-bit",
       {{"load_in_8bit", true}},
       [](std::int64_t o, std::int64_t i) -> std::map<std::string, EditedTensor> {
         return {{"weight", zeros(DType::I8, {o, i})}, {"SCB", zeros(DType::F32, {o})}};
       }},
      {"MLX (scales and biases)",
       {{"bits", 4}, {"group_size", 8}},
       [](std::int64_t o, std::int64_t i) -> std::map<std::string, EditedTensor> {
         return {{"weight", zeros(DType::U32, {o, i / 8})},
                 {"scales", zeros(DType::BF16, {o, i / 8})},
                 {"biases", zeros(DType::BF16, {o, i / 8})}};
       }},
      {"HQQ",
       {{"quant_method", "hqq"}},
       [](std::int64_t o, std::int64_t i) -> std::map<std::string, EditedTensor> {
         return {{"W_q", zeros(DType::U8, {o / 2, i})},
                 {"scale", zeros(DType::F16, {o, 1})},
                 {"zero", zeros(DType::F16, {o, 1})}};
       }},
      {"I16 values with companion tensors",  // of nobody
       nullptr,
       [](std::int64_t o, std::int64_t i) -> std::
                                              map<std::string, EditedTensor> {
                                                return {
                                                    {"weight", zeros(DType::I16, {o, i})},
                                                    {"weight_codebook", zeros(DType::F16, {8})}};
                                              }},
  };
  return table;
}

/// The projections of a golden model in a scheme.
EditedCheckpoint quantised(const std::string& model, const Scheme& scheme, bool says) {
  EditedCheckpoint out = EditedCheckpoint::golden(model);
  std::map<std::string, EditedTensor> tensors;
  for (auto& [name, tensor] : out.tensors) {
    constexpr std::string_view kWeight = ".weight";
    if (name.find("_proj.weight") == std::string::npos || tensor.shape.size() != 2) {
      tensors[name] = tensor;
      continue;
    }
    const std::string module = name.substr(0, name.size() - kWeight.size() + 1);
    for (auto& [parameter, made] : scheme.made(tensor.shape[0], tensor.shape[1])) {
      tensors[module + parameter] = made;
    }
  }
  out.tensors = std::move(tensors);
  if (says && !scheme.config.is_null()) {
    out.config["quantization_config"] = scheme.config;
  }
  return out;
}

/// One block, Unsupported, with what the message must say.
void expect_refused(const Ended& ended, const std::string& scheme) {
  EXPECT_EQ(ended.code, 3) << ended.all();
  const std::string all = ended.flat();
  const std::string block = "unsupported[BV7035]";
  const std::size_t first = all.find(block);
  ASSERT_NE(first, std::string::npos) << all;
  EXPECT_EQ(all.find(block, first + 1), std::string::npos) << "told twice\n" << all;
  for (const std::string& text : {"in " + scheme, std::string("known by the names and dtypes"),
                                  std::string("give a dequantised checkpoint")}) {
    EXPECT_NE(all.find(text), std::string::npos) << text << "\n" << all;
  }
}

TEST(QuantisedSource, OfEverySchemeIsToldOnceByEveryCommand) {
  const TempFolder folder;
  const std::string model = folder / "m";
  for (const Scheme& scheme : schemes()) {
    for (const bool says : {true, false}) {
      SCOPED_TRACE(scheme.name + (says ? "" : ", unsaid"));
      fs::remove_all(model);
      quantised("llama", scheme, says).write(model);
      for (const std::vector<std::string>& words :
           {std::vector<std::string>{"check"},
            {"roundtrip"},
            {"convert", "--to", "megatron", "--out", folder / "o"}}) {
        std::vector<std::string> line = words;
        line.insert(line.end(), {"--model", model});
        expect_refused(run(line), scheme.name);
      }
      EXPECT_FALSE(fs::exists(folder / "o"));
      const Ended inspect = run({"inspect", "--model", model});
      EXPECT_EQ(inspect.code, 0) << inspect.all();
      EXPECT_NE(inspect.out.find("quantised: "), std::string::npos) << inspect.out;
      EXPECT_NE(inspect.out.find("in " + scheme.name), std::string::npos) << inspect.out;
    }
  }
}

TEST(QuantisedSource, IsToldWhateverTheFamily) {
  const TempFolder folder;
  for (const char* model : {"qwen3_moe", "qwen3_5_dense", "deepseek_v3"}) {
    quantised(model, schemes().front(), true).write(folder / model);
    expect_refused(run({"check", "--model", folder / model}), schemes().front().name);
  }
}

TEST(QuantisedSource, OfAnUnknownArchitectureIsToldUnderRules) {
  const TempFolder folder;
  EditedCheckpoint model = quantised("qwen3", schemes().front(), true);
  model.config["architectures"] = {"NobodyKnowsForCausalLM"};
  model.config["model_type"] = "nobody_knows";
  model.write(folder / "m");
  const std::string rules = (fs::path(BV_FIXTURES) / "rules/qwen3.rules.json").string();
  expect_refused(run({"check", "--model", folder / "m", "--rules", rules}), schemes().front().name);
  const Ended alone = run({"check", "--model", folder / "m"});
  EXPECT_EQ(alone.code, 5) << alone.all();
  EXPECT_NE(alone.all().find("its weights are quantised"), std::string::npos) << alone.all();
  const Ended lint = run({"rules", "lint", rules, "--model", folder / "m"});
  EXPECT_EQ(lint.code, 3) << lint.all();
  EXPECT_NE(lint.all().find("BV7035"), std::string::npos) << lint.all();
}

TEST(QuantisedSource, TwoOfThemAreStillComparedByteByByte) {
  const TempFolder folder;
  EditedCheckpoint model = quantised("llama", schemes().front(), true);
  model.write(folder / "a");
  model.write(folder / "b");
  EXPECT_EQ(run({"diff", folder / "a", folder / "b"}).code, 0);
  model.tensors.at("model.layers.0.mlp.up_proj.weight").bytes[3] ^= std::byte{1};
  model.write(folder / "b");
  const Ended ended = run({"diff", folder / "a", folder / "b"});
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_NE(ended.out.find("model.layers.0.mlp.up_proj.weight"), std::string::npos) << ended.out;
}

TEST(QuantisedSource, IsNoBaseOfAnAdapter) {
  const TempFolder folder;
  const fs::path peft = fs::path(BV_FIXTURES) / "golden/peft/llama_all";
  EditedCheckpoint base = EditedCheckpoint::read(peft / "base");
  for (auto& [name, tensor] : EditedCheckpoint(base).tensors) {
    if (name.find("_proj.weight") != std::string::npos) {
      base.tensors[name] = zeros(DType::F8E4M3, tensor.shape);
      base.tensors[name + "_scale"] = zeros(DType::F32, {});
    }
  }
  base.write(folder / "m");
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"lora", "check"},
        {"check", "--dtype", "float32"},
        {"lora", "merge", "--out", folder / "o"},
        {"convert", "--to", "megatron", "--dtype", "float32", "--out", folder / "o"}}) {
    std::vector<std::string> line = words;
    line.insert(line.end(), {"--model", folder / "m", "--adapter", (peft / "adapter").string()});
    const Ended ended = run(line);
    EXPECT_EQ(ended.code, 3) << ended.all();
    EXPECT_NE(ended.all().find("BV7035"), std::string::npos) << ended.all();
    EXPECT_FALSE(fs::exists(folder / "o"));
  }
}

/// miles issue 1641: scales lost, so nothing says that these are quantised weights.
TEST(QuantisedSource, FloatsOfEightBitsWithoutScalesAreNeverGreen) {
  const TempFolder folder;
  EditedCheckpoint model = EditedCheckpoint::golden("llama");
  const std::string name = "model.layers.0.self_attn.o_proj.weight";
  model.tensors.at(name) = zeros(DType::F8E4M3, model.tensors.at(name).shape);
  model.write(folder / "m");
  for (const char* command : {"check", "roundtrip"}) {
    const Ended ended = run({command, "--model", folder / "m"});
    EXPECT_EQ(ended.code, 3) << ended.all();
    EXPECT_NE(ended.out.find("unsupported[BV7036]"), std::string::npos) << ended.out;
    EXPECT_NE(ended.out.find(name + " F8_E4M3"), std::string::npos) << ended.out;
  }
  // To bfloat16 the other tensors lose bits, which is refuted; to float32 they lose none.
  for (const auto& [dtype, exit] : std::map<std::string, int>{{"bfloat16", 1}, {"float32", 3}}) {
    const Ended cast = run({"convert", "--to", "megatron", "--model", folder / "m", "--dtype",
                            dtype, "--out", folder / "o"});
    EXPECT_EQ(cast.code, exit) << cast.all();
    EXPECT_NE(cast.out.find("unsupported[BV7036]"), std::string::npos) << cast.out;
    EXPECT_NE(cast.out.find(name + " F8_E4M3"), std::string::npos) << cast.out;
    EXPECT_FALSE(fs::exists(folder / "o"));
  }
}

/// The field that a dequantisation leaves behind is a note.
TEST(QuantisedSource, AConfigThatSaysSoOfPlainWeightsIsANote) {
  const TempFolder folder;
  EditedCheckpoint model = EditedCheckpoint::golden("llama");
  model.config["quantization_config"] = {{"quant_method", "fp8"}};
  model.write(folder / "m");
  const Ended ended = run({"check", "--model", folder / "m"});
  EXPECT_EQ(ended.code, 0) << ended.all();
  EXPECT_NE(ended.out.find("no tensor is quantised"), std::string::npos) << ended.out;
}

/// OpenRLHF issue 839: weights saved under ZeRO-3 without gathering them.
TEST(EmptyTensors, AreOneBlockThatSaysWhyTheyAreEmpty) {
  const TempFolder folder;
  EditedCheckpoint model = EditedCheckpoint::golden("llama");
  int emptied = 0;
  for (auto& [name, tensor] : model.tensors) {
    if (name.find("layers.1.") != std::string::npos && name.find("proj") != std::string::npos) {
      tensor = zeros(tensor.dtype, {0});
      ++emptied;
    }
  }
  ASSERT_GT(emptied, 3);
  model.write(folder / "m");
  const Ended ended = run({"check", "--model", folder / "m"});
  EXPECT_EQ(ended.code, 1) << ended.all();
  const std::string block = "error[BV7037]";
  const std::size_t first = ended.out.find(block);
  ASSERT_NE(first, std::string::npos) << ended.out;
  EXPECT_EQ(ended.out.find(block, first + 1), std::string::npos) << ended.out;
  EXPECT_EQ(ended.out.find("error[", first + 1), std::string::npos) << ended.out;
  for (const std::string& text : {fmt::format("{} tensors hold no elements", emptied),
                                  std::string("ZeRO-3"), std::string("zero_to_fp32.py")}) {
    EXPECT_NE(ended.out.find(text), std::string::npos) << text << "\n" << ended.out;
  }
  const Ended convert =
      run({"convert", "--to", "megatron", "--model", folder / "m", "--out", folder / "o"});
  EXPECT_EQ(convert.code, 1) << convert.all();
  EXPECT_FALSE(fs::exists(folder / "o"));
}

}  // namespace
}  // namespace bv::e2e
