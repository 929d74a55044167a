#include "core/family/family_fields.hpp"

namespace bv::family {

Result<FieldPath> parse_field(const JsonPlace& place) {
  if (place.node().is_string()) {
    BV_TRY(path, place.text());
    return FieldPath{path, false};
  }
  BV_CHECK(place.only({"count"}));
  BV_TRY(count, place.at("count"));
  BV_TRY(path, count.text());
  return FieldPath{path, true};
}

Result<FieldPath> field_or_none(const JsonPlace& place, std::string_view key) {
  const auto found = place.find(key);
  return found ? parse_field(*found) : Result<FieldPath>(FieldPath{});
}

Result<std::int64_t> number_or(const JsonPlace& place, std::string_view key,
                               std::int64_t fallback) {
  const auto found = place.find(key);
  return found ? found->number() : Result<std::int64_t>(fallback);
}

Result<std::vector<FieldPath>> fields_or_none(const JsonPlace& place, std::string_view key) {
  std::vector<FieldPath> out;
  const auto found = place.find(key);
  if (!found) {
    return out;
  }
  if (!found->node().is_array()) {
    BV_TRY(path, parse_field(*found));
    return std::vector<FieldPath>{path};
  }
  BV_TRY(items, found->items());
  for (const JsonPlace& item : items) {
    BV_TRY(path, parse_field(item));
    out.push_back(path);
  }
  return out;
}

}  // namespace bv::family
