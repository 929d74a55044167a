#include "core/plan/size_bounds.hpp"

#include <gtest/gtest.h>

#include <filesystem>

#include "core/base/arith.hpp"
#include "core/checkpoint/open_model.hpp"
#include "tests/support/golden_model.hpp"

namespace bv::plan {
namespace {

const std::vector<std::int64_t> kAbsurd = {std::int64_t{1} << 31, std::int64_t{1} << 40,
                                           std::int64_t{1} << 62};

class SizeBounds : public ::testing::TestWithParam<const char*> {};

TEST_P(SizeBounds, AreMetByARealModelAndByNoAbsurdWidth) {
  checkpoint::HfModel model = support::open_golden(GetParam());
  EXPECT_TRUE(check_size_bounds(model.model, model.headers));
  EXPECT_TRUE(check_size_bounds(model.model, {})) << "config alone";
  for (const char* symbol : {"hidden_size", "num_attention_heads", "vocab_size"}) {
    const std::int64_t right = model.model.geometry.at(symbol);
    for (const std::int64_t absurd : kAbsurd) {
      model.model.geometry.symbols[symbol] = absurd;
      for (const Headers& headers : {model.headers, Headers{}}) {
        const auto status = check_size_bounds(model.model, headers);
        ASSERT_FALSE(status) << symbol << " " << absurd;
        EXPECT_EQ(status.error().code, Code::SizeOutOfBounds);
        EXPECT_NE(status.error().message.find(symbol), std::string::npos) << status.error().message;
      }
    }
    model.model.geometry.symbols[symbol] = right;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, SizeBounds,
                         ::testing::Values("llama", "qwen3_moe", "gpt_oss", "deepseek_v3",
                                           "qwen3_5_vl_moe_mtp_packed"));

TEST(SizeBounds, TheBoundIsTheElementsOfTheWholeCheckpoint) {
  checkpoint::HfModel model = support::open_golden("llama");
  std::int64_t elements = 0;
  for (const auto& [name, spec] : model.headers) {
    elements += element_count(spec.shape).value();
  }
  model.model.geometry.symbols["hidden_size"] = elements;
  EXPECT_TRUE(check_size_bounds(model.model, model.headers));
  model.model.geometry.symbols["hidden_size"] = elements + 1;
  EXPECT_FALSE(check_size_bounds(model.model, model.headers));
}

TEST(SizeBounds, WhereSomeElementsAreNotKnownTheBoundIsTheFixedOne) {
  checkpoint::HfModel model = support::open_golden("llama");
  model.headers.at("model.norm.weight").shape = {};
  model.model.geometry.symbols["hidden_size"] = kSizeMax;
  EXPECT_TRUE(check_size_bounds(model.model, model.headers));
  model.model.geometry.symbols["hidden_size"] = kSizeMax + 1;
  EXPECT_FALSE(check_size_bounds(model.model, model.headers));
}

}  // namespace
}  // namespace bv::plan
