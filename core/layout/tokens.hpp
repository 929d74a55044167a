#pragma once
// The words of a notation line, each with its place.

#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"
#include "core/layout/ast.hpp"

namespace bv::layout {

struct Token {
  enum class Kind { Name, One, Rest, Symbol, Arrow, End };
  Kind kind = Kind::End;
  std::string text;
  Position at;
};

/// Always ends with one End. Errors: RulesInvalid naming file, line and column.
[[nodiscard]] Result<std::vector<Token>> tokens_of(std::string_view text, std::string_view file,
                                                   int first_line);

}  // namespace bv::layout
