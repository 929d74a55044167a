// The size of blocks that config.json does not say, and what it says that is not so.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/quantised/quantised.hpp"

namespace bv::quantised {
namespace {

using nlohmann::json;
using testing::HasSubstr;

struct StoredWeight {
  DType dtype = DType::F8E4M3;
  Shape weight;
  Shape scale;
  DType scale_dtype = DType::F32;
};

/// Modules m0, m1, ... as they are stored.
Headers stored_headers(const std::vector<StoredWeight>& all) {
  Headers out;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const bool packed = all[i].dtype == DType::I32;
    const std::string module = "m" + std::to_string(i) + ".";
    const std::string weight = module + (packed ? "weight_packed" : "weight");
    const std::string scale = module + (packed ? "weight_scale" : "weight_scale_inv");
    out[weight] = {weight, all[i].dtype, all[i].weight};
    out[scale] = {scale, all[i].scale_dtype, all[i].scale};
  }
  return out;
}

json config_with(json quantisation) {
  return quantisation.is_null() ? json::object()
                                : json{{"quantization_config", std::move(quantisation)}};
}

/// "128 x 128 1 x 32": the block of each weight in name order, or why there is none.
std::string blocks_of(const std::vector<StoredWeight>& all, json quantisation) {
  const Headers headers = stored_headers(all);
  const auto source = find(headers, config_with(std::move(quantisation))).value();
  std::map<std::string, std::string> out;
  for (const Group& group : source.groups) {
    for (const Weight& weight : group.weights) {
      if (!weight.form) {
        return weight.undefined;
      }
      out[weight.name] = std::to_string(weight.form->block_rows) + " x " +
                         std::to_string(weight.form->block_columns) + " ";
    }
  }
  std::string joined;
  for (const auto& [name, block] : out) {
    joined += block;
  }
  return joined;
}

std::string taken_of(const std::vector<StoredWeight>& all, json quantisation) {
  const Headers headers = stored_headers(all);
  const auto source = find(headers, config_with(std::move(quantisation))).value();
  return source.taken.empty() ? "" : source.taken.front();
}

constexpr DType kFp8 = DType::F8E4M3;
const json kFp8Said = {{"quant_method", "fp8"}};

/// 200 rows with 2 scales were taken for two blocks of 100: DeepSeek's are 128 and 72.
TEST(Blocks, OfACutWeightAreTheOneSizeThatExplainsAll) {
  const std::vector<StoredWeight> ragged = {{kFp8, {192, 192}, {2, 2}},
                                            {kFp8, {200, 192}, {2, 2}},
                                            {kFp8, {192, 200}, {2, 2}},
                                            {kFp8, {96, 192}, {1, 2}}};
  const std::string wanted = "128 x 128 128 x 128 128 x 128 128 x 128 ";
  EXPECT_EQ(blocks_of(ragged, nullptr), wanted);
  EXPECT_THAT(taken_of(ragged, nullptr), HasSubstr("128 x 128 was taken"));
  EXPECT_EQ(blocks_of(ragged, kFp8Said), wanted);
  EXPECT_THAT(taken_of(ragged, kFp8Said), HasSubstr("the default of transformers"));
  EXPECT_EQ(blocks_of(ragged, {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}}),
            wanted);
  EXPECT_EQ(taken_of(ragged, {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}}), "");
  EXPECT_EQ(blocks_of({{kFp8, {576, 7168}, {5, 56}}, {kFp8, {7168, 2048}, {56, 16}}}, nullptr),
            "128 x 128 128 x 128 ");
}

TEST(Blocks, AreRefusedWhereCutAndEvenOnesBothExplain) {
  const std::vector<StoredWeight> both = {{kFp8, {192, 256}, {2, 2}}, {kFp8, {384, 256}, {4, 2}}};
  const std::string why = blocks_of({both[0]}, nullptr);
  EXPECT_THAT(why, HasSubstr("rows: 96 or 128, columns: 128"));
  EXPECT_THAT(why, HasSubstr("weight_block_size"));
  EXPECT_EQ(blocks_of({both[0]}, kFp8Said), "128 x 128 ");
  EXPECT_EQ(blocks_of(both, nullptr), "96 x 128 96 x 128 ");  // 128 makes three of 384
  EXPECT_THAT(blocks_of(both, kFp8Said), HasSubstr("does not explain m1.weight [384, 256]"));
}

