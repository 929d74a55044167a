#include "core/base/json_mistake.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "core/base/text.hpp"

namespace bv {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";

/// The byte before `at` that is no blank; npos without one.
std::size_t before(std::string_view text, std::size_t at) {
  return at == 0 ? std::string_view::npos : text.find_last_not_of(kBlanks, at - 1);
}

bool starts_value(char c) {
  return c == '"' || c == '{' || c == '[' || c == '-' || (c >= '0' && c <= '9');
}

bool ends_value(char c) {
  return c == '"' || c == '}' || c == ']' || (c >= '0' && c <= '9') || c == 'e' || c == 'l';
}

/// What is wrong and where, when it is a usual mistake.
std::pair<std::size_t, std::string> usual(std::string_view text, std::size_t at) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kPython = {
      {{"True", "true"}, {"False", "false"}, {"None", "null"}}};
  const std::size_t last = before(text, at);
  if (text.find_first_not_of(kBlanks) == std::string_view::npos) {
    return {at, "the file is empty"};
  }
  if (at >= text.size()) {
    return {at, "the file ends before its last bracket"};
  }
  const char c = text[at];
  if ((c == '}' || c == ']') && last != std::string_view::npos && text[last] == ',') {
    return {last, "a comma stands after the last entry"};
  }
  if (c == ',' && last != std::string_view::npos && text[last] == ',') {
    return {at, "two commas follow each other"};
  }
  if (c == '#' || text.substr(at, 2) == "//" || text.substr(at, 2) == "/*") {
    return {at, "a comment, which JSON does not have"};
  }
  if (c == '\'') {
    return {at, "single quotes, where JSON has double quotes"};
  }
  // The parser may stop inside the word.
  const std::size_t start = text.find_last_of(" \t\r\n:,[{", at);
  for (const auto& [python, json] : kPython) {
    if (start != std::string_view::npos && text.substr(start + 1).starts_with(python)) {
      return {start + 1, fmt::format("{} is Python: JSON writes {}", python, json)};
    }
  }
  // The parser may stop at the end of a string.
  const std::size_t open = c == '"' && at > 0 ? text.rfind('"', at - 1) : std::string_view::npos;
  for (const std::size_t begin : {open, at}) {
    const std::size_t left = begin == std::string_view::npos ? begin : before(text, begin);
    if (left != std::string_view::npos && starts_value(text[begin]) && ends_value(text[left])) {
      return {begin, "a comma is missing before this entry"};
    }
  }
  return {at, ""};
}

}  // namespace

std::string JsonMistake::place(std::string_view file) const {
  return fmt::format("{}:{}:{}", file, line, column);
}

JsonMistake json_mistake(std::string_view text, std::size_t at, std::string_view reason) {
  constexpr std::size_t kShownColumns = 70;
  constexpr std::size_t kBehind = 20;
  auto [where, what] = usual(text, std::min(at, text.size()));
  where = std::min(where, text.size());
  const std::size_t break_before =
      where == 0 ? std::string_view::npos : text.rfind('\n', where - 1);
  const std::size_t start = break_before == std::string_view::npos ? 0 : break_before + 1;
  const std::string_view whole = text.substr(start, text.find('\n', start) - start);
  JsonMistake out;
  out.line = 1 + static_cast<std::size_t>(std::count(
                     text.begin(), text.begin() + static_cast<std::ptrdiff_t>(where), '\n'));
  out.column = where - start + 1;
  out.what = what.empty() ? escaped(reason) : std::move(what);
  const std::size_t from =
      out.column > kShownColumns - kBehind ? out.column - (kShownColumns - kBehind) : 0;
  out.facts = {escaped(whole.substr(std::min(from, whole.size()), kShownColumns)),
               std::string(out.column - 1 - from, ' ') + "^"};
  return out;
}

std::string json_reason(std::string_view what) {
  if (const std::size_t at = what.rfind("; expected "); at != std::string_view::npos) {
    return std::string(what.substr(at + 2));
  }
  if (what.find("unexpected end of input") != std::string_view::npos) {
    return "the file ends too early";
  }
  const std::size_t dash = what.find(" - ");
  return std::string(dash == std::string_view::npos ? what : what.substr(dash + 3));
}

}  // namespace bv
