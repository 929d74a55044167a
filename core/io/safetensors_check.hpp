#pragma once
// Steps 6 to 10 of the format's validation: offsets tile the data, shapes fit the bytes, the file
// ends with the last one. Source: docs/reference/formats.md#validation, from safetensors tensor.rs
// at 24b0b2857f.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base/result.hpp"
#include "core/io/checkpoint.hpp"

namespace bv::io {

/// What dtype and shape of a header entry need: dimensions multiplied from left to right, then the
/// element's bits, in unsigned 64 bits as the reference does ([0, 2^64-1, 2^64-1] fits, [2^64-1,
/// 2^64-1, 0] does not).
struct TensorBits {
  std::uint64_t bits = 0;
  bool overflows = false;
};
[[nodiscard]] TensorBits tensor_bits(DType dtype, std::span<const std::uint64_t> shape);

/// One entry of a header before its offsets are believed: `begin` and `end` are relative to the
/// data section.
struct HeaderEntry {
  StoredTensor tensor;
  TensorBits size;
  std::uint64_t name_position = 0;  // byte in the file
};

/// Sorts by (begin, end), then checks that the tensors lie one after the other from byte 0 to the
/// end of the data section. Errors: OffsetsInvalid (hole, overlap, end before begin),
/// TensorSizeInvalid (shape and offsets disagree, overflow, no whole bytes), HeaderTruncated (the
/// file ends before or after its last tensor).
[[nodiscard]] Status check_tiling(std::vector<HeaderEntry>& entries, std::uint64_t data_begin,
                                  std::uint64_t file_size, const std::string& file);

/// Errors: DuplicateKey with both positions. Linear time, whatever the names.
[[nodiscard]] Status check_names_differ(std::span<const HeaderEntry> entries,
                                        const std::string& file);

}  // namespace bv::io
