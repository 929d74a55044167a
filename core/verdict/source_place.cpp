#include "core/verdict/source_place.hpp"

#include <charconv>

namespace bv {

SourcePlace source_place(std::string_view text) {
  SourcePlace out;
  const std::size_t colon = text.find(':');
  out.file = text.substr(0, colon);
  if (colon == std::string_view::npos) {
    return out;
  }
  const char* begin = text.data() + colon + 1;
  int line = 0;
  const auto [end, error] = std::from_chars(begin, text.data() + text.size(), line);
  out.line = error == std::errc{} && end != begin && line > 0 ? line : 0;
  return out;
}

}  // namespace bv
