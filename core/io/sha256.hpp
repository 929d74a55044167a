#pragma once
// SHA-256 as FIPS 180-4 states it, for sums that other tools check.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace bv::io {

/// The sum of bytes that come piece by piece.
class Sha256 {
 public:
  void add(std::span<const std::byte> bytes);
  /// 64 lower-case hex digits. At most once, and no `add` after it.
  [[nodiscard]] std::string digits();

 private:
  std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, 64> begun_{};  // of a block that is not whole
  std::uint64_t size_ = 0;
};

/// 64 lower-case hex digits.
[[nodiscard]] std::string sha256(std::string_view bytes);

}  // namespace bv::io
