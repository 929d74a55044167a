#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/base/text.hpp"
#include "core/family/family_fields.hpp"
#include "core/family/family_parts.hpp"

namespace bv::family {
namespace {

Result<LayerSchedule> parse_schedule(const JsonPlace& place) {
  BV_CHECK(place.only({"every", "after", "after_default", "after_least"}));
  LayerSchedule out;
  BV_TRY(every, place.at("every"));
  BV_TRY(every_path, parse_field(every));
  BV_TRY(after, field_or_none(place, "after"));
  BV_TRY(after_default, number_or(place, "after_default", 0));
  BV_TRY(after_least, number_or(place, "after_least", 0));
  out.after_least = after_least;
  out.every = every_path;
  out.after = after;
  out.after_default = after_default;
  return out;
}

/// A list may say in one way what holds without it, numbers of layers by a schedule, which may also
/// stand alone. Edges are stated alone, and beside each other.
Result<LayerFlag> one_way(const JsonPlace& place, const LayerFlag& flag) {
  const bool listed = !flag.lists.empty();
  const int without =
      (flag.below.empty() ? 0 : 1) + (flag.interval.path.empty() ? 0 : 1) + (flag.schedule ? 1 : 0);
  const bool edges = !flag.below.empty() || !flag.from.empty();
  const bool indexed = !flag.indices.path.empty();
  const bool scheduled = without == 1 && flag.schedule.has_value();
  const bool right = indexed  ? !listed && (without == 0 || scheduled)
                     : listed ? without <= 1 && flag.from.empty()
                     : edges  ? !flag.schedule
                              : scheduled;
  if (!right) {
    return place.error(
        "a layer flag is stated in one way",
        counted((listed ? 1 : 0) + without + (indexed ? 1 : 0), "way"),
        "\"list\", \"indices\", \"schedule\" or edges (\"below\", \"from\", \"interval\"); beside "
        "\"list\", one of \"interval\", \"below\" and \"schedule\"");
  }
  return flag;
}

constexpr std::array<std::pair<std::string_view, Stage>, 6> kStages = {{
    {"embedding", Stage::Embedding},
    {"decoder", Stage::Decoder},
    {"final_norm", Stage::FinalNorm},
    {"output", Stage::Output},
    {"mtp", Stage::Mtp},
    {"vision", Stage::Vision},
}};

}  // namespace

Result<Stage> parse_stage(const JsonPlace& place) {
  BV_TRY(text, place.text());
  const auto known = std::find_if(kStages.begin(), kStages.end(),
                                  [&](const auto& row) { return row.first == text; });
  if (known == kStages.end()) {
    return place.error("this stage is not known", escaped(text),
                       "embedding, decoder, final_norm, output, mtp or vision");
  }
  return known->second;
}

Result<LayerFlag> parse_layer_flag(const std::string& name, const JsonPlace& place) {
  BV_CHECK(
      place.only({"list", "equals", "others", "interval", "interval_default", "below", "schedule",
                  "indices", "step", "entry", "behind", "from", "not_last", "words"}));
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
  BV_TRY(entry, place.text_or("entry", ""));
  flag.entry = entry;
  BV_TRY(behind, place.text_or("behind", ""));
  BV_TRY(from, place.text_or("from", ""));
  flag.behind = behind;
  flag.from = from;
  BV_TRY(not_last, place.boolean_or("not_last", false));
  flag.not_last = not_last;
  BV_TRY(words, place.texts_or_none("words"));
  flag.words = words;
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

Result<LayerSize> parse_layer_size(const JsonPlace& place) {
  BV_CHECK(place.only({"symbol", "list", "entry", "millionths", "value", "when"}));
  LayerSize out;
  BV_TRY(symbol, place.at("symbol"));
  BV_TRY(name, symbol.text());
  BV_TRY(list, field_or_none(place, "list"));
  BV_TRY(entry, place.text_or("entry", ""));
  BV_TRY(millionths, place.boolean_or("millionths", false));
  BV_TRY(value, place.text_or("value", list.path.empty() ? "" : "entry"));
  BV_TRY(when, place.texts_or_none("when"));
  out.symbol = name;
  out.list = list;
  out.entry = entry;
  out.millionths = millionths;
  out.value = value;
  out.when = when;
  out.source = fmt::format("{}: layer size {}", place.file(), name);
  if (value.empty() || (list.path.empty() && when.empty())) {
    return place.error("a layer size comes from a list, or holds under a condition",
                       value.empty() ? "no value" : "neither list nor when",
                       "\"list\", or \"when\" and \"value\"");
  }
  return out;
}

Result<Inner> parse_inner(const JsonPlace& place) {
  Inner out;
  BV_TRY(members, place.members());
  for (const auto& [name, value] : members) {
    if (name == "words") {
      BV_TRY(words, value.texts());
      out.words = words;
    } else if (name.size() == 1 && out.variable.empty()) {
      BV_TRY(lists, fields_or_none(place, name));
      out.variable = name;
      out.lists = lists;
    } else {
      return place.error("\"inner\" holds one variable of one letter, and words", name,
                         "for example {\"j\": \"mtp_layer_types\", \"words\": [\"attention\"]}");
    }
  }
  if (out.variable.empty()) {
    return place.error("\"inner\" has no variable", "none", "one of one letter");
  }
  return out;
}

Result<StoredModule> parse_stored_module(const JsonPlace& place) {
  BV_CHECK(place.only({"module", "stored", "when"}));
  StoredModule out;
  for (const auto& [key, name] : {std::pair{"module", &out.module}, {"stored", &out.stored}}) {
    BV_TRY(value, place.at(key));
    BV_TRY(text, value.text());
    if (text.empty() || text.find('.') != std::string::npos) {
      return value.error("this is not the name of one module", escaped(text),
                         "a name without dots, for example \"self_attention\"");
    }
    *name = text;
  }
  BV_TRY(when, place.texts_or_none("when"));
  out.when = when;
  return out;
}

Status parse_own_keys(const JsonPlace& section, Section& out) {
  const auto place = section.find("own_keys");
  if (!place) {
    return Done{};
  }
  if (place->node().is_boolean()) {
    BV_TRY(always, place->boolean());
    out.own_keys = always;
    return Done{};
  }
  BV_TRY(when, place->texts());
  out.own_keys = true;
  out.own_keys_when = when;
  return Done{};
}

}  // namespace bv::family
