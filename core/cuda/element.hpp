#pragma once
// What one thread of a device does: one unit of a box moved, or one element computed. The same code
// runs on the host, where tests hold it against the processor's own loops, bit for bit. Casts are
// integer arithmetic: no mode, flag or instruction of a device can change them.

#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#else
#include <cmath>
#include <cstring>
#endif

#include "core/base/dtype.hpp"
#include "core/base/host_device.hpp"
#include "core/cuda/access.hpp"
#include "core/layout/index_box.hpp"

namespace bv::cuda {

/// One piece of a task: the units or elements of a box, numbered from 0.
struct Move {
  enum class Kind : std::int32_t { Copy, Zero, Value };
  layout::Box box;                    // in units: of bytes for Copy and Zero, of elements for Value
  std::int64_t first = 0;             // of all units of a launch, the first of this piece
  const std::byte* source = nullptr;  // of the box's source offset 0
  std::byte* target = nullptr;        // of its target offset 0
  double add = 0;                     // Value: summed in `from`
  Kind kind = Kind::Copy;
  std::int32_t unit = 1;  // 1, 2, 4, 8 or 16 bytes; Value: 1 or kValues elements
  DType from = DType::F32;
  DType to = DType::F32;
};
static_assert(std::is_trivially_copyable_v<Move>);

namespace element {

/// A binary format below float64: bits of significand with the hidden one, exponent of the last
/// place of its subnormals, and the pattern of infinity.
struct Format {
  int precision;
  int least;
  std::uint32_t infinity;
};
inline constexpr Format kHalf{11, -24, 0x7c00U};
inline constexpr Format kBfloat{8, -133, 0x7f80U};
inline constexpr Format kFloat{24, -149, 0x7f800000U};

inline constexpr std::uint64_t kDoubleSign = std::uint64_t{1} << 63U;
inline constexpr std::uint64_t kDoubleInfinity = std::uint64_t{0x7ff} << 52U;
inline constexpr std::uint64_t kDoubleQuiet = std::uint64_t{1} << 51U;
inline constexpr std::uint64_t kDoubleMantissa = (std::uint64_t{1} << 52U) - 1;

[[nodiscard]] BV_HOST_DEVICE constexpr bool is_nan(std::uint64_t bits) {
  return (bits & ~kDoubleSign) > kDoubleInfinity;
}

/// The float64 of a pattern of `format` without its sign; exact. Not for NaN.
[[nodiscard]] BV_HOST_DEVICE constexpr std::uint64_t widened(std::uint32_t magnitude,
                                                             Format format) {
  if (magnitude == format.infinity) {
    return kDoubleInfinity;
  }
  const std::uint32_t hidden = std::uint32_t{1} << static_cast<unsigned>(format.precision - 1);
  std::uint64_t mantissa = magnitude & (hidden - 1);
  int field = static_cast<int>(magnitude >> static_cast<unsigned>(format.precision - 1));
  if (field == 0) {
    if (mantissa == 0) {
      return 0;
    }
    field = 1;
    while ((mantissa & hidden) == 0) {
      mantissa <<= 1U;
      --field;
    }
    mantissa &= hidden - 1;
  }
  // The value is (hidden + mantissa) * 2^(least + field - 1).
  const int exponent = format.least + field - 1 + format.precision - 1;
  return static_cast<std::uint64_t>(exponent + 1023) << 52U |
         mantissa << static_cast<unsigned>(52 - (format.precision - 1));
}

/// The pattern of `format` nearest to a float64 without its sign, ties to even. Not for NaN.
[[nodiscard]] BV_HOST_DEVICE constexpr std::uint32_t narrowed(std::uint64_t magnitude,
                                                              Format format) {
  if (magnitude == kDoubleInfinity) {
    return format.infinity;
  }
  const int field = static_cast<int>(magnitude >> 52U);
  if (field == 0) {
    return 0;  // a subnormal float64 is below half of the least number of any format
  }
  const int exponent = field - 1023;
  const std::uint64_t significand = (magnitude & kDoubleMantissa) | std::uint64_t{1} << 52U;
  const int wanted = exponent - (format.precision - 1);
  const int last = wanted > format.least ? wanted : format.least;
  const int dropped = last - (exponent - 52);
  if (dropped > 53) {
    return 0;
  }
  const std::uint64_t kept = significand >> static_cast<unsigned>(dropped);
  const std::uint64_t rest =
      significand & ((std::uint64_t{1} << static_cast<unsigned>(dropped)) - 1);
  const std::uint64_t half = std::uint64_t{1} << static_cast<unsigned>(dropped - 1);
  const std::uint64_t rounded =
      kept + ((rest > half || (rest == half && (kept & 1U) != 0)) ? 1U : 0U);
  const std::uint64_t bits = (static_cast<std::uint64_t>(last - format.least)
                              << static_cast<unsigned>(format.precision - 1)) +
                             rounded;
  return bits >= format.infinity ? format.infinity : static_cast<std::uint32_t>(bits);
}

/// The float64 of an element's bits. NaN: quiet, with its sign; of BF16 and F32 with its payload.
[[nodiscard]] BV_HOST_DEVICE constexpr std::uint64_t to_double(std::uint64_t bits, DType dtype) {
  if (dtype == DType::F64) {
    return bits;
  }
  if (dtype == DType::BF16) {
    bits <<= 16U;
    dtype = DType::F32;
  }
  const bool half = dtype == DType::F16;
  const Format format = half ? kHalf : kFloat;
  const std::uint64_t top = half ? std::uint64_t{1} << 15U : std::uint64_t{1} << 31U;
  const std::uint64_t sign = (bits & top) != 0 ? kDoubleSign : 0;
  const auto magnitude = static_cast<std::uint32_t>(bits & (top - 1));
  if (magnitude > format.infinity) {
    const std::uint64_t payload = half ? 0 : std::uint64_t{magnitude & 0x7fffffU} << 29U;
    return sign | kDoubleInfinity | kDoubleQuiet | payload;
  }
  return sign | widened(magnitude, format);
}

/// The way back, rounded to nearest even. NaN: quiet, with its sign; in F32 with its payload.
[[nodiscard]] BV_HOST_DEVICE constexpr std::uint64_t from_double(std::uint64_t bits, DType dtype) {
  if (dtype == DType::F64) {
    return bits;
  }
  const Format format = dtype == DType::F16 ? kHalf : dtype == DType::BF16 ? kBfloat : kFloat;
  const std::uint64_t top = dtype == DType::F32 ? std::uint64_t{1} << 31U : std::uint64_t{1} << 15U;
  const std::uint64_t sign = (bits & kDoubleSign) != 0 ? top : 0;
  if (is_nan(bits)) {
    const std::uint64_t quiet = std::uint64_t{1} << static_cast<unsigned>(format.precision - 2);
    const std::uint64_t payload = dtype == DType::F32 ? (bits & kDoubleMantissa) >> 29U : 0;
    return sign | format.infinity | quiet | payload;
  }
  return sign | narrowed(bits & ~kDoubleSign, format);
}

/// The bits of one element as another type: docs/reference/semantics.md#dtypes.
[[nodiscard]] BV_HOST_DEVICE constexpr std::uint64_t cast(std::uint64_t bits, DType from,
                                                          DType to) {
  if (from == to) {
    return bits;
  }
  if (from == DType::BF16 && to == DType::F32) {
    return bits << 16U;  // NaN too
  }
  if (from == DType::F32 && to == DType::BF16) {
    const bool nan = (bits & 0x7fffffffU) > 0x7f800000U;
    const bool fits = (bits & 0xffffU) == 0;  // also a NaN whose payload fits keeps its bits
    const std::uint64_t rounded = fits  ? bits
                                  : nan ? bits | 0x00400000U
                                        : bits + 0x7fffU + ((bits >> 16U) & 1U);
    return (rounded >> 16U) & 0xffffU;
  }
  return from_double(to_double(bits, from), to);
}

/// x + delta in `dtype`: the sum in float64, rounded once. delta is finite.
[[nodiscard]] BV_HOST_DEVICE inline std::uint64_t add(std::uint64_t bits, DType dtype,
                                                      double delta) {
  const std::uint64_t wide = to_double(bits, dtype);
  if (is_nan(wide)) {
    return from_double(wide | kDoubleQuiet, dtype);
  }
#if defined(__CUDA_ARCH__)
  const double sum = __dadd_rn(__longlong_as_double(static_cast<long long>(wide)), delta);
  return from_double(static_cast<std::uint64_t>(__double_as_longlong(sum)), dtype);
#else
  double sum = 0;
  __builtin_memcpy(&sum, &wide, sizeof sum);
  sum += delta;
  std::uint64_t out = 0;
  __builtin_memcpy(&out, &sum, sizeof out);
  return from_double(out, dtype);
#endif
}

[[nodiscard]] BV_HOST_DEVICE constexpr int width(DType dtype) {
  return dtype == DType::F64 ? 8 : dtype == DType::F32 ? 4 : 2;
}

}  // namespace element

[[nodiscard]] BV_HOST_DEVICE inline std::uint64_t value_of(const Move& move, std::uint64_t bits) {
  const std::uint64_t sum = move.add == 0 ? bits : element::add(bits, move.from, move.add);
  return element::cast(sum, move.from, move.to);
}

/// Unit `number` of a piece.
BV_HOST_DEVICE inline void run_one(const Move& move, std::int64_t number) {
  const layout::BoxPlace place = layout::place_of(move.box, number);
  if (move.kind != Move::Kind::Value) {
    const std::byte* source =
        move.kind == Move::Kind::Zero ? nullptr : move.source + place.source * move.unit;
    element::copy_unit(source, move.target + place.target * move.unit, move.unit);
    return;
  }
  const int from = element::width(move.from);
  const int to = element::width(move.to);
  const std::byte* source = move.source + place.source * move.unit * from;
  std::byte* target = move.target + place.target * move.unit * to;
  if (move.unit == 1) {
    element::write(target, value_of(move, element::read(source, from)), to);
    return;
  }
  std::uint64_t bits[kValues];
  element::read_values(source, from, bits);
  BV_UNROLL
  for (std::uint64_t& one : bits) {
    one = value_of(move, one);
  }
  element::write_values(target, bits, to);
}

/// The piece that unit `number` of a launch belongs to: the last one whose first is not behind it.
template <class Piece>
[[nodiscard]] BV_HOST_DEVICE inline std::int64_t piece_of(const Piece* moves, std::int64_t count,
                                                          std::int64_t number) {
  std::int64_t low = 0;
  std::int64_t high = count;
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    if (moves[middle].first <= number) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

/// W + s * (B * A) of one element, as docs say it (a merge of LoRA): float32, the sum over k
/// ascending by fused multiply-adds, one multiplication, one addition, one rounding to the base's
/// type. The base keeps its bits where the product is zero.
struct MergeElement {
  const std::byte* left = nullptr;   // row of B: element k at left + k * left_step bytes
  const std::byte* right = nullptr;  // column of A
  std::int64_t left_step = 0;
  std::int64_t right_step = 0;
  std::int64_t rank = 0;
  DType left_dtype = DType::F32;  // F32, BF16 or F16, as all three
  DType right_dtype = DType::F32;
  DType base_dtype = DType::F32;
  float scale = 0;
};

namespace element {

[[nodiscard]] BV_HOST_DEVICE inline float as_float(std::uint64_t bits, DType dtype) {
  const auto word =
      static_cast<std::uint32_t>(dtype == DType::F32 ? bits : cast(bits, dtype, DType::F32));
  float out = 0;
  __builtin_memcpy(&out, &word, sizeof out);
  return out;
}

[[nodiscard]] BV_HOST_DEVICE inline std::uint64_t bits_of(float value) {
  std::uint32_t out = 0;
  __builtin_memcpy(&out, &value, sizeof out);
  return out;
}

[[nodiscard]] BV_HOST_DEVICE inline float fused(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return std::fma(a, b, c);
#endif
}
[[nodiscard]] BV_HOST_DEVICE inline float product(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}
[[nodiscard]] BV_HOST_DEVICE inline float sum(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fadd_rn(a, b);
#else
  return a + b;
#endif
}

}  // namespace element

/// base + scale * acc, rounded once; the bits of the base where the product is zero.
struct MergedBits {
  std::uint64_t bits = 0;
  float sum = 0;  // before it was rounded; 0 where the base stays
};
[[nodiscard]] BV_HOST_DEVICE inline MergedBits with_sum(std::uint64_t base, DType dtype,
                                                        float scale, float acc) {
  const float delta = element::product(scale, acc);
  if (delta == 0) {
    return {base, 0};
  }
  const float out = element::sum(element::as_float(base, dtype), delta);
  return {element::from_double(element::to_double(element::bits_of(out), DType::F32), dtype), out};
}

/// The bits of the merged element whose base has `base` as bits.
[[nodiscard]] BV_HOST_DEVICE inline std::uint64_t merged(const MergeElement& one,
                                                         std::uint64_t base) {
  float acc = 0;
  for (std::int64_t k = 0; k < one.rank; ++k) {
    const std::uint64_t left =
        element::read(one.left + k * one.left_step, element::width(one.left_dtype));
    const std::uint64_t right =
        element::read(one.right + k * one.right_step, element::width(one.right_dtype));
    acc = element::fused(element::as_float(left, one.left_dtype),
                         element::as_float(right, one.right_dtype), acc);
  }
  return with_sum(base, one.base_dtype, one.scale, acc).bits;
}

}  // namespace bv::cuda
