#include "core/kinds/value_rule.hpp"

#include <algorithm>

namespace bv::kinds {
namespace {

/// Calls `use` with each word; false as soon as it gives false.
template <class Use>
bool each_word(std::string_view value, const Use& use) {
  while (!value.empty()) {
    const std::size_t blank = std::min(value.find(' '), value.size());
    if (!use(value.substr(0, blank))) {
      return false;
    }
    value.remove_prefix(std::min(blank + 1, value.size()));
  }
  return true;
}

}  // namespace

bool is_value_rule(std::string_view value) {
  return each_word(value,
                   [](std::string_view word) { return word == "minus_one" || word == "plus_one"; });
}

double added_on_import(std::string_view value) {
  double sum = 0.0;
  each_word(value, [&sum](std::string_view word) {
    sum += word == "minus_one" ? -1.0 : word == "plus_one" ? 1.0 : 0.0;
    return true;
  });
  return sum;
}

}  // namespace bv::kinds
