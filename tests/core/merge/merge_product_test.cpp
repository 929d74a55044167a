// The merge of one matrix: the bits of its definition, whatever the cut and the instruction set.

#include "core/merge/merge_product.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <random>

namespace bv::lora {
namespace {

using Bytes = std::vector<std::byte>;

/// A matrix with memory of its own.
struct Matrix {
  DType dtype = DType::F32;
  std::int64_t rows = 0, columns = 0;
  Bytes memory;

  Matrix(DType type, std::int64_t height, std::int64_t width, const std::vector<float>& values)
      : dtype(type), rows(height), columns(width) {
    memory.resize(static_cast<std::size_t>(height * width * bytes(type)));
    for (std::size_t i = 0; i < values.size(); ++i) {
      narrow(values[i], memory.data() + i * static_cast<std::size_t>(bytes(type)), type);
    }
  }
  [[nodiscard]] MatrixView view() const {
    return {memory.data(), dtype, rows, columns, columns, 1};
  }
  [[nodiscard]] std::vector<float> values() const {
    std::vector<float> out;
    for (std::int64_t i = 0; i < rows * columns; ++i) {
      out.push_back(widen(memory.data() + i * bytes(dtype), dtype));
    }
    return out;
  }
};

Matrix random_matrix(DType dtype, std::int64_t rows, std::int64_t columns, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  for (float& value : values) {
    value = normal(random);
  }
  return {dtype, rows, columns, values};
}

/// Merges in place, `step` rows at a time. True when something did not fit.
bool merge(MergeIsa isa, const MergeProduct& product, Matrix& base, std::int64_t step) {
  const std::int64_t row_bytes = base.columns * bytes(base.dtype);
  bool bad = false;
  for (std::int64_t begin = 0; begin < base.rows; begin += step) {
    std::byte* at = base.memory.data() + begin * row_bytes;
    bad |= product.add_to(isa, base.dtype,
                          {begin, std::min(base.rows, begin + step), at, at, row_bytes, row_bytes});
  }
  return bad;
}

Matrix merged(DType dtype, std::int64_t rows, std::int64_t columns, const std::vector<float>& w,
              const std::vector<float>& b, const std::vector<float>& a, float scale) {
  Matrix base(dtype, rows, columns, w);
  const auto rank = static_cast<std::int64_t>(b.size()) / rows;
  const Matrix left(DType::F32, rows, rank, b);
  const Matrix right(DType::F32, rank, columns, a);
  EXPECT_FALSE(merge(best_merge_isa(), MergeProduct(left.view(), right.view(), scale), base, rows));
  return base;
}

/// The definition, element by element, with nothing of the engine but its conversions.
Bytes by_definition(const Matrix& base, const Matrix& b, const Matrix& a, float scale) {
  Bytes out = base.memory;
  const auto w = base.values();
  const auto left = b.values();
  const auto right = a.values();
  for (std::int64_t i = 0; i < base.rows; ++i) {
    for (std::int64_t j = 0; j < base.columns; ++j) {
      volatile float sum = 0;
      for (std::int64_t k = 0; k < a.rows; ++k) {
        sum = std::fma(left[static_cast<std::size_t>(i * a.rows + k)],
                       right[static_cast<std::size_t>(k * a.columns + j)], sum);
      }
      const volatile float delta = scale * sum;
      const std::int64_t at = i * base.columns + j;
      const volatile float value = w[static_cast<std::size_t>(at)] + delta;
      if (delta != 0) {
        narrow(value, out.data() + at * bytes(base.dtype), base.dtype);
      }
    }
  }
  return out;
}

std::vector<MergeIsa> sets_here() {
  std::vector<MergeIsa> out = {MergeIsa::Scalar, MergeIsa::Avx2, MergeIsa::Avx512};
  std::erase_if(out, [](MergeIsa isa) { return !has_merge_isa(isa); });
  return out;
}

TEST(MergeProduct, EveryInstructionSetAndEveryCutGivesTheBitsOfTheDefinition) {
  std::mt19937 random(12);
  const auto up_to = [&](std::int64_t most) {
    return 1 + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(most));
  };
  for (std::size_t round = 0; round < 60; ++round) {
    const DType dtype = std::array{DType::F32, DType::BF16, DType::F16}[round % 3];
    const DType factors = std::array{DType::F32, DType::BF16}[round % 2];
    const std::int64_t rows = up_to(20);
    const std::int64_t columns = up_to(round % 5 == 0 ? 1500 : 150);
    const std::int64_t rank = round % 10 == 0 ? 300 : up_to(40);
    const Matrix base = random_matrix(dtype, rows, columns, random);
    const Matrix b = random_matrix(factors, rows, rank, random);
    const Matrix a = random_matrix(factors, rank, columns, random);
    const float scale = round % 4 == 0 ? 2.0F : 1.3F;
    const Bytes wanted = by_definition(base, b, a, scale);
    const MergeProduct product(b.view(), a.view(), scale);
    for (const MergeIsa isa : sets_here()) {
      for (const std::int64_t step : {rows, std::int64_t{1}, std::int64_t{7}}) {
        Matrix out = base;
        EXPECT_FALSE(merge(isa, product, out, step));
        EXPECT_EQ(out.memory, wanted) << "set " << static_cast<int>(isa) << ", " << rows << " x "
                                      << columns << ", rank " << rank << ", rows at once " << step;
      }
    }
  }
}

TEST(MergeProduct, HasASetForEveryInstructionSetOfThisProcessor) {
  if (!has_merge_isa(MergeIsa::Avx512)) {
    GTEST_SKIP() << "this processor has no AVX-512: its tiles were not run";
  }
}

TEST(MergeProduct, AddsTheScaledProductInEveryDType) {
  for (const DType dtype : {DType::F32, DType::BF16, DType::F16}) {
    EXPECT_EQ(merged(dtype, 2, 2, {1, 2, 3, 4}, {1, 2, 3, 4}, {1, 0, 0, 1}, 2).values(),
              (std::vector<float>{3, 6, 9, 12}));
  }
}

TEST(MergeProduct, RoundsOnceAtTheEnd) {
  EXPECT_EQ(merged(DType::BF16, 1, 1, {-1}, {1, 0x1p-8F}, {1, 1}, 1).values().front(), 0x1p-8F);
  EXPECT_EQ(merged(DType::F32, 1, 1, {0}, {1, 0x1p-8F}, {1, 1}, 1).values().front(), 1.00390625F);
  EXPECT_EQ(
      merged(DType::BF16, 1, 1, {1.125F}, {1, 0x1p-8F}, {0x1p-8F, 0x1p-8F}, 1).values().front(),
      1.1328125F);
  EXPECT_EQ(merged(DType::F32, 1, 1, {0}, {1 + 0x1p-12F}, {1}, 1).values().front(), 1 + 0x1p-12F);
}

TEST(MergeProduct, SumsInAscendingOrder) {
  EXPECT_EQ(merged(DType::F32, 1, 1, {0}, {1, 1, 1}, {0x1p24F, 1, -0x1p24F}, 1).values().front(),
            0);
}

TEST(MergeProduct, KeepsTheBytesOfTheBaseWhereTheDeltaIsZero) {
  for (const MergeIsa isa : sets_here()) {
    Matrix base(DType::BF16, 1, 20, std::vector<float>(20, 1));
    const std::uint16_t bits[] = {0x8000, 0x7fc1, 0xffff, 0x7f80};
    std::memcpy(base.memory.data(), bits, sizeof bits);
    const Bytes before = base.memory;
    const Matrix b(DType::F32, 1, 2, {0, -0.0F});
    const Matrix a(DType::F32, 2, 20, std::vector<float>(40, 3));
    EXPECT_FALSE(merge(isa, MergeProduct(b.view(), a.view(), 2), base, 1));
    EXPECT_EQ(base.memory, before);
    const Matrix some(DType::F32, 1, 2, {1, 1});
    EXPECT_FALSE(merge(isa, MergeProduct(some.view(), a.view(), 0), base, 1)) << "alpha 0";
    EXPECT_EQ(base.memory, before);
  }
}

TEST(MergeProduct, ReportsTheFirstElementThatDoesNotFit) {
  for (const MergeIsa isa : sets_here()) {
    for (const std::int64_t column : {0, 18, 33}) {
      std::vector<float> w(3 * 40, 1);
      w[static_cast<std::size_t>(40 + column)] = 65504;
      Matrix base(DType::F16, 3, 40, w);
      const Matrix before = base;
      const Matrix b(DType::F32, 3, 1, {8, 32, 8});
      const Matrix a(DType::F32, 1, 40, std::vector<float>(40, 1));
      const MergeProduct product(b.view(), a.view(), 1);
      EXPECT_TRUE(merge(isa, product, base, 3));
      const auto unfit =
          product.first_unfit(DType::F16, {0, 3, before.memory.data(), nullptr, 80, 0});
      ASSERT_TRUE(unfit);
      EXPECT_EQ(unfit->row, 1);
      EXPECT_EQ(unfit->column, column);
      EXPECT_EQ(unfit->base, 65504);
      EXPECT_EQ(unfit->delta, 32);
    }
    // 65504 + 8 rounds back to 65504.
    Matrix fits(DType::F16, 1, 1, {65504});
    const Matrix one(DType::F32, 1, 1, {8});
    const Matrix a(DType::F32, 1, 1, {1});
    EXPECT_FALSE(merge(isa, MergeProduct(one.view(), a.view(), 1), fits, 1));
    EXPECT_EQ(fits.values().front(), 65504);
  }
}

TEST(MergeProduct, ReportsWhatIsNotFiniteInTheFactors) {
  for (const MergeIsa isa : sets_here()) {
    for (const float bad : {INFINITY, -INFINITY, NAN}) {
      for (const DType dtype : {DType::F32, DType::BF16, DType::F16}) {
        Matrix base(dtype, 1, 20, std::vector<float>(20, 1));
        std::vector<float> values(20, 1);
        values[5] = bad;
        const Matrix b(DType::F32, 1, 1, {1});
        const Matrix a(DType::F32, 1, 20, values);
        const MergeProduct product(b.view(), a.view(), 1);
        const Matrix before = base;
        EXPECT_TRUE(merge(isa, product, base, 1));
        const auto unfit = product.first_unfit(dtype, {0, 1, before.memory.data(), nullptr, 0, 0});
        ASSERT_TRUE(unfit);
        EXPECT_EQ(unfit->column, 5);
      }
    }
  }
}

TEST(MergeProduct, ReadsFactorsThroughStrides) {
  // Two packed experts of rank 2: B's columns alternate between them.
  const Matrix a(DType::F32, 4, 2, {1, 0, 0, 1, 2, 1, 0, 3});
  const Matrix b(DType::F32, 3, 4, {1, 7, 2, 8, 3, 9, 4, 10, 5, 11, 6, 12});
  const std::vector<std::vector<float>> wanted = {{1, 2, 3, 4, 5, 6}, {14, 31, 18, 39, 22, 47}};
  for (std::int64_t e = 0; e < 2; ++e) {
    MatrixView left = b.view();
    left.first += e * 4;
    left.columns = 2;
    left.column_stride = 2;
    MatrixView right = a.view();
    right.first += e * 2 * 2 * 4;
    right.rows = 2;
    Matrix base(DType::F32, 3, 2, std::vector<float>(6, 0));
    EXPECT_FALSE(merge(best_merge_isa(), MergeProduct(left, right, 1), base, 3));
    EXPECT_EQ(base.values(), wanted[static_cast<std::size_t>(e)]);
    // A base [in, out] takes the transpose.
    Matrix turned(DType::F32, 2, 3, std::vector<float>(6, 0));
    EXPECT_FALSE(
        merge(best_merge_isa(), MergeProduct(transposed(right), transposed(left), 1), turned, 2));
    for (std::size_t i = 0; i < 3; ++i) {
      for (std::size_t j = 0; j < 2; ++j) {
        EXPECT_EQ(turned.values()[j * 3 + i], base.values()[i * 2 + j]);
      }
    }
  }
}

TEST(MergeProduct, ScalesRowsToTheirMagnitude) {
  for (const MergeIsa isa : sets_here()) {
    Matrix base(DType::F32, 1, 2, {3, 4});
    const Matrix b(DType::F32, 1, 1, {0});
    const Matrix a(DType::F32, 1, 2, {1, 1});
    const MergeProduct product(b.view(), a.view(), 1);
    const MergeRows rows{0, 1, base.memory.data(), base.memory.data(), 8, 8};
    const std::vector<float> magnitude = {10};
    EXPECT_EQ(merge_dora_rows(isa, DType::F32, product, magnitude, rows).value(), std::nullopt);
    EXPECT_EQ(base.values(), (std::vector<float>{6, 8}));
    Matrix zero(DType::F32, 1, 2, {0, 0});
    const MergeRows none{0, 1, zero.memory.data(), zero.memory.data(), 8, 8};
    EXPECT_EQ(merge_dora_rows(isa, DType::F32, product, magnitude, none).value(), 0);
    EXPECT_EQ(zero.values(), (std::vector<float>{0, 0}));
  }
}

}  // namespace
}  // namespace bv::lora
