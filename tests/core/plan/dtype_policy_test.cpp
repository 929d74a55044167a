#include "core/plan/dtype_policy.hpp"

#include <gtest/gtest.h>

#include <filesystem>

#include "core/base/text.hpp"
#include "core/checkpoint/open_model.hpp"
#include "tests/support/golden_model.hpp"

namespace bv::plan {
namespace {

std::vector<DType> all_dtypes() {
  std::vector<DType> out;
  for (int i = 0; i <= static_cast<int>(DType::U64); ++i) {
    out.push_back(static_cast<DType>(i));
  }
  return out;
}

TEST(ParameterDtype, IsAFloatOfSixteenBitsOrMore) {
  std::vector<DType> found;
  for (const DType dtype : all_dtypes()) {
    if (is_parameter_dtype(dtype)) {
      found.push_back(dtype);
    }
  }
  EXPECT_EQ(found, (std::vector<DType>{DType::F16, DType::BF16, DType::F32, DType::F64}));
}

TEST(CheckDtypes, EveryOtherDtypeOfAParameterIsRefusedByName) {
  checkpoint::HfModel model = support::open_golden("llama");
  EXPECT_TRUE(check_dtypes(model.model, model.headers));
  TensorSpec& norm = model.headers.at("model.norm.weight");
  for (const DType dtype : all_dtypes()) {
    norm.dtype = dtype;
    const auto status = check_dtypes(model.model, model.headers);
    ASSERT_EQ(status.has_value(), is_parameter_dtype(dtype)) << name(dtype);
    if (!status) {
      const Error& error = status.error();
      EXPECT_EQ(error.code, Code::DtypeUnsupported);
      EXPECT_EQ(error.found, "1 " + std::string(name(dtype)));
      ASSERT_EQ(error.facts.size(), 1U);
      EXPECT_EQ(error.facts[0],
                "model.norm.weight " + std::string(name(dtype)) + " " + shape_text(norm.shape));
    }
  }
}

/// Counters and positions stand beside the weights of a module that Megatron takes from HF as it
/// is; packed values of such a module are no buffers.
TEST(CheckDtypes, IntegersOfAModuleThatGoesAsItIsAreItsBuffers) {
  checkpoint::HfModel model = support::open_golden("ernie4_5_vl_moe");
  const auto with = [&](const std::string& name, DType dtype) {
    Headers headers = model.headers;
    headers.at(name).dtype = dtype;
    return check_dtypes(model.model, headers).has_value();
  };
  EXPECT_TRUE(with("model.vision_model.ln.bias", DType::I64));
  EXPECT_FALSE(with("model.vision_model.ln.bias", DType::I32));
  EXPECT_FALSE(with("model.vision_model.ln.bias", DType::U8));
  EXPECT_FALSE(with("model.norm.weight", DType::I64));
}

TEST(CheckDtypes, ManyTensorsAreOneErrorWithTheFirstOfThem) {
  checkpoint::HfModel model = support::open_golden("llama");
  for (auto& [name, spec] : model.headers) {
    spec.dtype = name.find("norm") == std::string::npos ? DType::F8E4M3 : DType::Bool;
  }
  const auto status = check_dtypes(model.model, model.headers);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().facts.size(), 7U);
  EXPECT_TRUE(status.error().facts.back().starts_with("and ")) << status.error().facts.back();
  EXPECT_NE(status.error().message.find(" BOOL, "), std::string::npos) << status.error().message;
}

}  // namespace
}  // namespace bv::plan
