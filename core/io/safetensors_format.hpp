#pragma once
// Numbers of the safetensors format that its reader and its writer share.

#include <cstdint>

namespace bv::io {

inline constexpr std::uint64_t kHeaderBytesMax = 100'000'000;  // safetensors tensor.rs:10
inline constexpr std::uint64_t kLengthWordBytes = 8;

}  // namespace bv::io
