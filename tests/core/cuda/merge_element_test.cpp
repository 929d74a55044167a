// A merged element as the kernel computes it, against the tiles of the processor, bit for bit.

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <random>
#include <vector>

#include "core/cuda/element.hpp"
#include "core/kinds/values.hpp"
#include "core/merge/merge_product.hpp"
#include "tests/core/cuda/host_device.hpp"

namespace bv::cuda {
namespace {

std::vector<std::byte> random_elements(std::int64_t count, DType dtype, std::mt19937& random) {
  std::normal_distribution<double> values(0, 1);
  std::vector<std::byte> out(static_cast<std::size_t>(count * bytes(dtype)));
  for (std::int64_t i = 0; i < count; ++i) {
    const double value =
        random() % 7 == 0 ? 0.0 : values(random);  // zeros: the base keeps its bits
    kinds::store(value, &out[static_cast<std::size_t>(i * bytes(dtype))], dtype);
  }
  return out;
}

TEST(MergeElement, HasTheBitsOfTheProcessorsMerge) {
  std::mt19937 random(23);
  constexpr std::array kTypes = {DType::F32, DType::BF16, DType::F16};
  for (int round = 0; round < 60; ++round) {
    const DType base = kTypes[random() % 3];
    const DType factor = kTypes[random() % 3];
    const auto rows = static_cast<std::int64_t>(1 + random() % 13);
    const auto columns = static_cast<std::int64_t>(1 + random() % 37);
    const auto rank = static_cast<std::int64_t>(random() % 20);
    const float scale = round % 5 == 0 ? 0.0F : 1.7F / static_cast<float>(1 + random() % 9);
    const auto left = random_elements(rows * rank, factor, random);
    const auto right = random_elements(rank * columns, factor, random);
    const auto weight = random_elements(rows * columns, base, random);
    std::vector<std::byte> wanted(weight.size());
    const std::int64_t step = columns * bytes(base);
    const lora::MergeProduct product({left.data(), factor, rows, rank, rank, 1},
                                     {right.data(), factor, rank, columns, columns, 1}, scale);
    ASSERT_FALSE(product.add_to(lora::MergeIsa::Scalar, base,
                                {0, rows, weight.data(), wanted.data(), step, step}));
    const std::int64_t size = bytes(factor);
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < columns; ++j) {
        const MergeElement one{left.data() + i * rank * size,
                               right.data() + j * size,
                               size,
                               columns * size,
                               rank,
                               factor,
                               factor,
                               base,
                               scale};
        const auto at = static_cast<std::size_t>(i * step + j * bytes(base));
        const int width = element::width(base);
        EXPECT_EQ(merged(one, element::read(&weight[at], width)), element::read(&wanted[at], width))
            << round << " " << i << " " << j;
      }
    }
  }
}

/// The kernel in its tiles, with edges that no tile divides.
TEST(MergeBlock, HasTheBitsOfTheProcessorsMerge) {
  std::mt19937 random(29);
  constexpr std::array kTypes = {DType::F32, DType::BF16, DType::F16};
  testing::HostDevice device;
  for (int round = 0; round < 24; ++round) {
    const DType base = kTypes[random() % 3];
    const DType factor = kTypes[random() % 3];
    const auto rows = static_cast<std::int64_t>(1 + random() % 140);
    const auto columns = static_cast<std::int64_t>(1 + random() % 140);
    const auto rank = static_cast<std::int64_t>(random() % 50);
    const float scale = 1.7F / static_cast<float>(1 + random() % 9);
    const auto left = random_elements(rows * rank, factor, random);
    const auto right = random_elements(rank * columns, factor, random);
    const auto weight = random_elements(rows * columns, base, random);
    std::vector<std::byte> wanted(weight.size());
    const std::int64_t step = columns * bytes(base);
    const lora::MergeProduct product({left.data(), factor, rows, rank, rank, 1},
                                     {right.data(), factor, rank, columns, columns, 1}, scale);
    ASSERT_FALSE(product.add_to(lora::MergeIsa::Scalar, base,
                                {0, rows, weight.data(), wanted.data(), step, step}));
    std::vector<std::byte> found(weight.size(), std::byte{0x5A});
    MergeBlock block{left.data(), right.data(), weight.data(), found.data(), rows,
                     columns,     rank,         factor,        base,         scale};
    ASSERT_TRUE(device.merge(0, block));
    EXPECT_EQ(found, wanted) << round << " " << rows << " x " << columns << " rank " << rank;
    found = weight;  // in place
    block.base = block.out = found.data();
    ASSERT_TRUE(device.merge(0, block));
    EXPECT_EQ(found, wanted) << round;
  }
}

}  // namespace
}  // namespace bv::cuda