TEST(Blocks, OfNoSingleSizeAreRefused) {
  const std::string why =
      blocks_of({{kFp8, {256, 256}, {2, 2}}, {kFp8, {256, 256}, {4, 4}}}, nullptr);
  EXPECT_THAT(why, HasSubstr("no single one explains both"));
  EXPECT_THAT(why, HasSubstr("m0.weight [256, 256]"));
  EXPECT_THAT(why, HasSubstr("m1.weight [256, 256]"));
}

/// A row, a tensor or a matrix with one scale says all by itself.
TEST(Blocks, AreNotAskedForWhereOneScaleIsForAWhole) {
  for (const json& config : {json(nullptr), kFp8Said}) {
    EXPECT_EQ(blocks_of({{kFp8, {200, 96}, {200, 1}}}, config), "1 x 96 ");
    EXPECT_EQ(blocks_of({{kFp8, {200, 96}, {200}}}, config), "1 x 96 ");
    EXPECT_EQ(blocks_of({{kFp8, {200, 96}, {}}}, config), "200 x 96 ");
    EXPECT_EQ(blocks_of({{kFp8, {3, 200, 96}, {3, 1, 1}}}, config), "200 x 96 ");
    EXPECT_EQ(blocks_of({{kFp8, {1, 96}, {1, 1}}}, config), "1 x 96 ");
    EXPECT_EQ(taken_of({{kFp8, {200, 96}, {200, 1}}}, config), "");
  }
}

TEST(Blocks, OfPartsOfARowAreOneSizeToo) {
  EXPECT_EQ(blocks_of({{kFp8, {64, 96}, {64, 3}, DType::U8}}, nullptr), "1 x 32 ");
  EXPECT_THAT(blocks_of({{kFp8, {64, 96}, {64, 2}, DType::U8}}, nullptr),
              HasSubstr("columns: 48 or 64"));
  const json four = {{"quant_method", "compressed-tensors"},
                     {"config_groups", {{"g", {{"weights", {{"num_bits", 4}}}}}}}};
  EXPECT_EQ(blocks_of({{DType::I32, {8, 8}, {8, 2}, DType::BF16}}, four), "1 x 32 ");
  EXPECT_THAT(blocks_of({{DType::I32, {8, 12}, {8, 2}, DType::BF16}}, four),
              HasSubstr("columns: 48 or 64"));
  EXPECT_EQ(blocks_of({{DType::I32, {8, 12}, {8, 1}, DType::BF16}}, four), "1 x 96 ");
}

struct Contradiction {
  std::string wanted;  // in the reason
  StoredWeight stored;
  json quantisation;
};

json one_group(json weights, const char* format = "pack-quantized") {
  return {{"quant_method", "compressed-tensors"},
          {"format", format},
          {"config_groups", {{"group_0", {{"weights", std::move(weights)}}}}}};
}

