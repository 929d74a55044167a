#pragma once
// SHA-256 as FIPS 180-4 states it, for sums that other tools check.

#include <string>
#include <string_view>

namespace bv::io {

/// 64 lower-case hex digits.
[[nodiscard]] std::string sha256(std::string_view bytes);

}  // namespace bv::io
