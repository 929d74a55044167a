#include "core/kinds/values.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>

namespace bv::kinds {
namespace {

std::array<std::byte, 2> two_bytes(std::uint32_t bits) {
  return {std::byte(bits & 0xff), std::byte(bits >> 8)};
}

/// Does RN(RN(x - 1) + 1) give the bits back? One element, the road of the engine.
bool survives(std::uint32_t bits, DType dtype) {
  const auto bytes = two_bytes(bits);
  return trace_values(bytes, dtype, dtype, -1.0).inexact == 0;
}

TEST(Values, TheExactnessPredicateEqualsBruteForceOverAllBf16AndF16) {
  for (const DType dtype : {DType::BF16, DType::F16}) {
    int exact = 0;
    for (std::uint32_t bits = 0; bits < 65536; ++bits) {
      const auto bytes = two_bytes(bits);
      const double x = load(bytes.data(), dtype);
      if (std::isnan(x)) {
        continue;
      }
      exact += survives(bits, dtype) ? 1 : 0;
      ASSERT_EQ(minus_one_is_exact(x, precision(dtype)), survives(bits, dtype))
          << name(dtype) << " " << bits << " " << x;
    }
    EXPECT_GT(exact, 1000);
    EXPECT_LT(exact, 65000);
  }
}

TEST(Values, StatedFactsOfTheZeroCentredNorm) {
  EXPECT_TRUE(minus_one_is_exact(0.5, 8));
  EXPECT_TRUE(minus_one_is_exact(256.0, 8));
  EXPECT_FALSE(minus_one_is_exact(258.0, 8));
  EXPECT_TRUE(minus_one_is_exact(260.0, 8));
  EXPECT_TRUE(minus_one_is_exact(512.0, 8));
  EXPECT_FALSE(minus_one_is_exact(-0.0, 8));
  EXPECT_TRUE(minus_one_is_exact(0.0, 8));
}

TEST(Values, StoreIsTheInverseOfLoadForEveryNumber) {
  for (const DType dtype : {DType::BF16, DType::F16}) {
    for (std::uint32_t bits = 0; bits < 65536; ++bits) {
      const auto bytes = two_bytes(bits);
      const double x = load(bytes.data(), dtype);
      if (std::isnan(x)) {
        continue;
      }
      std::byte back[2];
      store(x, back, dtype);
      ASSERT_EQ(std::memcmp(back, bytes.data(), 2), 0) << name(dtype) << " " << bits;
    }
  }
}

TEST(Values, NarrowingRoundsToNearestEvenAndKeepsDenormals) {
  const auto narrowed = [](std::uint32_t bits) {
    std::byte out[2];
    cast(reinterpret_cast<const std::byte*>(&bits), DType::F32, out, DType::BF16, 1);
    std::uint16_t value = 0;
    std::memcpy(&value, out, 2);
    return value;
  };
  EXPECT_EQ(narrowed(0x3f808000), 0x3f80);  // tie to even, down
  EXPECT_EQ(narrowed(0x3f818000), 0x3f82);  // tie to even, up
  EXPECT_EQ(narrowed(0x007fffff), 0x0080);  // the fast instruction would flush this to zero
  EXPECT_EQ(narrowed(0x80400000), 0x8040);
  EXPECT_EQ(narrowed(0x7f7fffff), 0x7f80);           // overflow to infinity
  EXPECT_EQ(narrowed(0x7fa00001) & 0x7fc0, 0x7fc0);  // NaN stays NaN, quiet
  EXPECT_EQ(narrowed(0x80000000), 0x8000);
}

TEST(Values, WideningBf16ComesBackForEveryBitPattern) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto bytes = two_bytes(bits);
    std::byte wide[4];
    std::byte back[2];
    cast(bytes.data(), DType::BF16, wide, DType::F32, 1);
    cast(wide, DType::F32, back, DType::BF16, 1);
    ASSERT_EQ(std::memcmp(back, bytes.data(), 2), 0) << bits;
  }
}

TEST(Values, TheGenericRoadRoundsLikeTheIntegerFormula) {
  std::uint32_t state = 12345;
  for (int i = 0; i < 200000; ++i) {
    state = state * 1664525U + 1013904223U;
    const auto x = std::bit_cast<float>(state);
    if (std::isnan(x)) {
      continue;
    }
    std::byte formula[2];
    cast(reinterpret_cast<const std::byte*>(&state), DType::F32, formula, DType::BF16, 1);
    std::byte generic[2];
    store(static_cast<double>(x), generic, DType::BF16);
    ASSERT_EQ(std::memcmp(formula, generic, 2), 0) << state;
  }
}

TEST(Values, CastExactnessIsStatedByValue) {
  EXPECT_TRUE(cast_is_exact(1.0, DType::BF16));
  EXPECT_FALSE(cast_is_exact(1.0 + 0x1p-9, DType::BF16));
  EXPECT_TRUE(cast_is_exact(65504.0, DType::F16));
  EXPECT_FALSE(cast_is_exact(65536.0, DType::F16));
  EXPECT_TRUE(cast_is_exact(0x1p-24, DType::F16));
  EXPECT_FALSE(cast_is_exact(0x1p-25, DType::F16));
}

TEST(Values, TraceCountsAndNamesTheFirstLostElement) {
  const float values[3] = {1.0F, 1.0F + 0x1p-20F, 3.0F};
  const auto found = trace_values(std::as_bytes(std::span(values)), DType::F32, DType::BF16, 0.0);
  EXPECT_EQ(found.elements, 3);
  EXPECT_EQ(found.inexact, 1);
  EXPECT_EQ(found.first_inexact, 1);
  EXPECT_EQ(found.first_wanted_bits, std::bit_cast<std::uint32_t>(values[1]));
  EXPECT_EQ(found.first_found_bits, std::bit_cast<std::uint32_t>(1.0F));
}

TEST(Values, EqualTypesWithoutAValueRuleAreExactForEveryBitPattern) {
  const std::uint32_t signalling = 0x7fa00001;
  EXPECT_EQ(
      trace_values(std::as_bytes(std::span(&signalling, 1)), DType::F32, DType::F32, 0.0).inexact,
      0);
}

TEST(Values, Float32SumsRoundOnce) {
  // x - 1 in double and then in float must be the float difference for every exponent.
  for (int exponent = -149; exponent < 128; ++exponent) {
    for (const float mantissa : {1.0F, 1.0F + 0x1p-23F, 1.5F, 2.0F - 0x1p-23F}) {
      for (const float sign : {1.0F, -1.0F}) {
        const float x = sign * std::ldexp(mantissa, exponent);
        std::byte bytes[4];
        std::memcpy(bytes, &x, 4);
        add_constant(bytes, DType::F32, -1.0);
        float found = 0;
        std::memcpy(&found, bytes, 4);
        volatile float wanted = x - 1.0F;
        ASSERT_EQ(found, wanted) << x;
      }
    }
  }
}

}  // namespace
}  // namespace bv::kinds