/// Each field that decides values, said as something else than what is stored.
TEST(Agreement, IsAskedOfEveryFieldThatDecidesValues) {
  const StoredWeight one{kFp8, {64, 32}, {}};
  const StoredWeight block{kFp8, {64, 32}, {1, 1}};
  const StoredWeight five{DType::F8E5M2, {64, 32}, {}};
  const StoredWeight four{DType::I32, {64, 8}, {64, 2}, DType::BF16};
  const json int4 = {{"num_bits", 4},    {"type", "int"},     {"strategy", "group"},
                     {"group_size", 32}, {"symmetric", true}, {"actorder", nullptr}};
  const auto with = [&int4](const char* key, const json& value) {
    json out = int4;
    out[key] = value;
    return one_group(out);
  };
  EXPECT_EQ(blocks_of({four}, one_group(int4)), "1 x 32 ");
  EXPECT_EQ(blocks_of({four}, with("actorder", "static")), "1 x 32 ");
  const std::vector<Contradiction> rows = {
      {"fmt e4m3", five, {{"quant_method", "fp8"}, {"fmt", "e4m3"}}},
      {"fmt float8_e5m2", one, {{"quant_method", "fp8"}, {"fmt", "float8_e5m2"}}},
      {"fmt int8", one, {{"quant_method", "fp8"}, {"fmt", "int8"}}},
      {"scale_fmt float",
       {kFp8, {64, 32}, {64, 1}, DType::U8},
       {{"quant_method", "fp8"}, {"scale_fmt", "float"}}},
      {"quant_method gptq", one, {{"quant_method", "gptq"}, {"bits", 8}}},
      {"quant_method mxfp8", block, {{"quant_method", "mxfp8"}, {"weight_block_size", {64, 32}}}},
      {"quant_algo NVFP4", one, {{"quant_method", "modelopt"}, {"quant_algo", "NVFP4"}}},
      {"4 bits", one, {{"quant_method", "fp8"}, {"bits", 4}}},
      {"type int", one, one_group({{"num_bits", 8}, {"type", "int"}}, "float-quantized")},
      {"format pack-quantized", one, one_group({{"num_bits", 8}, {"type", "float"}})},
      {"strategy channel", one,
       one_group({{"num_bits", 8}, {"type", "float"}, {"strategy", "channel"}}, "float-quantized")},
      {"strategy tensor",
       {kFp8, {64, 32}, {64, 1}},
       one_group({{"num_bits", 8}, {"type", "float"}, {"strategy", "tensor"}}, "float-quantized")},
      {"blocks of 16 x 8", block, {{"quant_method", "fp8"}, {"weight_block_size", {16, 8}}}},
      {"quant_method fp8", four, {{"quant_method", "fp8"}, {"bits", 4}}},
      {"type float", four, with("type", "float")},
      {"actorder group", four, with("actorder", "group")},
      {"actorder true", four, with("actorder", true)},
      {"symmetric false", four, with("symmetric", false)},
      {"strategy channel", four, with("strategy", "channel")},
      {"strategy tensor", four, with("strategy", "tensor")},
      {"blocks of 1 x 16", four, with("group_size", 16)},
      {"blocks of 1 x 32, which take 64 x 1", four, with("num_bits", 8)},
      {"format int-quantized", four, one_group(int4, "int-quantized")},
  };
  for (const Contradiction& row : rows) {
    EXPECT_THAT(blocks_of({row.stored}, row.quantisation),
                HasSubstr("config.json says " + row.wanted))
        << row.quantisation;
  }
  json turned = one_group(int4);
  turned["transform_config"] = {{"config_groups", {{"R1", {{"type", "hadamard"}}}}}};
  EXPECT_THAT(blocks_of({four}, turned), HasSubstr("transform_config"));
  json bits = one_group(int4);
  bits["bits"] = 8;
  EXPECT_THAT(blocks_of({four}, bits), HasSubstr("8 bits for all weights, and 4 bits"));
}

/// MXFP8 that is called by its own name (MiniMax-M3; what vLLM and SGLang write): 32 numbers of a
/// row share a power of two, said or not.
TEST(Agreement, MxFp8MayBeCalledByItsName) {
  const StoredWeight stored{kFp8, {64, 96}, {64, 3}, DType::U8};
  const StoredWeight other{kFp8, {64, 96}, {64, 2}, DType::U8};
  for (const char* method : {"mxfp8", "modelopt_mxfp8", "fp8", "modelopt"}) {
    json says = {{"quant_method", method}, {"weight_block_size", {1, 32}}};
    EXPECT_EQ(blocks_of({stored}, says), "1 x 32 ") << method;
    EXPECT_THAT(blocks_of({other}, says), HasSubstr("blocks of 1 x 32")) << method;
  }
  EXPECT_EQ(blocks_of({stored}, {{"quant_method", "mxfp8"}}), "1 x 32 ");
  EXPECT_THAT(blocks_of({other}, {{"quant_method", "mxfp8"}}), HasSubstr("blocks of 1 x 32"));
}

