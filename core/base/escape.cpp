// Untrusted text made safe for a terminal and short enough for a message.

#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"
#include "core/base/unicode.hpp"

namespace bv {
namespace {

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
    const unicode::Decoded next = unicode::decode(untrusted);
    if (next.bytes == 0) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(untrusted[0]));
      untrusted.remove_prefix(1);
      continue;
    }
    if (next.point == '\n') {
      out += "\\n";
    } else if (next.point == '\t') {
      out += "\\t";
    } else if (next.point < 0x80 && unicode::invisible(next.point)) {
      out += fmt::format("\\x{:02x}", next.point);
    } else if (unicode::invisible(next.point) || (ascii && next.point >= 0x80)) {
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
