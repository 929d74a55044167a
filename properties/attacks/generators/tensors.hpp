#pragma once
// Raw tensors of every kind of bit pattern: NaN payloads, both zeros, subnormals, infinities, the
// neighbours of one, and plain noise.

#include <cstddef>
#include <vector>

#include "core/base/dtype.hpp"
#include "properties/attacks/generators/fields.hpp"

namespace bv::generators {

/// What the elements of a tensor are; Mixed takes each element from one of the others.
enum class Pattern : std::int64_t {
  One,
  Zeros,      // +0 and -0
  NearOne,    // a few units in the last place around +-1
  Subnormal,  // the smallest and the largest, both signs, and between
  Largest,    // finite
  Infinite,   // both signs
  QuietNan,   // any payload, both signs
  SignalNan,  // any payload but none, both signs
  Noise,      // every bit pattern
  Mixed,
};

struct TensorDraw {
  std::int64_t dtype = 0;    // index into float_dtypes()
  std::int64_t pattern = 0;  // Pattern
  std::int64_t elements = 1;
  std::int64_t seed = 0;
  bool operator==(const TensorDraw&) const = default;
};

[[nodiscard]] std::span<const Field<TensorDraw>> tensor_fields();
/// F16, BF16, F32, F64.
[[nodiscard]] std::span<const DType> float_dtypes();
[[nodiscard]] DType dtype_of(const TensorDraw& draw);

/// The bytes of the elements, one after the other.
[[nodiscard]] std::vector<std::byte> make_tensor(const TensorDraw& draw);

/// The pattern that a bit pattern of `dtype` belongs to: everything that is none of the others is
/// Noise.
[[nodiscard]] Pattern pattern_of(std::uint64_t bits, DType dtype);

}  // namespace bv::generators
