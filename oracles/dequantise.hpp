#pragma once
// What an element of a weight with scales is, restated from the formats by themselves: the OCP
// specifications of FP8 and MX, and the packing of compressed-tensors. Nothing is shared with the
// engine; every element is computed by itself, in float64.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base/dtype.hpp"

namespace bv::oracle {

/// A tensor as it lies in a file.
struct StoredNumbers {
  DType dtype = DType::U8;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
};

/// One quantised weight. `block` is the size of its blocks, rows and columns; empty when they
/// divide it evenly. The last ones are cut by the edge; as many of them as there are scales cover
/// it.
struct QuantisedWeight {
  StoredNumbers values;  // F8_E4M3 or F8_E5M2; U8 blocks [E, rows, groups, 16]; I32 words
  StoredNumbers scale;
  std::vector<std::int64_t> block;
  int integer_bits = 0;                // of a number in an I32 word
  bool product_in_scale_type = false;  // compressed-tensors
};

/// The weight at an index of its own shape, as bits of `dtype` (F32, BF16 or F16); any NaN is the
/// quiet positive one. The index lies in the weight.
[[nodiscard]] std::uint64_t dequantised_bits(const QuantisedWeight& weight,
                                             std::span<const std::int64_t> index, DType dtype);
/// All codes that stand for these bits of `dtype` at an index, in ascending order: each is tried.
[[nodiscard]] std::vector<std::uint64_t> codes_with(const QuantisedWeight& weight,
                                                    std::span<const std::int64_t> index,
                                                    std::uint64_t bits, DType dtype);
/// The bits of an element that somebody else made: NaN as above.
[[nodiscard]] std::uint64_t plain_bits(const std::byte* element, DType dtype);

}  // namespace bv::oracle
