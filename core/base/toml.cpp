#include "core/base/toml.hpp"

#include <fmt/format.h>

#include <algorithm>

#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#define TOML_HEADER_ONLY 1
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#include <toml++/toml.h>
#pragma GCC diagnostic pop

#include "core/base/text.hpp"

namespace bv::toml {
namespace {

Place place_of(const ::toml::source_region& region) {
  return {static_cast<int>(region.begin.line), static_cast<int>(region.begin.column)};
}

Value value_of(const ::toml::node& node);

Table table_of(const ::toml::table& table) {
  Table out;
  for (const auto& [key, node] : table) {
    out.push_back({std::string(key.str()), place_of(key.source()), value_of(node)});
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const Entry& a, const Entry& b) { return a.at < b.at; });
  return out;
}

Value value_of(const ::toml::node& node) {
  Value out;
  out.at = place_of(node.source());
  if (const auto* text = node.as_string()) {
    out.data = text->get();
  } else if (const auto* whole = node.as_integer()) {
    out.data = whole->get();
  } else if (const auto* real = node.as_floating_point()) {
    out.data = real->get();
  } else if (const auto* truth = node.as_boolean()) {
    out.data = truth->get();
  } else if (const auto* date = node.as_date()) {
    out.data = Date{date->get().year, date->get().month, date->get().day};
  } else if (const auto* array = node.as_array()) {
    Array items;
    for (const auto& item : *array) {
      items.push_back(value_of(item));
    }
    out.data = std::move(items);
  } else if (const auto* table = node.as_table()) {
    out.data = table_of(*table);
  }
  return out;
}

}  // namespace

std::string_view Value::kind() const {
  constexpr std::string_view kKinds[] = {"a time or a date with a time",
                                         "a string",
                                         "a whole number",
                                         "a number",
                                         "true or false",
                                         "a date",
                                         "a list",
                                         "a table"};
  return kKinds[data.index()];
}

std::string place_text(std::string_view file, Place place) {
  return fmt::format("{}:{}:{}", file, place.line, place.column);
}

Result<Table> parse(std::string_view text, std::string_view file, Code code) {
  const auto parsed = ::toml::parse(text, file);
  if (!parsed) {
    return fail(code, fmt::format("{} is not valid TOML: {}", escaped(file),
                                  escaped(parsed.error().description())))
        .at(place_text(file, place_of(parsed.error().source())))
        .advise("correct that line");
  }
  return table_of(parsed.table());
}

}  // namespace bv::toml
