// Every dtype of safetensors through every command: input, never a fault of ours; and green only
// for what a Megatron parameter can be.

#include <fmt/format.h>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;

std::vector<DType> all_dtypes() {
  std::vector<DType> out;
  for (int i = 0; i <= static_cast<int>(DType::U64); ++i) {
    out.push_back(static_cast<DType>(i));
  }
  return out;
}

bool is_parameter(DType dtype) {
  return dtype == DType::F16 || dtype == DType::BF16 || dtype == DType::F32 || dtype == DType::F64;
}

/// The tensor in another dtype: every value 0.
void relabel(EditedTensor& tensor, DType dtype) {
  tensor.dtype = dtype;
  tensor.bytes.assign(tensor_bytes({"", dtype, tensor.shape}), std::byte{0});
}

/// The whole checkpoint, one tensor of a fused parameter, one parameter of its own.
const std::vector<std::string>& patterns() {
  static const std::vector<std::string> all = {"*", "model.layers.0.mlp.gate_proj.weight",
                                               "model.norm.weight"};
  return all;
}

class EveryDtype : public ::testing::TestWithParam<DType> {
 protected:
  static void expect_ended(const Ended& ended, const std::vector<int>& codes) {
    EXPECT_NE(std::find(codes.begin(), codes.end(), ended.code), codes.end())
        << "exit " << ended.code << "\n"
        << ended.all();
    EXPECT_EQ(ended.all().find("fault of bridge-verify"), std::string::npos) << ended.all();
  }
};

TEST_P(EveryDtype, OfAnHfModelIsJudgedOrUnsupported) {
  const DType dtype = GetParam();
  for (const std::string& pattern : patterns()) {
    SCOPED_TRACE(pattern);
    const TempFolder folder;
    const std::string model = folder / "m";
    EditedCheckpoint edited = EditedCheckpoint::golden("llama");
    for (auto& [name, tensor] : edited.tensors) {
      relabel(tensor, glob_match(pattern, name) ? dtype : DType::BF16);
    }
    edited.write(model);
    const int judged = is_parameter(dtype) ? 0 : 3;
    expect_ended(run({"check", "--model", model}), {judged});
    expect_ended(run({"check", "--model", model, "--dtype", "bfloat16"}), {judged});
    const int values = dtype == DType::BF16 ? 3 : judged;  // nothing computes: no claim
    expect_ended(run({"check", "--model", model, "--only", "values", "--dtype", "bfloat16"}),
                 {values});
    if (pattern == "*") {  // LibTorch takes a second to load
      expect_ended(run({"check", "--model", model, "--level", "full"}), {judged});
    }
    expect_ended(run({"roundtrip", "--model", model}), {judged});
    expect_ended(run({"roundtrip", "--model", model, "--only", "bytes"}), {judged});
    expect_ended(run({"convert", "--to", "megatron", "--model", model, "--out", folder / "o"}),
                 {judged});
    EXPECT_EQ(fs::exists(folder / "o"), judged == 0);
    expect_ended(run({"convert", "--to", "megatron", "--model", model, "--dtype", "bfloat16",
                      "--out", folder / "o16"}),
                 {judged});
    EXPECT_EQ(fs::exists(folder / "o16"), judged == 0);
    expect_ended(run({"inspect", "--model", model}), {0});
    expect_ended(run({"layout", "--model", model}), {0});
    expect_ended(run({"trace", "model.norm.weight", "--model", model}), {0});
    expect_ended(run({"diff", model, model}), {0});
    expect_ended(run({"diff", golden_hf("llama").string(), model}), {1});
    expect_ended(run({"diff", model, golden_hf("llama").string()}), {1});
  }
}

/// The ways back: a shard, and the manifest.
TEST_P(EveryDtype, OfAShardOrAManifestIsConvertedOrRefused) {
  const DType dtype = GetParam();
  const TempFolder folder;
  const std::string m = folder / "m";
  ASSERT_EQ(
      run({"convert", "--to", "megatron", "--model", golden_hf("llama").string(), "--out", m}).code,
      0);
  const std::string shard = m + "/pp0_tp0_ep0_etp0.safetensors";
  const std::string before = file_text(shard);
  const auto commands = [&](const std::string& as, const std::vector<int>& codes) {
    expect_ended(run({"convert", "--to", "hf", "--model", m, "--out", folder / as}), codes);
    EXPECT_TRUE(codes.front() == 0 || !fs::exists(folder / as));
    expect_ended(run({"diff", golden_hf("llama").string(), m}), {0, 1, 3, 5});
    expect_ended(run({"layout", "--model", m}), {0, 1, 3, 5});
    expect_ended(run({"inspect", "--model", m}), {0, 1, 3, 5});
  };
  EditedCheckpoint edited;
  edited.tensors = read_tensors(shard);
  EditedTensor& norm = edited.tensors.at("decoder.final_layernorm.weight");
  const DType right = norm.dtype;
  relabel(norm, dtype);
  edited.write(folder / "edited");
  fs::copy_file(folder / "edited/model.safetensors", shard, fs::copy_options::overwrite_existing);
  commands("h1", dtype == right ? std::vector<int>{0, 1} : std::vector<int>{5, 3, 1});
  write_text(shard, before);
  auto manifest = nlohmann::ordered_json::parse(file_text(m + "/manifest.json"));
  auto& stated = manifest["hf"]["tensors"]["model.norm.weight"];
  for (auto& field : stated) {
    if (field.is_string() && dtype_from_name(field.get<std::string>())) {
      field = name(dtype);
    }
  }
  write_text(m + "/manifest.json", manifest.dump());
  commands("h2", dtype == right ? std::vector<int>{0} : std::vector<int>{5, 3, 1, 0});
}

INSTANTIATE_TEST_SUITE_P(DTypes, EveryDtype, ::testing::ValuesIn(all_dtypes()),
                         [](const auto& one) { return std::string(name(one.param)); });

/// One F16 among neighbours of another dtype is no fault, and worth a note.
TEST(Dtypes, ATensorUnlikeItsNeighboursIsANote) {
  const TempFolder folder;
  EditedCheckpoint model = EditedCheckpoint::golden("llama");
  relabel(model.tensors.at("model.layers.1.mlp.down_proj.weight"), DType::F16);
  model.write(folder / "m");
  const Ended ended = run({"check", "--model", folder / "m"});
  EXPECT_EQ(ended.code, 0) << ended.all();
  EXPECT_NE(ended.out.find("model.layers.1.mlp.down_proj.weight"), std::string::npos) << ended.out;
  EXPECT_NE(ended.out.find("is F16"), std::string::npos) << ended.out;
}

/// The label alone is wrong: that is the cause, not the rows.
TEST(Dtypes, DiffNamesTheWrongLabel) {
  const TempFolder folder;
  EditedCheckpoint model = EditedCheckpoint::golden("llama");
  EditedTensor& down = model.tensors.at("model.layers.0.mlp.down_proj.weight");
  down.dtype = DType::BF16;
  down.bytes.resize(down.bytes.size() / 2);
  model.write(folder / "a");
  down.dtype = DType::F16;
  model.write(folder / "b");
  const Ended ended = run({"diff", folder / "a", folder / "b"});
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_NE(ended.out.find("the dtype is F16 instead of BF16"), std::string::npos) << ended.out;
  EXPECT_NE(ended.out.find("the label is wrong"), std::string::npos) << ended.out;
}

}  // namespace
}  // namespace bv::e2e
