// Templates of names: the braces of a family file filled in.

#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"
#include "core/family/expression.hpp"

namespace bv::family {
namespace {

/// The text that replaces one pair of braces.
Result<std::string> inside_braces(std::string_view inner, const NameValues& values) {
  if (!values.variable.empty() && inner == values.variable) {
    return std::to_string(values.index);
  }
  if (inner.starts_with('#') && inner.substr(1) == values.variable) {
    return std::to_string(values.whole);
  }
  if (inner == "e" && values.expert >= 0) {
    return std::to_string(values.expert);
  }
  if (values.expert >= 0 && inner.find('|') != std::string_view::npos) {
    const auto words = words_in(inner);
    return words[std::min(static_cast<std::size_t>(values.expert), words.size() - 1)];
  }
  if (values.prefixes != nullptr) {
    if (const auto prefix = values.prefixes->find(inner); prefix != values.prefixes->end()) {
      return prefix->second;
    }
  }
  const Lookup lookup = [&values](std::string_view word) -> std::optional<std::int64_t> {
    if (!values.variable.empty() && word == values.variable) {
      return values.index;
    }
    if (word == "e" && values.expert >= 0) {
      return values.expert;
    }
    if (values.symbols == nullptr) {
      return std::nullopt;
    }
    const auto symbol = values.symbols->find(word);
    return symbol == values.symbols->end() ? std::nullopt : std::optional(symbol->second);
  };
  BV_TRY(number, evaluate_with(inner, lookup));
  return std::to_string(number);
}

}  // namespace

std::vector<std::string> words_in(std::string_view inner) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at <= inner.size();) {
    const std::size_t end = std::min(inner.find('|', at), inner.size());
    out.emplace_back(inner.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

bool names_expert(std::string_view inner) {
  const auto words = words_in(inner);
  const auto names = words.size() > 1 ? std::vector<std::string>{} : identifiers(inner);
  return words.size() > 1 || std::find(names.begin(), names.end(), "e") != names.end();
}

Result<std::string> expand(std::string_view text, const NameValues& values) {
  std::string out;
  out.reserve(text.size() + 8);
  while (!text.empty()) {
    const std::size_t open = text.find('{');
    out += text.substr(0, open);
    if (open == std::string_view::npos) {
      break;
    }
    const std::size_t close = text.find('}', open);
    if (close == std::string_view::npos) {
      return fail(Code::RulesInvalid,
                  fmt::format("the braces of \"{}\" do not pair up", escaped(text)))
          .pair("no }", "{name}")
          .advise("correct the template in the rules file");
    }
    BV_TRY(value, inside_braces(text.substr(open + 1, close - open - 1), values));
    out += value;
    text.remove_prefix(close + 1);
  }
  return out;
}

}  // namespace bv::family
