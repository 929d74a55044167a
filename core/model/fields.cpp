#include <fmt/format.h>

#include <algorithm>

#include "core/family/expression.hpp"
#include "core/family/family.hpp"
#include "core/model/model.hpp"

namespace bv::model {
namespace {

/// "num_key_value_heads=4", "head_dim=6 (default 6: config.json has no head_dim)".
std::string field_text(const family::Family& family, const family::SymbolRule& symbol,
                       const Geometry& geometry) {
  const auto origin = geometry.origin.find(symbol.name);
  const std::string from = origin == geometry.origin.end() ? "" : origin->second;
  const bool read = std::any_of(
      symbol.fields.begin(), symbol.fields.end(),
      [&](const family::FieldPath& field) { return family::dotted(family, field) == from; });
  const std::string path =
      read || symbol.fields.empty() ? from : family::dotted(family, symbol.fields.front());
  const auto value = geometry.get(symbol.name);
  const std::string text = !value        ? "?"
                           : symbol.flag ? (*value != 0 ? "true" : "false")
                                         : std::to_string(*value);
  return fmt::format("{}={}{}", path, text, read || from.empty() ? "" : fmt::format(" ({})", from));
}

void collect(const family::Family& family, const Geometry& geometry, std::string_view expression,
             std::vector<std::string>& seen, std::vector<std::string>& out) {
  for (const std::string& word : family::identifiers(expression)) {
    const family::SymbolRule* symbol = family.symbol(word);
    if (symbol == nullptr || std::find(seen.begin(), seen.end(), word) != seen.end()) {
      continue;
    }
    seen.push_back(word);
    if (symbol->value) {
      collect(family, geometry, *symbol->value, seen, out);
    } else {
      out.push_back(field_text(family, *symbol, geometry));
    }
  }
}

}  // namespace

std::vector<std::string> fields_behind(const family::Family& family, const Geometry& geometry,
                                       std::string_view expression) {
  std::vector<std::string> seen;
  std::vector<std::string> out;
  collect(family, geometry, expression, seen, out);
  return out;
}

std::string field_of(const family::Family& family, const Geometry& geometry,
                     std::string_view expression) {
  for (const std::string& word : family::identifiers(expression)) {
    const family::SymbolRule* symbol = family.symbol(word);
    if (symbol == nullptr) {
      continue;
    }
    if (symbol->value) {
      return field_of(family, geometry, *symbol->value);
    }
    const auto origin = geometry.origin.find(word);
    for (const family::FieldPath& field : symbol->fields) {
      if (origin != geometry.origin.end() && origin->second == family::dotted(family, field)) {
        return origin->second;
      }
    }
    return family::dotted(family, symbol->fields.front());
  }
  return std::string(expression);
}

}  // namespace bv::model
