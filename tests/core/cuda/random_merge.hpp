#pragma once
// Random merges of a device, and what the processor makes of them.

#include <gtest/gtest.h>

#include <array>
#include <random>
#include <vector>

#include "core/kinds/values.hpp"
#include "core/merge/merge_product.hpp"

namespace bv::cuda::testing {

struct Merge {
  DType factors = DType::F32;
  DType dtype = DType::F32;
  std::int64_t rows = 0, columns = 0, rank = 0;
  std::int64_t begin = 0, end = 0;             // rows that are merged
  std::int64_t base_apart = 0, out_apart = 0;  // elements between rows
  float scale = 0;
  bool in_place = false;
  std::vector<std::byte> left, right, base;
};

inline std::vector<std::byte> normal_elements(std::int64_t count, DType dtype,
                                              std::mt19937_64& random) {
  std::normal_distribution<double> values(0, 1);
  std::vector<std::byte> out(static_cast<std::size_t>(count * bytes(dtype)));
  for (std::int64_t i = 0; i < count; ++i) {
    const double value = random() % 7 == 0 ? 0.0 : values(random);  // zeros: the base stays
    kinds::store(value, out.data() + i * bytes(dtype), dtype);
  }
  return out;
}

inline Merge merge_of(std::int64_t rows, std::int64_t columns, std::int64_t rank, DType factors,
                      DType dtype, std::mt19937_64& random) {
  Merge out;
  out.factors = factors;
  out.dtype = dtype;
  out.rows = out.end = rows;
  out.columns = columns;
  out.rank = rank;
  out.scale = static_cast<float>(static_cast<double>(random() % 81) - 40) / 16;
  out.left = normal_elements(rows * rank, factors, random);
  out.right = normal_elements(rank * columns, factors, random);
  out.base = normal_elements(rows * columns, dtype, random);
  return out;
}

inline Merge random_merge(std::mt19937_64& random) {
  constexpr std::array kTypes = {DType::F32, DType::BF16, DType::F16};
  const auto below = [&](std::uint64_t most) { return static_cast<std::int64_t>(random() % most); };
  Merge out = merge_of(1 + below(150), 1 + below(150), below(70), kTypes[random() % 3],
                       kTypes[random() % 3], random);
  out.begin = random() % 2 == 0 ? 0 : below(static_cast<std::uint64_t>(out.rows));
  out.end = out.begin + below(static_cast<std::uint64_t>(out.rows - out.begin)) + 1;
  out.in_place = random() % 4 == 0;
  out.base_apart = random() % 3 == 0 ? 1 + below(9) : 0;
  out.out_apart = out.in_place ? out.base_apart : random() % 3 == 0 ? 1 + below(9) : 0;
  out.base = normal_elements(out.rows * (out.columns + out.base_apart), out.dtype, random);
  return out;
}

/// What lies at `out` afterwards, gaps between rows included; then whether an element did not fit.
inline Result<std::vector<std::byte>> merged_by(move::Merger* device, const Merge& one) {
  const lora::MergeProduct product(
      {one.left.data(), one.factors, one.rows, one.rank, one.rank, 1},
      {one.right.data(), one.factors, one.rank, one.columns, one.columns, 1}, one.scale);
  const std::int64_t size = bytes(one.dtype);
  const std::int64_t base_step = (one.columns + one.base_apart) * size;
  const std::int64_t out_step = (one.columns + one.out_apart) * size;
  std::vector<std::byte> base = one.base;
  std::vector<std::byte> out(static_cast<std::size_t>(one.rows * out_step), std::byte{0x5A});
  std::byte* const to = (one.in_place ? base : out).data() + one.begin * out_step;
  BV_TRY(unfit, product.add_by({lora::best_merge_isa(), device}, one.dtype,
                               {one.begin, one.end, base.data() + one.begin * base_step, to,
                                base_step, out_step}));
  if (one.in_place) {
    out = std::move(base);
  }
  out.push_back(std::byte{unfit});
  return out;
}

inline void expect_merge_of_the_processor(move::Merger& device, const Merge& one,
                                          const std::string& what) {
  const auto wanted = merged_by(nullptr, one);
  const auto found = merged_by(&device, one);
  ASSERT_TRUE(wanted) << what;
  ASSERT_TRUE(found) << what << found.error().message;
  EXPECT_EQ(wanted->size(), found->size());
  const auto at = std::mismatch(wanted->begin(), wanted->end(), found->begin(), found->end());
  EXPECT_EQ(at.first - wanted->begin(), std::ssize(*wanted))
      << what << ": " << one.rows << " x " << one.columns << " rank " << one.rank << ", rows "
      << one.begin << " to " << one.end << ", " << one.base_apart << " and " << one.out_apart
      << " apart, " << name(one.factors) << " into " << name(one.dtype) << " by " << one.scale;
}

}  // namespace bv::cuda::testing
