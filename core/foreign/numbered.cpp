#include "core/foreign/numbered.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "core/family/expression.hpp"
#include "core/foreign/pattern.hpp"
#include "core/foreign/shown.hpp"

namespace bv::foreign {
namespace {

using Symbols = std::map<std::string, std::int64_t, std::less<>>;

/// "c3" -> 3.
std::optional<std::size_t> capture_of(std::string_view word) {
  const bool fits = word.size() == 2 && word[0] == 'c' && word[1] >= '0' &&
                    word[1] < static_cast<char>('0' + kWildcardsMax);
  return fits ? std::optional(static_cast<std::size_t>(word[1] - '0')) : std::nullopt;
}

std::optional<std::int64_t> whole_number(std::string_view text) {
  constexpr std::size_t kDigitsMax = 9;
  std::int64_t out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  return whole && text.size() <= kDigitsMax && out >= 0 ? std::optional(out) : std::nullopt;
}

std::vector<std::string> expressions_of(std::string_view pattern) {
  std::vector<std::string> out;
  const auto pieces = family::split_template(pattern);
  for (const family::TemplatePiece& piece : pieces.value_or(std::vector<family::TemplatePiece>())) {
    if (piece.braces) {
      out.push_back(piece.text);
    }
  }
  return out;
}

std::optional<std::int64_t> value_of(const std::string& expression, const Symbols& symbols) {
  const auto out = family::evaluate(expression, symbols);
  return out && *out >= 0 ? std::optional(*out) : std::nullopt;
}

/// The capture that an expression of one capture is made of, when it grows evenly with it.
struct NumberedLine {
  std::size_t capture = 0;
  std::int64_t at_zero = 0;
  std::int64_t step = 0;
};
std::optional<NumberedLine> line_of(const std::string& expression) {
  const std::vector<std::string> words = family::identifiers(expression);
  if (words.size() != 1 || !capture_of(words.front())) {
    return std::nullopt;
  }
  std::vector<std::int64_t> values;
  for (std::int64_t n = 0; n < 4; ++n) {
    const auto value = family::evaluate(expression, {{words.front(), n}});
    if (!value) {
      return std::nullopt;
    }
    values.push_back(*value);
  }
  const std::int64_t step = values[1] - values[0];
  const bool even = values[2] - values[1] == step && values[3] - values[2] == step;
  return even && step != 0
             ? std::optional(NumberedLine{*capture_of(words.front()), values[0], step})
             : std::nullopt;
}

}  // namespace

bool is_numbered(std::string_view pattern) {
  return pattern.find('{') != std::string_view::npos;
}

std::string starred_numbers(std::string_view pattern) {
  const auto pieces = is_numbered(pattern) ? family::split_template(pattern) : std::nullopt;
  if (!pieces) {
    return std::string(pattern);
  }
  std::string out;
  for (const family::TemplatePiece& piece : *pieces) {
    out += piece.braces ? "*" : piece.text;
  }
  return out;
}

std::vector<std::size_t> captures_in(std::string_view pattern) {
  std::set<std::size_t> out;
  for (const std::string& expression : expressions_of(pattern)) {
    for (const std::string& word : family::identifiers(expression)) {
      if (const auto capture = capture_of(word)) {
        out.insert(*capture);
      }
    }
  }
  return {out.begin(), out.end()};
}

std::optional<std::string> fill_numbers(std::string_view pattern,
                                        const std::vector<std::string>& captures) {
  Symbols symbols;
  for (std::size_t i = 0; i < captures.size(); ++i) {
    if (const auto number = whole_number(captures[i])) {
      symbols.emplace(fmt::format("c{}", i), *number);
    }
  }
  const auto pieces = family::split_template(pattern);
  std::string out;
  for (const family::TemplatePiece& piece : pieces.value_or(std::vector<family::TemplatePiece>())) {
    const auto number = piece.braces ? value_of(piece.text, symbols) : std::nullopt;
    if (piece.braces && !number) {
      return std::nullopt;
    }
    out += piece.braces ? std::to_string(*number) : piece.text;
  }
  return pieces ? std::optional(out) : std::nullopt;
}

bool can_be_solved(std::string_view pattern) {
  std::set<std::size_t> solved;
  for (const std::string& expression : expressions_of(pattern)) {
    if (const auto line = line_of(expression)) {
      solved.insert(line->capture);
    }
  }
  return solved.size() == captures_in(pattern).size();
}

std::optional<std::vector<std::string>> solve_numbers(std::string_view pattern,
                                                      const std::vector<std::string>& numbers) {
  const std::vector<std::string> expressions = expressions_of(pattern);
  const std::vector<std::size_t> wanted = captures_in(pattern);
  if (!can_be_solved(pattern) || expressions.size() != numbers.size() || wanted.empty()) {
    return std::nullopt;
  }
  std::vector<std::string> out(wanted.back() + 1);
  for (std::size_t i = 0; i < expressions.size(); ++i) {
    const auto line = line_of(expressions[i]);
    const auto number = whole_number(numbers[i]);
    if (!line || !number) {
      continue;
    }
    const std::int64_t above = *number - line->at_zero;
    if (above % line->step != 0 || above / line->step < 0) {
      return std::nullopt;
    }
    out[line->capture] = std::to_string(above / line->step);
  }
  // What was solved makes the very name again: numbers that disagree, or have leading zeros, do
  // not.
  const auto made = fill_numbers(pattern, out);
  std::string given = starred_numbers(pattern);
  return made && *made == fill_pattern(given, numbers) ? std::optional(out) : std::nullopt;
}

Result<std::string> numbered_pattern(
    std::string_view pattern, const std::vector<std::pair<std::string, std::string>>& expressions) {
  const auto wrong = [&](std::string message, std::string found) -> Error {
    return fail(Code::RulesInvalid, std::move(message))
        .pair(std::move(found), R"({"pattern": "layers.{a}.x", "a": "c0 * 2 + c1"}, c0 for the )"
                                "first wildcard of the Megatron name");
  };
  const auto pieces = family::split_template(pattern);
  if (!pieces || pattern.find('*') != std::string_view::npos) {
    return wrong("a computed name has a star, or braces that do not pair up", shown(pattern));
  }
  std::string out;
  std::set<std::string, std::less<>> used;
  for (const family::TemplatePiece& piece : *pieces) {
    if (!piece.braces) {
      out += piece.text;
      continue;
    }
    const auto found = std::find_if(expressions.begin(), expressions.end(),
                                    [&](const auto& one) { return one.first == piece.text; });
    if (found == expressions.end()) {
      return wrong(fmt::format("a computed name has no number {}", shown(piece.text)),
                   shown(pattern));
    }
    used.insert(found->first);
    out += "{" + found->second + "}";
  }
  for (const auto& [name, expression] : expressions) {
    Symbols symbols;
    for (const std::string& word : family::identifiers(expression)) {
      if (capture_of(word)) {
        symbols.emplace(word, 1);
      }
    }
    const auto value = family::evaluate(expression, symbols);
    const bool syntax = !value && value.error().code != Code::IndivisibleDim;
    if (syntax || symbols.empty() || !used.contains(name) ||
        expression.find_first_of("{}") != std::string::npos) {
      return wrong(
          fmt::format("the number {} of a computed name is not one of captures", shown(name)),
          shown(expression));
    }
  }
  return out;
}

}  // namespace bv::foreign
