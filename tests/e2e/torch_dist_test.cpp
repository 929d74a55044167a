// Real torch_dist checkpoints of Megatron, judged against their HF models and converted back.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tests/core/torch_dist/golden_copy.hpp"
#include "tests/support/checkpoint_edit.hpp"
#include "tests/support/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using torch_dist::GoldenCopy;
using torch_dist::slurp;

fs::path golden(const std::string& name) {
  return fs::path(BV_FIXTURES) / "golden/torch_dist" / name;
}

class RealCheckpoint : public testing::TestWithParam<std::string> {};

TEST_P(RealCheckpoint, EqualsItsModel) {
  const Ended ended = run({"diff", golden_hf(GetParam()).string(), golden(GetParam()).string()});
  EXPECT_EQ(ended.code, 0) << ended.all();
  EXPECT_EQ(ended.word(), "PASS") << ended.all();
}

TEST_P(RealCheckpoint, IsCheckedAgainstItsModel) {
  const Ended ended = run({"check", "--model", golden_hf(GetParam()).string(), "--megatron",
                           golden(GetParam()).string()});
  EXPECT_EQ(ended.code, 0) << ended.all();
  EXPECT_EQ(ended.word(), "PASS") << ended.all();
}

/// The largest difference of two tensors of F32, in parts of the value.
float largest_difference(const EditedTensor& a, const EditedTensor& b) {
  float out = 0;
  for (std::size_t at = 0; at < a.bytes.size(); at += sizeof(float)) {
    float x = 0;
    float y = 0;
    std::memcpy(&x, a.bytes.data() + at, sizeof(x));
    std::memcpy(&y, b.bytes.data() + at, sizeof(y));
    out = std::max(out, std::abs(x - y) / std::max(std::abs(x), 1.0F / 64));
  }
  return out;
}

/// Bit for bit, but for F32 tensors that the checkpoint holds in BF16, or minus 1.
TEST_P(RealCheckpoint, BecomesItsModel) {
  const TempFolder folder;
  const Ended ended = run({"convert", "--to", "hf", "--model", golden(GetParam()).string(),
                           "--like", golden_hf(GetParam()).string(), "--out", folder / "hf"});
  ASSERT_EQ(ended.code, 0) << ended.all();
  EXPECT_EQ(slurp(folder / "hf/config.json"), slurp(golden_hf(GetParam()) / "config.json"));
  std::size_t exact = 0;
  for (const auto& entry : fs::directory_iterator(golden_hf(GetParam()))) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("model") || !name.ends_with(".safetensors")) {
      continue;
    }
    const auto wanted = read_tensors(entry.path());
    const auto found = read_tensors(folder / ("hf/" + name));
    ASSERT_EQ(found.size(), wanted.size()) << name;
    for (const auto& [tensor, value] : wanted) {
      const EditedTensor& has = found.at(tensor);
      ASSERT_EQ(has.dtype, value.dtype) << tensor;
      ASSERT_EQ(has.shape, value.shape) << tensor;
      exact += has == value ? 1U : 0U;
      if (has != value) {
        EXPECT_EQ(value.dtype, DType::F32) << tensor;
        EXPECT_LE(largest_difference(value, has), 0.25F) << tensor;
      }
    }
  }
  EXPECT_GE(exact, 40U);
}

TEST_P(RealCheckpoint, IsListedByItsKeys) {
  const auto expected = nlohmann::json::parse(slurp(golden(GetParam()) / "expected.json"));
  const Ended ended = run({"inspect", "--plain", "--model", golden(GetParam()).string()});
  ASSERT_EQ(ended.code, 0) << ended.all();
  const auto lines = std::count(ended.out.begin(), ended.out.end(), '\n');
  EXPECT_EQ(static_cast<std::size_t>(lines), expected.at("tensors").size());
  for (const auto& [key, tensor] : expected.at("tensors").items()) {
    EXPECT_NE(ended.out.find(key + "\t" + tensor.at("dtype").get<std::string>() + "\t"),
              std::string::npos)
        << key;
  }
}

INSTANTIATE_TEST_SUITE_P(All, RealCheckpoint,
                         testing::Values("qwen3", "qwen3_5_dense_mtp", "qwen3_5_moe_packed",
                                         "qwen3_5_vl_dense"));

