#include "core/base/text.hpp"
#include "core/family/family_fields.hpp"
#include "core/family/family_parts.hpp"

namespace bv::family {
namespace {

Result<LayerSchedule> parse_schedule(const JsonPlace& place) {
  BV_CHECK(place.only({"every", "after", "after_default"}));
  LayerSchedule out;
  BV_TRY(every, place.at("every"));
  BV_TRY(every_path, parse_field(every));
  BV_TRY(after, field_or_none(place, "after"));
  BV_TRY(after_default, number_or(place, "after_default", 0));
  out.every = every_path;
  out.after = after;
  out.after_default = after_default;
  return out;
}

/// A list may say in one way what holds without it; so may nothing else.
Result<LayerFlag> one_way(const JsonPlace& place, const LayerFlag& flag) {
  const bool listed = !flag.lists.empty();
  const int without =
      (flag.below.empty() ? 0 : 1) + (flag.interval.path.empty() ? 0 : 1) + (flag.schedule ? 1 : 0);
  const bool indexed = !flag.indices.path.empty();
  const bool right = indexed  ? !listed && without == 0
                     : listed ? without <= 1
                              : without == 1 && !flag.below.empty();
  if (!right) {
    return place.error("a layer flag is stated in one way",
                       counted((listed ? 1 : 0) + without + (indexed ? 1 : 0), "way"),
                       "\"list\", \"below\" or \"indices\"; beside \"list\", one of "
                       "\"interval\", \"below\" and \"schedule\"");
  }
  return flag;
}

}  // namespace

Result<LayerFlag> parse_layer_flag(const std::string& name, const JsonPlace& place) {
  BV_CHECK(place.only({"list", "equals", "others", "interval", "interval_default", "below",
                       "schedule", "indices", "step"}));
  LayerFlag flag;
  flag.name = name;
  BV_TRY(lists, fields_or_none(place, "list"));
  BV_TRY(equals, place.texts_or_none("equals"));
  BV_TRY(others, place.texts_or_none("others"));
  BV_TRY(interval, field_or_none(place, "interval"));
  BV_TRY(interval_default, number_or(place, "interval_default", 0));
  BV_TRY(below, place.text_or("below", ""));
  BV_TRY(indices, field_or_none(place, "indices"));
  BV_TRY(step, field_or_none(place, "step"));
  flag.lists = lists;
  flag.equals = equals;
  flag.others = others;
  flag.interval = interval;
  flag.interval_default = interval_default;
  flag.below = below;
  flag.indices = indices;
  flag.step = step;
  if (const auto schedule = place.find("schedule")) {
    BV_TRY(stated, parse_schedule(*schedule));
    flag.schedule = stated;
  }
  return one_way(place, flag);
}

Result<std::vector<std::pair<std::string, std::string>>> parse_class_modules(const JsonPlace& top) {
  std::vector<std::pair<std::string, std::string>> out;
  if (const auto renamed = top.find("class_modules")) {
    BV_TRY(pairs, renamed->members());
    for (const auto& [in_file, in_class] : pairs) {
      BV_TRY(text, in_class.text());
      out.emplace_back(in_file, text);
    }
  }
  return out;
}

}  // namespace bv::family
