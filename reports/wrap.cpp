#include "reports/wrap.hpp"

#include <algorithm>

#include "reports/printable.hpp"

namespace bv::reports {

std::string wrapped(std::string_view text, std::size_t column, std::string_view hanging,
                    std::size_t width) {
  width = std::max(width, kWidthMin);
  if (column + columns(text) <= width) {
    return std::string(text);
  }
  std::string out;
  bool fresh = true;  // nothing of the text stands on this line yet
  while (!text.empty()) {
    const std::size_t begin = text.find_first_not_of(' ');
    if (begin == std::string_view::npos) {
      break;
    }
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    const std::string_view gap = text.substr(0, begin);
    const std::string_view word = text.substr(begin, end - begin);
    const bool first_word = out.empty();
    if (!fresh && column + gap.size() + columns(word) > width) {
      out += '\n';
      out += hanging;
      column = columns(hanging);
      fresh = true;
    }
    if (!fresh || first_word) {
      out += gap;
      column += gap.size();
    }
    out += word;
    column += columns(word);
    fresh = false;
    text.remove_prefix(end);
  }
  return out;
}

std::string flowed(const std::vector<std::string>& parts, std::string_view gap, std::size_t indent,
                   std::size_t width) {
  width = std::max(width, kWidthMin);
  const std::string hanging(indent, ' ');
  std::string out;
  std::size_t column = indent;
  for (const std::string& part : parts) {
    if (column > indent && column + gap.size() + columns(part) > width) {
      out += "\n" + hanging;
      column = indent;
    } else if (column > indent) {
      out += gap;
      column += gap.size();
    }
    const std::string fitted = wrapped(part, column, hanging + "  ", width);
    out += fitted;
    const std::size_t last = fitted.rfind('\n');
    column = last == std::string::npos ? column + columns(fitted)
                                       : columns(std::string_view(fitted).substr(last + 1));
  }
  return out;
}

}  // namespace bv::reports