/// What compressed-tensors wrote before it wrote lists, and still reads.
TEST(Blocks, AStructureMayBeAText) {
  const StoredWeight stored{kFp8, {64, 32}, {4, 4}};
  const auto says = [](const json& structure) {
    return one_group(
        {{"num_bits", 8}, {"type", "float"}, {"strategy", "block"}, {"block_structure", structure}},
        "float-quantized");
  };
  EXPECT_EQ(blocks_of({stored}, says({16, 8})), "16 x 8 ");
  EXPECT_EQ(blocks_of({stored}, says("16x8")), "16 x 8 ");
  EXPECT_THAT(blocks_of({stored}, says("8x16")), HasSubstr("blocks of 8 x 16"));
  for (const char* wrong : {"", "x", "16", "16x", "x8", "16x8x1", "16 x 8", "16,8", "0x8", "-1x8",
                            "99999999999999999999x8"}) {
    EXPECT_THAT(blocks_of({stored}, says(wrong)), HasSubstr("is not two positive whole numbers"))
        << wrong;
  }
}

/// A format that nobody here knows has the name that config.json gives it.
TEST(Quantised, FormatsAreCalledAsTheConfigCallsThem) {
  const auto scheme = [](DType scale, Shape packed, const char* format, int bits) {
    Headers headers;
    headers["m.weight_packed"] = {"m.weight_packed", DType::U8, std::move(packed)};
    headers["m.weight_scale"] = {"m.weight_scale", scale, {64, 2}};
    return find(headers, format == nullptr ? json::object()
                                           : config_with(one_group({{"num_bits", bits}}, format)))
        .value()
        .groups.front()
        .scheme;
  };
  EXPECT_EQ(scheme(DType::U8, {64, 48}, "mxfp6-pack-quantized", 6), "MXFP6 (compressed-tensors)");
  EXPECT_EQ(scheme(DType::U8, {64, 48}, nullptr, 0), "MXFP6 (compressed-tensors)");
  EXPECT_EQ(scheme(DType::U8, {64, 64}, "mxfp8-pack-quantized", 8), "MXFP8 (compressed-tensors)");
  EXPECT_EQ(scheme(DType::U8, {64, 32}, "mxfp4-pack-quantized", 4), "MXFP4 (compressed-tensors)");
  EXPECT_EQ(scheme(DType::F8E4M3, {64, 16}, "nvfp4-pack-quantized", 4),
            "NVFP4 (compressed-tensors)");
  EXPECT_EQ(scheme(DType::BF16, {64, 16}, "nobody-knows", 3),
            "format nobody-knows of compressed-tensors");
}

/// A field that is there and cannot be read is not the same as none.
TEST(Blocks, AFieldThatCannotBeReadIsRefusedByName) {
  const std::vector<StoredWeight> one = {{DType::F8E4M3, {192, 192}, {2, 2}}};
  for (const json& wrong : {json{1, 96, 96}, json("96,96"), json{"96", "96"}, json{0, 0},
                            json{96.0, 96.0}, json(96), json::object(), json{96, -96}}) {
    const json config = {{"quant_method", "fp8"}, {"weight_block_size", wrong}};
    EXPECT_THAT(blocks_of(one, config), HasSubstr("config.json says weight_block_size")) << config;
    EXPECT_THAT(blocks_of(one, config), HasSubstr("which is not two positive whole numbers"));
  }
  EXPECT_EQ(blocks_of(one, {{"quant_method", "fp8"}, {"weight_block_size", {96, 96}}}), "96 x 96 ");
}

TEST(Blocks, AGroupWhoseFieldsCannotBeReadIsRefusedByName) {
  const std::vector<StoredWeight> one = {{DType::I32, {8, 16}, {8, 4}}};
  const auto config = [](json weights) {
    return json{{"quant_method", "compressed-tensors"},
                {"format", "pack-quantized"},
                {"config_groups", {{"group_0", {{"weights", std::move(weights)}}}}}};
  };
  EXPECT_EQ(blocks_of(one, config({{"num_bits", 4}, {"group_size", 32}, {"symmetric", true}})),
            "1 x 32 ");
  EXPECT_THAT(blocks_of(one, config({{"num_bits", "4"}, {"group_size", 32}, {"symmetric", true}})),
              HasSubstr("config.json says num_bits \"4\", which is not a positive whole number"));
  EXPECT_THAT(blocks_of(one, config({{"num_bits", 4}, {"group_size", "32"}, {"symmetric", true}})),
              HasSubstr("config.json says group_size \"32\", which is not a whole number"));
}

}  // namespace
}  // namespace bv::quantised
