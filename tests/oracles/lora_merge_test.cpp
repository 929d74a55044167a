// The bound of a merge: what every right order of summation gives is admitted, and what is known to
// be merged wrongly is not.

#include "oracles/lora_merge.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>
#include <vector>

namespace bv::oracle {
namespace {

using Row = std::vector<double>;

float rounded(DType dtype, double value) {
  return static_cast<float>(round_to(dtype, value));
}

/// A random tensor, its factors, and ways to merge it.
struct Pair {
  DType dtype = DType::BF16;
  DType factors = DType::BF16;
  std::int64_t rank = 16, rows = 24, columns = 48;
  double alpha = 24;
  std::vector<float> w, a, b;

  [[nodiscard]] double scale() const { return alpha / static_cast<double>(rank); }
  [[nodiscard]] float at_b(std::int64_t i, std::int64_t k) const {
    return b[static_cast<std::size_t>(i * rank + k)];
  }
  [[nodiscard]] float at_a(std::int64_t k, std::int64_t j) const {
    return a[static_cast<std::size_t>(k * columns + j)];
  }
  [[nodiscard]] float at_w(std::int64_t i, std::int64_t j) const {
    return w[static_cast<std::size_t>(i * columns + j)];
  }
};

Pair make_pair_of(DType dtype, DType factors, std::int64_t rank, unsigned seed) {
  Pair out;
  out.dtype = dtype;
  out.factors = factors;
  out.rank = rank;
  out.alpha = 1.5 * static_cast<double>(rank);
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  const auto fill = [&](std::vector<float>& to, std::int64_t count, DType as, double size) {
    for (std::int64_t i = 0; i < count; ++i) {
      to.push_back(rounded(as, size * normal(random)));
    }
  };
  fill(out.w, out.rows * out.columns, dtype, 0.02);
  fill(out.a, rank * out.columns, factors, 0.5 / std::sqrt(static_cast<double>(rank)));
  fill(out.b, out.rows * rank, factors, 0.05);
  return out;
}

/// One element, in float32, one way or another.
using ElementOf = std::function<float(const Pair&, std::int64_t, std::int64_t)>;

float delta(const Pair& c, float sum) {
  return static_cast<float>(c.scale()) * sum;
}
float chain(const Pair& c, std::int64_t i, std::int64_t j) {
  float sum = 0;
  for (std::int64_t k = 0; k < c.rank; ++k) {
    sum = std::fma(c.at_b(i, k), c.at_a(k, j), sum);
  }
  return sum;
}
float ascending(const Pair& c, std::int64_t i, std::int64_t j) {
  return rounded(c.dtype, c.at_w(i, j) + delta(c, chain(c, i, j)));
}
float descending(const Pair& c, std::int64_t i, std::int64_t j) {
  float sum = 0;
  for (std::int64_t k = c.rank; k-- > 0;) {
    const float product = c.at_b(i, k) * c.at_a(k, j);
    sum = sum + product;
  }
  return rounded(c.dtype, c.at_w(i, j) + delta(c, sum));
}
float in_halves(const Pair& c, std::int64_t i, std::int64_t j) {
  float even = 0;
  float odd = 0;
  for (std::int64_t k = 0; k < c.rank; ++k) {
    float& sum = k % 2 == 0 ? even : odd;
    sum = std::fma(c.at_b(i, k), c.at_a(k, j), sum);
  }
  return rounded(c.dtype, c.at_w(i, j) + delta(c, even + odd));
}
float scaled_first(const Pair& c, std::int64_t i, std::int64_t j) {
  float sum = 0;
  for (std::int64_t k = 0; k < c.rank; ++k) {
    const float scaled = static_cast<float>(c.scale()) * c.at_b(i, k);
    sum = std::fma(scaled, c.at_a(k, j), sum);
  }
  return rounded(c.dtype, c.at_w(i, j) + sum);
}

MergeTally judged(const Pair& c, const ElementOf& element) {
  MergeTally out;
  const MergeTerms terms{c.dtype, c.rank, c.scale(), c.factors != DType::F32};
  const Row a(c.a.begin(), c.a.end());
  for (std::int64_t i = 0; i < c.rows; ++i) {
    Row w;
    Row b;
    Row found;
    for (std::int64_t k = 0; k < c.rank; ++k) {
      b.push_back(c.at_b(i, k));
    }
    for (std::int64_t j = 0; j < c.columns; ++j) {
      w.push_back(c.at_w(i, j));
      found.push_back(element(c, i, j));
    }
    judge_merged_row(terms, {w, b, a, found}, i, out);
  }
  return out;
}

const std::vector<DType> kBases = {DType::F32, DType::BF16, DType::F16};

void each_case(const std::function<void(const Pair&)>& visit) {
  unsigned seed = 0;
  for (const DType dtype : kBases) {
    for (const DType factors : {DType::F32, DType::BF16}) {
      for (const std::int64_t rank : {1, 2, 8, 16, 64}) {
        SCOPED_TRACE(std::string(name(dtype)) + " base, " + std::string(name(factors)) +
                     " factors, rank " + std::to_string(rank));
        visit(make_pair_of(dtype, factors, rank, ++seed));
      }
    }
  }
}

TEST(LoraMergeOracle, AdmitsEveryOrderOfSummation) {
  each_case([](const Pair& c) {
    for (const ElementOf& right :
         {ElementOf(ascending), ElementOf(descending), ElementOf(in_halves), ElementOf(scaled_first)}) {
      const MergeTally tally = judged(c, right);
      EXPECT_EQ(tally.outside, 0);
      EXPECT_EQ(tally.outside_rounded_delta, 0);
      EXPECT_LE(tally.worst, 1);
      EXPECT_EQ(tally.elements, c.rows * c.columns);
    }
  });
}

/// bfloat16 matmul: product and scaled product are each rounded.
float bf16_matmul(const Pair& c, std::int64_t i, std::int64_t j) {
  const float sum = rounded(DType::BF16, chain(c, i, j));
  return rounded(c.dtype, c.at_w(i, j) + rounded(DType::BF16, delta(c, sum)));
}
float tf32_of(float value) {  // ten bits of fraction, rounded
  int exponent = 0;
  const double fraction = std::frexp(static_cast<double>(value), &exponent);
  return static_cast<float>(std::ldexp(std::nearbyint(std::ldexp(fraction, 11)), exponent - 11));
}
float tf32_matmul(const Pair& c, std::int64_t i, std::int64_t j) {
  float sum = 0;
  for (std::int64_t k = 0; k < c.rank; ++k) {
    sum = std::fma(tf32_of(c.at_b(i, k)), tf32_of(c.at_a(k, j)), sum);
  }
  return rounded(c.dtype, c.at_w(i, j) + delta(c, sum));
}
float alpha_dropped(const Pair& c, std::int64_t i, std::int64_t j) {
  return rounded(c.dtype, c.at_w(i, j) + chain(c, i, j));
}
float alpha_inverted(const Pair& c, std::int64_t i, std::int64_t j) {
  return rounded(c.dtype, c.at_w(i, j) + chain(c, i, j) / static_cast<float>(c.scale()));
}
float slices_exchanged(const Pair& c, std::int64_t i, std::int64_t j) {
  const std::int64_t other = (i + c.rows / 2) % c.rows;
  return rounded(c.dtype, c.at_w(i, j) + delta(c, chain(c, other, j)));
}
/// Columns of B of two packed experts of half the rank: the rank fast instead of the expert.
float expert_order_exchanged(const Pair& c, std::int64_t i, std::int64_t j) {
  float sum = 0;
  const std::int64_t half = c.rank / 2;
  for (std::int64_t k = 0; k < c.rank; ++k) {
    const std::int64_t other = k % 2 * half + k / 2;
    sum = std::fma(c.at_b(i, other), c.at_a(k, j), sum);
  }
  return rounded(c.dtype, c.at_w(i, j) + delta(c, sum));
}
float rank_order_reversed(const Pair& c, std::int64_t i, std::int64_t j) {
  float sum = 0;
  for (std::int64_t k = 0; k < c.rank; ++k) {
    sum = std::fma(c.at_b(i, c.rank - 1 - k), c.at_a(k, j), sum);
  }
  return rounded(c.dtype, c.at_w(i, j) + delta(c, sum));
}
float not_merged(const Pair& c, std::int64_t i, std::int64_t j) {
  return c.at_w(i, j);
}
float merged_twice(const Pair& c, std::int64_t i, std::int64_t j) {
  return rounded(c.dtype, c.at_w(i, j) + 2 * delta(c, chain(c, i, j)));
}

TEST(LoraMergeOracle, RefusesEveryKnownWrongMerge) {
  each_case([](const Pair& c) {
    const bool orders = c.rank > 3;  // with less there is one order, or it is its own reverse
    EXPECT_GT(judged(c, bf16_matmul).outside, 0);
    EXPECT_GT(judged(c, alpha_dropped).outside, 0);
    EXPECT_GT(judged(c, alpha_inverted).outside, 0);
    EXPECT_GT(judged(c, slices_exchanged).outside, 0);
    EXPECT_GT(judged(c, not_merged).outside, 0);
    EXPECT_GT(judged(c, merged_twice).outside, 0);
    EXPECT_TRUE(!orders || judged(c, expert_order_exchanged).outside > 0);
    EXPECT_TRUE(!orders || judged(c, rank_order_reversed).outside > 0);
    if (c.factors == DType::F32) {
      EXPECT_GT(judged(c, tf32_matmul).outside, 0);
    } else {
      EXPECT_EQ(judged(c, tf32_matmul).outside, 0) << "bfloat16 factors lose nothing";
    }
  });
}

TEST(LoraMergeOracle, TellsADeltaThatWasRoundedBeforeItWasAdded) {
  for (const DType dtype : {DType::BF16, DType::F16}) {
    const Pair c = make_pair_of(dtype, DType::F32, 8, 7);
    const MergeTally tally = judged(c, [](const Pair& of, std::int64_t i, std::int64_t j) {
      const float rounded_delta = rounded(of.dtype, delta(of, chain(of, i, j)));
      return rounded(of.dtype, of.at_w(i, j) + rounded_delta);
    });
    EXPECT_GT(tally.outside, 0);
    EXPECT_EQ(tally.outside_rounded_delta, 0);
    EXPECT_GT(judged(c, alpha_dropped).outside_rounded_delta, 0);
  }
}

MergeTally one(const MergeTerms& terms, double w, const Row& b, const Row& a, double found) {
  MergeTally out;
  const Row base = {w};
  const Row merged = {found};
  judge_merged_row(terms, {base, b, a, merged}, 3, out);
  return out;
}

TEST(LoraMergeOracle, DecidesTheVectorsOfTheSpecification) {
  // The bfloat16 product rounds to 1, so nothing is left of 2^-8.
  const MergeTerms bf16{DType::BF16, 2, 1, true};
  EXPECT_EQ(one(bf16, -1, {1, 0x1p-8}, {1, 1}, 0x1p-8).outside, 0);
  EXPECT_EQ(one(bf16, -1, {1, 0x1p-8}, {1, 1}, 0).outside, 1);
  // The delta is rounded to 2^-8 before it is added.
  const MergeTally early = one(bf16, 1.125, {1, 0x1p-8}, {0x1p-8, 0x1p-8}, 1.125);
  EXPECT_EQ(early.outside, 1);
  EXPECT_EQ(early.outside_rounded_delta, 0);
  EXPECT_EQ(one(bf16, 1.125, {1, 0x1p-8}, {0x1p-8, 0x1p-8}, 1.1328125).outside, 0);
  // Three orders of one sum: 0 and 1 are both within the bound.
  const MergeTerms three{DType::F32, 3, 1, false};
  EXPECT_EQ(one(three, 0, {1, 1, 1}, {0x1p24, 1, -0x1p24}, 0).outside, 0);
  EXPECT_EQ(one(three, 0, {1, 1, 1}, {0x1p24, 1, -0x1p24}, 1).outside, 0);
  EXPECT_EQ(one(three, 0, {1, 1, 1}, {0x1p24, 1, -0x1p24}, 16).outside, 1);
  // TF32 drops 2^-12.
  const MergeTerms single{DType::F32, 1, 1, false};
  EXPECT_EQ(one(single, 0, {1 + 0x1p-12}, {1}, 1 + 0x1p-12).outside, 0);
  EXPECT_EQ(one(single, 0, {1 + 0x1p-12}, {1}, 1).outside, 1);
  // Overflow is what the rounding says.
  const double infinity = std::numeric_limits<double>::infinity();
  const MergeTerms fp16{DType::F16, 1, 1, true};
  EXPECT_EQ(one(fp16, 65504, {32}, {1}, infinity).outside, 0);
  EXPECT_EQ(one(fp16, 65504, {8}, {1}, 65504).outside, 0);
  EXPECT_EQ(one(fp16, 65504, {8}, {1}, infinity).outside, 1);
}

TEST(LoraMergeOracle, NamesTheFirstElementOutsideAndWhatWouldBeRight) {
  const MergeTally tally = one({DType::BF16, 1, 2, true}, 1, {1}, {1}, 2);
  ASSERT_TRUE(tally.first_outside);
  EXPECT_EQ(tally.first_outside->row, 3);
  EXPECT_EQ(tally.first_outside->column, 0);
  EXPECT_EQ(tally.first_outside->found, 2);
  EXPECT_EQ(tally.first_outside->exact, 3);
  EXPECT_EQ(tally.first_outside->least, 3);
  EXPECT_EQ(tally.first_outside->most, 3);
  EXPECT_EQ(tally.histogram.back(), 1);
}

TEST(LoraMergeOracle, ABaseThatIsNotFiniteMustHaveBeenKept) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const MergeTerms terms{DType::F32, 1, 1, false};
  EXPECT_EQ(one(terms, nan, {1}, {1}, nan).outside, 0);
  EXPECT_EQ(one(terms, nan, {1}, {1}, 1).outside, 1);
  EXPECT_EQ(one(terms, 1, {1}, {1}, nan).outside, 1);
  EXPECT_EQ(one(terms, 0, {0}, {1}, -0.0).outside, 0) << "zeros of either sign are equal";
}

TEST(LoraMergeOracle, ScalesRowsToAMagnitude) {
  const MergeTerms terms{DType::F32, 1, 1, false};
  const auto found = [&](double magnitude, const Row& merged) {
    MergeTally out;
    const Row w = {3, 4};
    const Row b = {0};
    const Row a = {1, 1};
    judge_scaled_row(terms, {w, b, a, merged}, magnitude, 0, out);
    return out.outside;
  };
  EXPECT_EQ(found(10, {6, 8}), 0);
  EXPECT_EQ(found(10, {3, 4}), 2) << "without magnitudes";
  EXPECT_EQ(found(10, {6, 8.00001}), 1);
  EXPECT_EQ(found(10, {10, 40.0 / 3}), 2) << "by the norm of half a row";
  MergeTally zero;
  const Row none = {0, 0};
  const Row b = {0};
  const Row a = {1, 1};
  judge_scaled_row(terms, {none, b, a, none}, 10, 0, zero);
  EXPECT_EQ(zero.outside, 2) << "a row of zeros has no direction";
}

TEST(LoraMergeOracle, AHistogramCountsEveryElementOnce) {
  const Pair c = make_pair_of(DType::F32, DType::F32, 16, 5);
  const MergeTally tally = judged(c, ascending);
  std::int64_t sum = 0;
  for (const std::int64_t count : tally.histogram) {
    sum += count;
  }
  EXPECT_EQ(sum, tally.elements);
  EXPECT_GT(tally.worst, 0);
  MergeTally twice = tally;
  twice.add(tally);
  EXPECT_EQ(twice.elements, 2 * tally.elements);
  EXPECT_EQ(twice.worst, tally.worst);
}

TEST(LoraMergeOracle, RoundsInOneStep) {
  EXPECT_EQ(round_to(DType::BF16, 1 + 0x1p-8), 1);                     // a tie, to even
  EXPECT_EQ(round_to(DType::BF16, 1 + 0x1p-8 + 0x1p-40), 1 + 0x1p-7);  // by way of F32: 1
  EXPECT_EQ(round_to(DType::F16, 0x1p-25), 0);
  EXPECT_EQ(round_to(DType::F16, 0x1.8p-25), 0x1p-24);
  EXPECT_EQ(round_to(DType::F16, 65520), std::numeric_limits<double>::infinity());
  EXPECT_EQ(round_to(DType::F32, 0x1p-150), 0);
}

}  // namespace
}  // namespace bv::oracle
