#pragma once
// Element types of safetensors, in the order that its writer sorts by. Source: safetensors
// tensor.rs, 24b0b2857f.

#include <cstdint>
#include <optional>
#include <string_view>

namespace bv {

enum class DType : std::uint8_t {
  Bool,
  F4,
  F6E2M3,
  F6E3M2,
  U8,
  I8,
  F8E5M2,
  F8E4M3,
  F8E8M0,
  F8E4M3FNUZ,
  F8E5M2FNUZ,
  I16,
  U16,
  F16,
  BF16,
  I32,
  U32,
  F32,
  C64,
  F64,
  I64,
  U64,
};

/// Bits of one element: 4 to 64.
[[nodiscard]] int bits(DType dtype);
/// Bytes of one element of a whole-byte type; asserts for F4 and F6.
[[nodiscard]] std::int64_t bytes(DType dtype);
/// The name in a safetensors header: "BF16".
[[nodiscard]] std::string_view name(DType dtype);
/// Case-sensitive, as the format is.
[[nodiscard]] std::optional<DType> dtype_from_name(std::string_view name);
[[nodiscard]] bool is_float(DType dtype);

}  // namespace bv
