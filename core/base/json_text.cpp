#include "core/base/json_text.hpp"

#include <fmt/format.h>

#include "core/base/unicode.hpp"

namespace bv {

std::string visible_json(std::string_view json) {
  std::string out;
  out.reserve(json.size());
  while (!json.empty()) {
    const unicode::Decoded next = unicode::decode(json);
    const std::size_t bytes = next.bytes == 0 ? 1 : next.bytes;
    const bool written = next.point == '\n' || next.bytes == 0 || !unicode::invisible(next.point);
    if (written) {
      out += json.substr(0, bytes);
    } else if (next.point < 0x10000) {
      out += fmt::format("\\u{:04x}", next.point);
    } else {  // a pair of surrogates
      const std::uint32_t above = next.point - 0x10000;
      out += fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + (above >> 10U), 0xdc00 + (above & 0x3ffU));
    }
    json.remove_prefix(bytes);
  }
  return out;
}

}  // namespace bv