/// A fault that a converter could have made: written with the checksums that fit.
struct Planted {
  explicit Planted(const std::string& name) : model(name), copy(name, folder.path()) {}
  [[nodiscard]] Ended diff() const {
    return run({"diff", golden_hf(model).string(), copy.root.string()});
  }
  void expect_refuted(const std::vector<std::string>& texts) const {
    const Ended ended = diff();
    EXPECT_EQ(ended.code, 1) << ended.all();
    EXPECT_EQ(ended.word(), "FAIL") << ended.all();
    for (const std::string& text : texts) {
      EXPECT_NE(ended.flat().find(text), std::string::npos) << text << "\n" << ended.all();
    }
  }
  std::string model;
  TempFolder folder;
  GoldenCopy copy;
};

TEST(PlantedFault, TwoExpertsAreExchanged) {
  Planted planted("qwen3_5_moe_packed");
  const std::string key = "decoder.layers.1.mlp.experts.experts.linear_fc2.weight";
  const std::string first = planted.copy.data(key, 2);
  const std::string second = planted.copy.data(key, 3);
  planted.copy.edit(key, 2, [&](std::string& data) { data = second; });
  planted.copy.edit(key, 3, [&](std::string& data) { data = first; });
  planted.expect_refuted({"decoder.layers.1.mlp.experts.linear_fc2.weight2", "weight3"});
}

TEST(PlantedFault, GateAndUpAreExchanged) {
  Planted planted("qwen3_5_vl_dense");
  const std::string key = "language_model.decoder.layers.0.mlp.linear_fc1.weight";
  ASSERT_EQ(planted.copy.expected.at("tensors").at(key).at("chunks").size(), 2U);
  const std::string gate = planted.copy.data(key, 0);
  const std::string up = planted.copy.data(key, 1);
  planted.copy.edit(key, 0, [&](std::string& data) { data = up; });
  planted.copy.edit(key, 1, [&](std::string& data) { data = gate; });
  planted.expect_refuted({key, "gate and up are exchanged"});
}

TEST(PlantedFault, OneLayerOfAStackIsZero) {
  Planted planted("qwen3");
  planted.copy.edit("decoder.layers.self_attention.q_layernorm.weight", 1,
                    [](std::string& data) { data.assign(data.size(), '\0'); });
  planted.expect_refuted({"self_attention.q_layernorm.weight"});
}

TEST(PlantedFault, PaddingRowsAreNotZero) {
  Planted planted("qwen3");
  planted.copy.edit("embedding.word_embeddings.weight", 1, [](std::string& data) {
    data[data.size() - 1] = 0x3f;  // of the last row, which is padding
  });
  planted.expect_refuted({"embedding.word_embeddings.weight"});
}

TEST(PlantedFault, AKeyIsMissingAndAnotherUnexpected) {
  Planted planted("qwen3");
  planted.copy.edit_metadata("decoder.final_layernorm.weight", "decoder.final_layernorm.wEIGHT");
  planted.expect_refuted({"decoder.final_layernorm.weight", "decoder.final_layernorm.wEIGHT"});
}

TEST(PlantedFault, AFlippedBitIsAnInputError) {
  Planted planted("qwen3");
  const std::string data = planted.copy.data("decoder.layers.mlp.linear_fc2.weight", 0);
  const auto file =
      planted.copy.iteration /
      planted.copy.chunk("decoder.layers.mlp.linear_fc2.weight", 0).at("file").get<std::string>();
  std::string bytes = slurp(file);
  bytes[bytes.find(data)] ^= 1;
  torch_dist::spill(file, bytes);
  const Ended ended = planted.diff();
  EXPECT_EQ(ended.code, 5) << ended.all();
  EXPECT_NE(ended.flat().find("the checksum of \"decoder.layers.mlp.linear_fc2.weight\""),
            std::string::npos)
      << ended.all();
}

TEST(TorchDist, ConvertAsksForTheNames) {
  const TempFolder folder;
  const Ended ended =
      run({"convert", "--to", "hf", "--model", golden("qwen3").string(), "--out", folder / "hf"});
  EXPECT_NE(ended.code, 0);
  EXPECT_NE(ended.flat().find("--like DIR"), std::string::npos) << ended.all();
}

TEST(TorchDist, AnotherModelIsRefused) {
  const TempFolder folder;
  const Ended ended = run({"convert", "--to", "hf", "--model", golden("qwen3").string(), "--like",
                           golden_hf("llama").string(), "--out", folder / "hf"});
  EXPECT_NE(ended.code, 0) << ended.all();
  EXPECT_FALSE(fs::exists(folder / "hf"));
}

}  // namespace
}  // namespace bv::e2e
