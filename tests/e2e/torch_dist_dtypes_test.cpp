// Layers and experts whose element types differ: one tensor of torch_dist holds them all.

#include "core/base/text.hpp"
#include "core/kinds/values.hpp"
#include "core/torch_dist/metadata.hpp"
#include "tests/core/torch_dist/golden_copy.hpp"
#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;

/// A model with some tensors in another type, and the one key that is wider for it.
struct Mixed {
  std::string model;
  std::string pattern;  // of HF names
  DType dtype;
  std::string key;
  DType stored;
  std::string count;  // of parameters that are stored wider than the model has them
};

void PrintTo(const Mixed& mixed, std::ostream* out) {
  *out << mixed.model << " " << mixed.pattern;
}

void recast(EditedTensor& tensor, DType dtype) {
  const auto elements = static_cast<std::int64_t>(tensor.bytes.size()) /
                        static_cast<std::int64_t>(bytes(tensor.dtype));
  std::vector<std::byte> out(static_cast<std::size_t>(elements * bytes(dtype)));
  kinds::cast(tensor.bytes.data(), tensor.dtype, out.data(), dtype, elements);
  tensor.bytes = std::move(out);
  tensor.dtype = dtype;
}

class MixedLayers : public ::testing::TestWithParam<Mixed> {
 protected:
  void SetUp() override {
    EditedCheckpoint edited = EditedCheckpoint::golden(GetParam().model);
    std::int64_t changed = 0;
    for (auto& [name, tensor] : edited.tensors) {
      if (glob_match(GetParam().pattern, name)) {
        recast(tensor, GetParam().dtype);
        ++changed;
      }
    }
    ASSERT_EQ(changed, 1);
    edited.write(hf());
    written_ = run({"convert", "--to", "torch_dist", "--model", hf(), "--out", dist()});
    ASSERT_EQ(written_.code, 0) << written_.all();
  }
  [[nodiscard]] std::string hf() const { return folder_ / "hf"; }
  [[nodiscard]] std::string dist() const { return folder_ / "dist"; }
  TempFolder folder_;
  Ended written_;
};

TEST_P(MixedLayers, LieInTheWidestTypeOfTheirTensor) {
  EXPECT_NE(written_.all().find(GetParam().key + " is "), std::string::npos) << written_.all();
  const std::string text = torch_dist::slurp(dist() + "/iter_0000000/.metadata");
  const auto metadata = torch_dist::read_metadata(std::as_bytes(std::span(text)), "f").value();
  for (const auto& [key, tensor] : metadata.tensors) {
    EXPECT_EQ(tensor.spec.dtype, key == GetParam().key ? GetParam().stored : DType::BF16) << key;
  }
}

TEST_P(MixedLayers, AreTheModelToACheckAndToTheWayBack) {
  const Ended checked = run({"check", "--model", hf(), "--megatron", dist()});
  EXPECT_EQ(checked.code, 0) << checked.all();
  EXPECT_NE(checked.all().find(GetParam().count + " in another type"), std::string::npos)
      << checked.all();
  const Ended back =
      run({"convert", "--to", "hf", "--model", dist(), "--like", hf(), "--out", folder_ / "back"});
  EXPECT_EQ(back.code, 0) << back.all();
  EXPECT_TRUE(read_tensors(folder_ / "back") == read_tensors(hf()));
}

/// Who asks for every type kept gets the ones that are not.
TEST_P(MixedLayers, AreRefusedWhereTheirTypesMustBeKept) {
  const Ended ended = run({"diff", hf(), dist(), "--dtype", "preserve"});
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_NE(ended.all().find("BV3002"), std::string::npos) << ended.all();
}

/// The width of a neighbour excuses no lost value: a layer in BF16 that the model has in F32.
TEST(MixedLayersOfAnother, AreRefutedWhereValuesAreLost) {
  const TempFolder folder;
  EditedCheckpoint edited = EditedCheckpoint::golden("qwen3");
  EditedTensor& tensor = edited.tensors.at("model.layers.1.mlp.down_proj.weight");
  edited.write(folder / "narrow");
  recast(tensor, DType::F32);
  tensor.bytes[0] = std::byte{1};  // no BF16 has this bit
  edited.write(folder / "wide");
  ASSERT_EQ(
      run({"convert", "--to", "torch_dist", "--model", folder / "narrow", "--out", folder / "dist"})
          .code,
      0);
  const Ended ended = run({"check", "--model", folder / "wide", "--megatron", folder / "dist"});
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_NE(ended.all().find("BV3002"), std::string::npos) << ended.all();
}

INSTANTIATE_TEST_SUITE_P(
    All, MixedLayers,
    ::testing::Values(Mixed{"qwen3", "model.layers.1.mlp.down_proj.weight", DType::F32,
                            "decoder.layers.mlp.linear_fc2.weight", DType::F32, "3 parameters are"},
                      Mixed{"qwen3", "model.layers.0.self_attn.k_proj.weight", DType::F32,
                            "decoder.layers.self_attention.linear_qkv.weight", DType::F32,
                            "3 parameters are"},
                      Mixed{"qwen3", "model.layers.2.input_layernorm.weight", DType::F64,
                            "decoder.layers.self_attention.linear_qkv.layer_norm_weight",
                            DType::F64, "3 parameters are"},
                      Mixed{"qwen3_moe", "model.layers.1.mlp.experts.3.up_proj.weight", DType::F32,
                            "decoder.layers.mlp.experts.experts.linear_fc1.weight", DType::F32,
                            "31 parameters are"}));

}  // namespace
}  // namespace bv::e2e
