// The arithmetic of the kernel against that of the processor, bit for bit: all values of 16 bits,
// and random and special ones of the others.

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <random>
#include <vector>

#include "core/cuda/element.hpp"
#include "core/kinds/values.hpp"

namespace bv::cuda {
namespace {

constexpr std::array kTypes = {DType::F16, DType::BF16, DType::F32, DType::F64};

/// Bit patterns of a type: all of 16 bits; else those around every exponent, and random ones.
std::vector<std::uint64_t> patterns(DType dtype) {
  std::vector<std::uint64_t> out;
  if (bytes(dtype) == 2) {
    for (std::uint64_t bits = 0; bits < 65536; ++bits) {
      out.push_back(bits);
    }
    return out;
  }
  const unsigned mantissa = dtype == DType::F32 ? 23 : 52;
  const std::uint64_t exponents = dtype == DType::F32 ? 256 : 2048;
  const std::uint64_t sign = std::uint64_t{1} << (dtype == DType::F32 ? 31U : 63U);
  const std::uint64_t all = (std::uint64_t{1} << mantissa) - 1;
  std::mt19937_64 random(3);
  for (std::uint64_t exponent = 0; exponent < exponents; ++exponent) {
    for (const std::uint64_t low :
         {std::uint64_t{0}, std::uint64_t{1}, all, all / 2, all / 2 + 1, all / 2 + 2,
          random() & all, random() & all, std::uint64_t{1} << 12U, std::uint64_t{1} << 15U,
          std::uint64_t{3} << 15U, (std::uint64_t{1} << 15U) + 1, (std::uint64_t{1} << 16U) - 1,
          std::uint64_t{1} << (mantissa - 8U), std::uint64_t{3} << (mantissa - 8U),
          std::uint64_t{1} << (mantissa - 11U), std::uint64_t{3} << (mantissa - 11U)}) {
      const std::uint64_t bits = exponent << mantissa | (low & all);
      out.push_back(bits);
      out.push_back(bits | sign);
    }
  }
  return out;
}

std::uint64_t by_processor(std::uint64_t bits, DType from, DType to) {
  std::array<std::byte, 8> source{};
  std::array<std::byte, 8> target{};
  std::memcpy(source.data(), &bits, sizeof bits);
  kinds::cast(source.data(), from, target.data(), to, 1);
  std::uint64_t out = 0;
  std::memcpy(&out, target.data(), static_cast<std::size_t>(bytes(to)));
  return out;
}

TEST(Element, CastsAsTheProcessorDoes) {
  for (const DType from : kTypes) {
    const auto all = patterns(from);
    for (const DType to : kTypes) {
      std::size_t wrong = 0;
      for (const std::uint64_t bits : all) {
        const std::uint64_t found = element::cast(bits, from, to);
        const std::uint64_t wanted = by_processor(bits, from, to);
        if (found != wanted && wrong++ < 3) {
          ADD_FAILURE() << name(from) << " to " << name(to) << std::hex << " of " << bits << " is "
                        << found << ", wanted " << wanted;
        }
      }
      EXPECT_EQ(wrong, 0U) << name(from) << " to " << name(to) << " of " << all.size();
    }
  }
}

TEST(Element, AddsAsTheProcessorDoes) {
  for (const DType dtype : kTypes) {
    for (const double delta : {1.0, -1.0}) {
      std::size_t wrong = 0;
      for (const std::uint64_t bits : patterns(dtype)) {
        std::array<std::byte, 8> element{};
        std::memcpy(element.data(), &bits, sizeof bits);
        kinds::add_constant({element.data(), static_cast<std::size_t>(bytes(dtype))}, dtype, delta);
        std::uint64_t wanted = 0;
        std::memcpy(&wanted, element.data(), static_cast<std::size_t>(bytes(dtype)));
        const std::uint64_t found = element::add(bits, dtype, delta);
        if (found != wanted && wrong++ < 3) {
          ADD_FAILURE() << name(dtype) << std::hex << " " << bits << " is " << found << ", wanted "
                        << wanted;
        }
      }
      EXPECT_EQ(wrong, 0U) << name(dtype);
    }
  }
}

}  // namespace
}  // namespace bv::cuda
