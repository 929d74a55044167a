#include "reports/printable.hpp"

#include "core/base/text.hpp"

namespace bv::reports {

std::string printable(std::string_view text, bool ascii) {
  return readable(text, ascii);
}

std::string printable_whole(std::string_view text, bool ascii) {
  constexpr std::size_t kPathMax = 4096;
  return escaped(bounded(text, kPathMax), ascii);
}

std::size_t columns(std::string_view text) {
  std::size_t count = 0;
  for (const char c : text) {
    count += (static_cast<unsigned char>(c) & 0xc0U) != 0x80 ? 1 : 0;
  }
  return count;
}

}  // namespace bv::reports
