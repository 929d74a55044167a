// A checkpoint with scales beside its weights, where --dtype says what they become: judged,
// converted and compared as the plain one that it stands for.

#include <algorithm>
#include <cstring>

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

std::vector<std::byte> bytes_of(const std::vector<float>& numbers) {
  std::vector<std::byte> out(numbers.size() * sizeof(float));
  std::memcpy(out.data(), numbers.data(), out.size());
  return out;
}

/// A golden llama whose projections are small integers times a power of two for each block of
/// 16 x 8, and the same in FP8: every integer to 15 is one, and its code is easily written down.
struct Twins {
  EditedCheckpoint plain = EditedCheckpoint::golden("llama");
  EditedCheckpoint quantised = EditedCheckpoint::golden("llama");
};

std::byte float8_of(int number) {  // E4M3, 0 to 15
  int exponent = 0;
  while (number >> (exponent + 1) != 0) {
    ++exponent;
  }
  const int mantissa = number == 0 ? 0 : (number << 3 >> exponent) & 7;
  return static_cast<std::byte>(number == 0 ? 0 : (exponent + 7) << 3 | mantissa);
}

Twins twins() {
  Twins out;
  out.quantised.config["quantization_config"] = {{"quant_method", "fp8"},
                                                 {"weight_block_size", {16, 8}}};
  for (auto& [name, tensor] : out.plain.tensors) {
    if (name.find("_proj.weight") == std::string::npos) {
      continue;
    }
    const std::int64_t rows = tensor.shape[0];
    const std::int64_t columns = tensor.shape[1];
    const std::int64_t across = (columns + 7) / 8;
    EditedTensor codes{DType::F8E4M3, tensor.shape, {}};
    std::vector<float> numbers;
    std::vector<float> scales;
    for (std::int64_t block = 0; block < (rows + 15) / 16 * across; ++block) {
      scales.push_back(1.0F / static_cast<float>(1 << (block % 5)));
    }
    for (std::int64_t at = 0; at < rows * columns; ++at) {
      const auto number = static_cast<int>((at * 7 + at / columns) % 16);
      codes.bytes.push_back(float8_of(number));
      const std::int64_t block = at / columns / 16 * across + at % columns / 8;
      numbers.push_back(static_cast<float>(number) * scales[static_cast<std::size_t>(block)]);
    }
    tensor = {DType::F32, {rows, columns}, bytes_of(numbers)};
    out.quantised.tensors[name] = codes;
    out.quantised.tensors[name + "_scale_inv"] = {
        DType::F32, {(rows + 15) / 16, across}, bytes_of(scales)};
  }
  return out;
}

TEST(DequantisedSource, IsMadeWhereADtypeIsAskedFor) {
  const TempFolder folder;
  const Twins made = twins();
  made.quantised.write(folder / "m");
  for (const char* command : {"check", "roundtrip"}) {
    const Ended ended = run({command, "--model", folder / "m", "--dtype", "float32"});
    EXPECT_EQ(ended.code, 0) << ended.all();
    EXPECT_NE(ended.all().find("dequantised to F32"), std::string::npos) << ended.all();
  }
  const Ended there = run({"convert", "--to", "megatron", "--model", folder / "m", "--dtype",
                           "float32", "--tp", "2", "--out", folder / "mg"});
  ASSERT_EQ(there.code, 0) << there.all();
  const Ended back = run({"convert", "--to", "hf", "--model", folder / "mg", "--quantised", "plain",
                          "--out", folder / "back"});
  ASSERT_EQ(back.code, 0) << back.all();
  const EditedCheckpoint found = EditedCheckpoint::read(folder / "back");
  EXPECT_FALSE(found.config.contains("quantization_config"));
  std::map<std::string, EditedTensor> wanted = made.plain.tensors;
  EXPECT_EQ(found.tensors, wanted);
}

TEST(DequantisedSource, IsWhatCheckAndDiffHoldAMegatronCheckpointAgainst) {
  const TempFolder folder;
  Twins made = twins();
  made.quantised.write(folder / "m");
  for (const char* side : {"megatron", "torch_dist"}) {
    const Ended there = run({"convert", "--to", side, "--model", folder / "m", "--dtype", "float32",
                             "--out", folder / side});
    ASSERT_EQ(there.code, 0) << there.all();
  }
  const std::vector<std::vector<std::string>> lines = {
      {"diff", folder / "m", folder / "megatron", "--dtype", "float32"},
      {"check", "--model", folder / "m", "--megatron", folder / "torch_dist", "--dtype",
       "float32"}};
  for (const std::vector<std::string>& line : lines) {
    const Ended ended = run(line);
    EXPECT_EQ(ended.code, 0) << ended.all();
  }
  made.quantised.tensors.at("model.layers.1.mlp.down_proj.weight").bytes[5] ^= std::byte{1};
  made.quantised.write(folder / "m");
  for (const std::vector<std::string>& line : lines) {
    const Ended ended = run(line);
    EXPECT_EQ(ended.code, 1) << ended.all();
    EXPECT_NE(ended.out.find("decoder.layers.1.mlp.linear_fc2"), std::string::npos) << ended.out;
  }
}

/// Without a type nothing is judged, from headers either: one block names scheme and next step.
TEST(DequantisedSource, IsJudgedFromHeadersWhereADtypeIsAskedFor) {
  const TempFolder folder;
  twins().quantised.write(folder / "m");
  const std::string dump = folder / "m.headers.json";
  ASSERT_EQ(run({"inspect", "--model", folder / "m", "--dump-headers", dump}).code, 0);
  const Ended refused = run({"check", "--headers", dump});
  EXPECT_EQ(refused.code, 3) << refused.all();
  EXPECT_NE(refused.all().find("with 16 x 8 block scales"), std::string::npos) << refused.all();
  EXPECT_NE(refused.all().find("--dtype bfloat16"), std::string::npos) << refused.all();
  const Ended judged = run({"check", "--headers", dump, "--dtype", "bfloat16"});
  EXPECT_EQ(judged.code, 0) << judged.all();
  EXPECT_NE(judged.all().find("dequantised to BF16"), std::string::npos) << judged.all();
}

/// The scale of the neighbouring block is another model: the comparison must see it.
TEST(DequantisedSource, WithTwoScalesExchangedIsAnotherModel) {
  const TempFolder folder;
  Twins made = twins();
  auto& scales = made.quantised.tensors.at("model.layers.0.mlp.up_proj.weight_scale_inv").bytes;
  std::swap_ranges(scales.begin(), scales.begin() + 4, scales.begin() + 4);
  made.quantised.write(folder / "m");
  const Ended there = run({"convert", "--to", "megatron", "--model", folder / "m", "--dtype",
                           "float32", "--out", folder / "mg"});
  ASSERT_EQ(there.code, 0) << there.all();
  made.plain.write(folder / "plain");
  const Ended ended = run({"diff", folder / "plain", folder / "mg"});
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_NE(ended.out.find("linear_fc1"), std::string::npos) << ended.out;
}

}  // namespace
}  // namespace bv::e2e
