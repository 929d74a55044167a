#pragma once
// Element tags: each element of a checkpoint carries its own place through a bridge. Tag =
// tensor number * 2^40 + flat index + 1; 0 is padding.

#include <cstdint>
#include <cstring>

#include "properties/attacks/mutants/program.hpp"
#include "properties/claims/subject.hpp"

namespace bv::mutants {

using claims::kTensorTag;
/// What stands in memory before a bridge writes to it.
inline constexpr std::byte kPoison{0xA5};
inline constexpr std::int64_t kUnwritten = static_cast<std::int64_t>(0xA5A5A5A5A5A5A5A5ULL);

inline void poison(Tensor& tensor, const Move&) {
  std::fill(tensor.bytes.begin(), tensor.bytes.end(), kPoison);
}

[[nodiscard]] inline std::int64_t tag_at(const Tensor& tensor, std::size_t i) {
  std::int64_t out = 0;
  std::memcpy(&out, tensor.bytes.data() + i * sizeof out, sizeof out);
  return out;
}

}  // namespace bv::mutants
