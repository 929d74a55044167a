// Untrusted text made safe for a terminal and short enough for a message.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/base/text.hpp"

namespace bv {
namespace {

struct Decoded {
  std::uint32_t point = 0;
  std::size_t bytes = 0;  // 0: not UTF-8
};

Decoded decode(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) {
    return {lead, 1};
  }
  const std::size_t length = lead >= 0xf0 && lead <= 0xf4 ? 4
                             : lead >= 0xe0               ? 3
                             : lead >= 0xc2               ? 2
                                                          : 0;
  if (length == 0 || lead > 0xf4 || text.size() < length) {
    return {};
  }
  std::uint32_t point = lead & (0xffU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    const auto next = static_cast<unsigned char>(text[i]);
    if ((next & 0xc0U) != 0x80) {
      return {};
    }
    point = (point << 6U) | (next & 0x3fU);
  }
  const bool overlong = (length == 3 && point < 0x800) || (length == 4 && point < 0x10000);
  const bool surrogate = point >= 0xd800 && point <= 0xdfff;
  return overlong || surrogate || point > 0x10ffff ? Decoded{} : Decoded{point, length};
}

struct Range {
  std::uint32_t first, last;
};

/// General categories Cc, Cf, Zl and Zp of Unicode 15, ascending: characters that a terminal acts
/// on, or that change how their neighbours look, instead of showing themselves.
constexpr std::array kInvisible = {
    Range{0x0000, 0x001f},   Range{0x007f, 0x009f},   Range{0x00ad, 0x00ad},
    Range{0x0600, 0x0605},   Range{0x061c, 0x061c},   Range{0x06dd, 0x06dd},
    Range{0x070f, 0x070f},   Range{0x0890, 0x0891},   Range{0x08e2, 0x08e2},
    Range{0x180e, 0x180e},   Range{0x200b, 0x200f},   Range{0x2028, 0x202e},
    Range{0x2060, 0x2064},   Range{0x2066, 0x206f},   Range{0xfeff, 0xfeff},
    Range{0xfff9, 0xfffb},   Range{0x110bd, 0x110bd}, Range{0x110cd, 0x110cd},
    Range{0x13430, 0x1343f}, Range{0x1bca0, 0x1bca3}, Range{0x1d173, 0x1d17a},
    Range{0xe0001, 0xe0001}, Range{0xe0020, 0xe007f}};

bool invisible(std::uint32_t point) {
  const auto range =
      std::lower_bound(kInvisible.begin(), kInvisible.end(), point,
                       [](const Range& one, std::uint32_t at) { return one.last < at; });
  return range != kInvisible.end() && range->first <= point;
}

/// `text` with its middle cut out, as a reader is told; never inside a character.
std::string middle_cut(std::string_view text, std::size_t bytes_max) {
  const auto inside_character = [&](std::size_t at) {
    return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0U) == 0x80U;
  };
  std::size_t head = bytes_max / 2;
  std::size_t tail = text.size() - bytes_max / 2;
  for (int i = 0; i < 3 && inside_character(head); ++i) {
    --head;
  }
  for (int i = 0; i < 3 && inside_character(tail); ++i) {
    ++tail;
  }
  return fmt::format("{}...({} bytes)...{}", text.substr(0, head), tail - head, text.substr(tail));
}

}  // namespace

std::string escaped(std::string_view untrusted, bool ascii) {
  std::string out;
  out.reserve(untrusted.size());
  while (!untrusted.empty()) {
    const Decoded next = decode(untrusted);
    if (next.bytes == 0) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(untrusted[0]));
      untrusted.remove_prefix(1);
      continue;
    }
    if (next.point == '\n') {
      out += "\\n";
    } else if (next.point == '\t') {
      out += "\\t";
    } else if (next.point < 0x80 && invisible(next.point)) {
      out += fmt::format("\\x{:02x}", next.point);
    } else if (invisible(next.point) || (ascii && next.point >= 0x80)) {
      out += fmt::format("\\u{{{:x}}}", next.point);
    } else {
      out += untrusted.substr(0, next.bytes);
    }
    untrusted.remove_prefix(next.bytes);
  }
  return out;
}

std::string bounded(std::string_view untrusted, std::size_t bytes_max) {
  return untrusted.size() <= bytes_max ? std::string(untrusted) : middle_cut(untrusted, bytes_max);
}

std::string readable(std::string_view untrusted, bool ascii) {
  if (untrusted.size() <= kWordShownMax) {
    return escaped(untrusted, ascii);
  }
  std::string out;
  while (!untrusted.empty()) {
    const std::size_t word = std::min(untrusted.find(' '), untrusted.size());
    const std::size_t blanks = std::min(untrusted.find_first_not_of(' ', word), untrusted.size());
    out += escaped(bounded(untrusted.substr(0, word), kWordShownMax), ascii);
    out += untrusted.substr(word, blanks - word);
    untrusted.remove_prefix(blanks);
  }
  return bounded(out, kTextShownMax);
}

}  // namespace bv
