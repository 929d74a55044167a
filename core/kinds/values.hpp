#pragma once
// Value-changing maps: dtype casts and the zero-centred norm. Never called bit-equal without
// looking at the values; their exactness predicates are checked against brute force
// (docs/reference/semantics.md#value-rules and #dtypes).

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "core/base/dtype.hpp"
#include "core/base/result.hpp"

namespace bv::kinds {

/// F16, BF16, F32 and F64: the types that casts and sums are defined for.
[[nodiscard]] bool is_computable(DType dtype);

/// One element as a number; exact.
[[nodiscard]] double load(const std::byte* element, DType dtype);
/// Rounds to nearest even. NaN stays NaN with its sign, quiet, payload cut.
void store(double value, std::byte* element, DType dtype);

/// Casts `count` elements with one rounding. Equal types copy the bits.
void cast(const std::byte* source, DType source_dtype, std::byte* target, DType target_dtype,
          std::int64_t count);

/// y = RN(x + delta) in `dtype`, element by element, in place. delta is +1 or -1.
/// Source: Megatron-Bridge param_mapping.py, RMSNorm2ZeroCentered (import -1, export +1).
void add_constant(std::span<std::byte> elements, DType dtype, double delta);

/// What a value-changing conversion does to one tensor.
struct Exactness {
  std::int64_t elements = 0;
  std::int64_t inexact = 0;
  std::int64_t first_inexact = -1;
  std::uint64_t first_wanted_bits = 0;
  std::uint64_t first_found_bits = 0;
};

/// Follows every element HF -> Megatron -> HF: `added` on the way there, taken off on the way back;
/// `megatron` is the type on the Megatron side. Works for computable types; equal types with
/// nothing added are exact by definition.
[[nodiscard]] Exactness trace_values(std::span<const std::byte> elements, DType hf, DType megatron,
                                     double added);

/// The closed predicate of docs/reference/semantics.md#value-rules for one dtype of precision p on
/// both sides: does RN(RN(x - 1) + 1) give back the bits of x? NaN is decided by the caller's bits.
[[nodiscard]] bool minus_one_is_exact(double x, int precision_bits);
/// Does a cast of x to `target` and back give x? (docs/reference/semantics.md#dtypes)
[[nodiscard]] bool cast_is_exact(double x, DType target);

/// Bits of significand including the hidden one: BF16 8, F16 11, F32 24, F64 53.
[[nodiscard]] int precision(DType dtype);

}  // namespace bv::kinds
