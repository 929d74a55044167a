#include "core/checkpoint/dequantise.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/quantised/quantised.hpp"

namespace bv::checkpoint {
namespace {

using nlohmann::json;

Headers mxfp4_headers() {
  Headers out;
  out["m.norm"] = {"m.norm", DType::BF16, {4}};
  out["m.w_blocks"] = {"m.w_blocks", DType::U8, {2, 6, 1, 16}};
  out["m.w_scales"] = {"m.w_scales", DType::U8, {2, 6, 1}};
  return out;
}

TEST(TakeDequantised, HeadersHaveTheWeightsInPlaceOfBitsAndCompanions) {
  Headers headers = mxfp4_headers();
  const auto weights =
      take_dequantised(quantised::find(headers, json::object()).value(), DType::BF16, headers);
  ASSERT_TRUE(weights.has_value());
  ASSERT_EQ(weights->size(), 1U);
  EXPECT_EQ(weights->front().stored.name, "m.w_blocks");
  EXPECT_EQ(weights->front().scale.name, "m.w_scales");
  EXPECT_EQ(weights->front().companions, std::vector<std::string>{"m.w_scales"});
  EXPECT_EQ(headers, (Headers{{"m.norm", {"m.norm", DType::BF16, {4}}},
                              {"m.w", {"m.w", DType::BF16, {2, 32, 6}}}}));
}

TEST(TakeDequantised, AWeightThatIsThereAsWellIsAnError) {
  Headers headers = mxfp4_headers();
  headers["m.w"] = {"m.w", DType::BF16, {2, 32, 6}};
  const auto twice =
      take_dequantised(quantised::find(headers, json::object()).value(), DType::BF16, headers);
  ASSERT_FALSE(twice.has_value());
  EXPECT_EQ(twice.error().code, Code::DuplicateKey);
}

TEST(TakeDequantised, AWeightStoredUnderItsOwnNameChangesInItsPlace) {
  Headers headers;
  headers["m.weight"] = {"m.weight", DType::F8E4M3, {4, 8}};
  headers["m.weight_scale"] = {"m.weight_scale", DType::F32, {4, 1}};
  const auto weights = take_dequantised(
      quantised::find(headers, json{{"quantization_config", {{"quant_method", "fbgemm_fp8"}}}})
          .value(),
      DType::F32, headers);
  ASSERT_TRUE(weights.has_value());
  EXPECT_EQ(weights->front().stored.dtype, DType::F8E4M3);
  EXPECT_EQ(headers, (Headers{{"m.weight", {"m.weight", DType::F32, {4, 8}}}}));
}

}  // namespace
}  // namespace bv::checkpoint
