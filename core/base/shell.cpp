#include "core/base/shell.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/unicode.hpp"

namespace bv {
namespace {

bool plain(std::string_view word) {
  constexpr std::string_view kSafe = "_@%+=:,./-";
  return !word.empty() && word.front() != '=' &&
         std::all_of(word.begin(), word.end(), [&](unsigned char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  kSafe.find(static_cast<char>(c)) != std::string_view::npos;
         });
}

}  // namespace

std::string shell_quoted(std::string_view word) {
  if (plain(word)) {
    return std::string(word);
  }
  std::string out = "'";
  while (!word.empty()) {
    const unicode::Decoded next = unicode::decode(word);
    const std::size_t bytes = std::max<std::size_t>(next.bytes, 1);
    if (next.bytes == 0 || unicode::invisible(next.point)) {
      out += "'$'";
      for (const char c : word.substr(0, bytes)) {
        out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
      }
      out += "''";
    } else if (word.front() == '\'') {
      out += "'\\''";
    } else {
      out += word.substr(0, bytes);
    }
    word.remove_prefix(bytes);
  }
  return out + "'";
}

}  // namespace bv
