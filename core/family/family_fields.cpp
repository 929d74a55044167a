#include "core/family/family_fields.hpp"

#include <algorithm>

#include "core/base/text.hpp"

namespace bv::family {
namespace {

constexpr std::string_view kAsStored = "as_stored";

}  // namespace

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

Status parse_class_facts(const JsonPlace& top, Family& out) {
  BV_TRY(moves, top.boolean_or("peft_moves_experts", false));
  out.peft_moves_experts = moves;
  if (const auto stacks = top.find("peft_stacks")) {
    BV_TRY(word, stacks->text());
    if (word != kAsStored) {
      return stacks->error("this way of taking stacks is not known", escaped(word),
                           std::string(kAsStored));
    }
    out.stacks_unmarked = true;
  }
  const auto renamed = top.find("class_modules");
  if (!renamed) {
    return Done{};
  }
  BV_TRY(pairs, renamed->members());
  for (const auto& [in_file, in_class] : pairs) {
    BV_TRY(text, in_class.text());
    out.class_modules.emplace_back(in_file, text);
  }
  // "a.gate" is told before "a": the longest name that fits is the one that is meant.
  std::stable_sort(out.class_modules.begin(), out.class_modules.end(),
                   [](const auto& x, const auto& y) { return x.first.size() > y.first.size(); });
  return Done{};
}

}  // namespace bv::family
