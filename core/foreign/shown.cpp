#include "core/foreign/shown.hpp"

#include <fmt/format.h>

#include "core/base/text.hpp"
#include "core/foreign/rules_file.hpp"

namespace bv::foreign {

std::string shown(std::string_view name) {
  constexpr std::size_t kWidth = 160;
  return escaped(shortened(name, kWidth, true));
}

std::string named(const ForeignRule& rule) {
  return "rule " + shown(rule.id);
}

std::string twins_text(const ForeignRule& first, const ForeignRule& second) {
  return first.id == second.id
             ? fmt::format("two rules {} both make {}", shown(first.id), shown(second.megatron))
             : fmt::format("rules {} and {} both make {}", shown(first.id), shown(second.id),
                           shown(second.megatron));
}

std::optional<std::string> meant(std::string_view word,
                                 const std::vector<std::string>& candidates) {
  constexpr std::size_t kWordMax = 64;
  return word.size() > kWordMax ? std::nullopt : nearest(word, candidates);
}

}  // namespace bv::foreign
