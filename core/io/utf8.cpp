#include "core/io/utf8.hpp"

#include <cstdint>
#include <cstring>

namespace bv::io {
namespace {

/// Length of the well-formed sequence at `at`, or 0 (Unicode 15, table 3-7).
std::size_t utf8_length(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) {
    return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0u;
  };
  const auto follows = [&](std::size_t i) { return (byte(i) & 0xc0u) == 0x80u; };
  const unsigned first = byte(0);
  const unsigned second = byte(1);
  if (first < 0x80) {
    return 1;
  }
  if (first >= 0xc2 && first <= 0xdf) {
    return follows(1) ? 2 : 0;
  }
  if (first >= 0xe0 && first <= 0xef) {
    const bool canonical = (first != 0xe0 || second >= 0xa0) && (first != 0xed || second < 0xa0);
    return canonical && follows(1) && follows(2) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    const bool canonical = (first != 0xf0 || second >= 0x90) && (first != 0xf4 || second < 0x90);
    return canonical && follows(1) && follows(2) && follows(3) ? 4 : 0;
  }
  return 0;
}

/// Whether the 32 bytes at `at` are all below 0x80.
bool is_ascii_block(std::string_view text, std::size_t at) {
  constexpr std::uint64_t kHighBits = 0x8080808080808080ULL;
  std::uint64_t words[4];
  std::memcpy(words, text.data() + at, sizeof words);
  return ((words[0] | words[1] | words[2] | words[3]) & kHighBits) == 0;
}

}  // namespace

std::size_t first_invalid_utf8(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    if (at + 32 <= text.size() && is_ascii_block(text, at)) {
      at += 32;
      continue;
    }
    const std::size_t length = utf8_length(text, at);
    if (length == 0) {
      return at;
    }
    at += length;
  }
  return std::string_view::npos;
}

}  // namespace bv::io
