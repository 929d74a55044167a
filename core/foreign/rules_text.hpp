#pragma once
// The JSON text of a rules file: parsed, with the line and column of every rule.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/result.hpp"

namespace bv::foreign {

/// JSON of bounded size and depth. Errors: RulesInvalid with line, column, the reason and the line
/// with a caret.
[[nodiscard]] Result<nlohmann::json> parse_rules_json(std::string_view text,
                                                      const std::string& file);

/// Line and column, both from 1, of a byte of the text.
class LineNumbers {
 public:
  LineNumbers(std::string_view text, std::string file);
  /// "my.rules.json:88:15"
  [[nodiscard]] std::string at(std::size_t byte) const;

 private:
  std::string file_;
  std::vector<std::size_t> starts_;  // of the lines
};

/// Where the entries of a list of objects stand in the text.
struct ListedPlace {
  std::size_t begin = 0;                                  // of the entry
  std::vector<std::pair<std::string, std::size_t>> keys;  // key -> begin of its value
  /// Of the value of `key`; of the entry without one.
  [[nodiscard]] std::size_t of(std::string_view key) const;
};
/// The entries of the list `key` of the top object, in order; empty when there is no such list. The
/// text was parsed without an error.
[[nodiscard]] std::vector<ListedPlace> places_in_list(std::string_view text, std::string_view key);

}  // namespace bv::foreign
