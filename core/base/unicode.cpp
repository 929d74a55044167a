#include "core/base/unicode.hpp"

#include <algorithm>
#include <array>

namespace bv::unicode {
namespace {

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

}  // namespace

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

bool invisible(std::uint32_t point) {
  const auto range =
      std::lower_bound(kInvisible.begin(), kInvisible.end(), point,
                       [](const Range& one, std::uint32_t at) { return one.last < at; });
  return range != kInvisible.end() && range->first <= point;
}

}  // namespace bv::unicode
