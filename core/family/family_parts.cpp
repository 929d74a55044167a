#include "core/family/family_parts.hpp"

#include <fmt/format.h>

#include "core/base/text.hpp"
#include "core/family/family_fields.hpp"

namespace bv::family {
namespace {

/// A number or an expression, as expression text.
Result<std::optional<std::string>> expression_or_none(const JsonPlace& place,
                                                      std::string_view key) {
  const auto found = place.find(key);
  if (!found) {
    return std::optional<std::string>();
  }
  if (found->node().is_boolean()) {
    return std::optional<std::string>(found->node().get<bool>() ? "1" : "0");
  }
  if (found->node().is_string()) {
    BV_TRY(text, found->text());
    return std::optional<std::string>(text);
  }
  BV_TRY(number, found->number());
  return std::optional<std::string>(std::to_string(number));
}

/// "null": true is "as if absent"; else what an explicit null stands for.
Result<std::optional<std::string>> null_of(const JsonPlace& place) {
  const auto found = place.find("null");
  if (found && found->node().is_boolean()) {
    return found->node().get<bool>() ? std::optional<std::string>("") : std::nullopt;
  }
  return expression_or_none(place, "null");
}

Status parse_megatron(const JsonPlace& place, Rule& rule) {
  if (place.node().is_string()) {
    BV_TRY(name, place.text());
    rule.megatron = name;
    return Done{};
  }
  BV_CHECK(place.only({"te", "local", "grouped", "sequential"}));
  const bool experts = place.find("grouped").has_value();
  BV_TRY(usual, place.at(experts ? "grouped" : "te"));
  BV_TRY(other, place.at(experts ? "sequential" : "local"));
  BV_TRY(usual_name, usual.text());
  BV_TRY(other_name, other.text());
  rule.megatron = usual_name;
  (experts ? rule.megatron_sequential : rule.megatron_local) = other_name;
  return Done{};
}

Status parse_hf(const JsonPlace& place, Rule& rule) {
  if (place.node().is_string()) {
    BV_TRY(name, place.text());
    rule.hf.emplace_back("x", name);
    return Done{};
  }
  BV_TRY(members, place.members());
  for (const auto& [source, name_place] : members) {
    BV_TRY(name, name_place.text());
    rule.hf.emplace_back(source, name);
  }
  if (rule.hf.empty()) {
    return place.error("a rule has no HF tensor", "an empty object",
                       "one name for each source of the kind");
  }
  return Done{};
}

Status parse_form(const JsonPlace& place, Rule& rule) {
  if (const auto form = place.find("form")) {
    BV_TRY(members, form->members());
    if (members.size() != 1) {
      return form->error("a rule belongs to one storage form", counted(members.size(), "entry"),
                         "one entry");
    }
    BV_TRY(name, members[0].second.text());
    rule.form_group = members[0].first;
    rule.form = name;
  }
  BV_TRY(orientation, place.text_or("orientation", ""));
  const auto known = orientation_from(orientation);
  if (!known) {
    return place.error("an orientation is out_in or in_out", escaped(orientation),
                       "out_in or in_out");
  }
  rule.orientation = *known;
  if (const auto shapes = place.find("shapes")) {
    BV_TRY(members, shapes->members());
    for (const auto& [source, extents_place] : members) {
      BV_TRY(extents, extents_place.texts());
      rule.shapes[source] = extents;
    }
  }
  return Done{};
}

}  // namespace

Result<SymbolRule> parse_symbol(const std::string& name, const JsonPlace& place) {
  BV_CHECK(place.only({"field", "default", "value", "null", "negative", "probe", "often", "flag",
                       "equals", "min", "max"}));
  SymbolRule symbol;
  symbol.name = name;
  symbol.file = place.file();
  BV_TRY(fields, fields_or_none(place, "field"));
  symbol.fields = fields;
  BV_TRY(default_value, expression_or_none(place, "default"));
  BV_TRY(value, expression_or_none(place, "value"));
  symbol.default_value = default_value;
  symbol.value = value;
  if (symbol.fields.empty() == !symbol.value.has_value()) {
    return place.error("a symbol comes from \"field\" or from \"value\"",
                       symbol.value ? "both" : "neither", "one of them");
  }
  BV_TRY(null_value, null_of(place));
  symbol.null_value = null_value;
  BV_TRY(negative_value, expression_or_none(place, "negative"));
  symbol.negative_value = negative_value;
  BV_TRY(probe, place.text_or("probe", ""));
  BV_TRY(often, place.text_or("often", ""));
  BV_TRY(flag, place.boolean_or("flag", false));
  BV_TRY(equals, place.texts_or_none("equals"));
  BV_TRY(min, number_or(place, "min", flag || !equals.empty() ? 0 : 1));
  BV_TRY(max, number_or(place, "max", symbol.max));
  symbol.probe = probe;
  symbol.often = often;
  symbol.flag = flag;
  symbol.equals = equals;
  symbol.min = min;
  symbol.max = max;
  return symbol;
}

Result<MustRule> parse_must(const JsonPlace& place) {
  BV_CHECK(
      place.only({"field", "equals", "null", "symbol", "at_most", "equal", "divides", "because"}));
  MustRule must;
  BV_TRY(field, field_or_none(place, "field"));
  BV_TRY(symbol, place.text_or("symbol", ""));
  BV_TRY(equal, place.texts_or_none("equal"));
  BV_TRY(divides, place.texts_or_none("divides"));
  BV_TRY(because, place.at("because"));
  BV_TRY(because_text, because.text());
  must.field = field;
  must.symbol = symbol;
  must.equal = equal;
  must.divides = divides;
  must.because = because_text;
  if (!field.path.empty()) {
    BV_TRY(equals, place.at("equals"));
    BV_TRY(wanted, equals.boolean());
    must.equals = wanted;
    BV_TRY(null, place.boolean_or("null", false));
    must.null = null;
  }
  if (!symbol.empty()) {
    BV_TRY(at_most, place.at("at_most"));
    BV_TRY(number, at_most.number());
    must.at_most = number;
  }
  if ((!equal.empty() && equal.size() != 2) || (!divides.empty() && divides.size() != 2)) {
    return place.error("a comparison has two symbols", "another count", "two names");
  }
  return must;
}

Result<ConstraintRule> parse_constraint(const JsonPlace& place) {
  BV_CHECK(place.only({"code", "divisor", "dividend", "either_way", "of", "noun", "when"}));
  ConstraintRule rule;
  Constraint& constraint = rule.constraint;
  std::string divisor;
  for (const auto& [key, slot] : {std::pair{"code", &constraint.code},
                                  {"divisor", &divisor},
                                  {"dividend", &constraint.dividend},
                                  {"noun", &constraint.noun}}) {
    BV_TRY(found, place.at(key));
    BV_TRY(text, found.text());
    *slot = text;
  }
  const auto groups = divisor_from(divisor);
  if (!groups) {
    return place.error("a condition divides by groups of ranks", escaped(divisor),
                       std::string(kDivisorWords));
  }
  constraint.divisor = *groups;
  BV_TRY(of, place.text_or("of", ""));
  BV_TRY(either_way, place.boolean_or("either_way", false));
  BV_TRY(when, place.texts_or_none("when"));
  constraint.of = of;
  constraint.either_way = either_way;
  rule.when = when;
  return rule;
}

Result<Copy> parse_copy(const JsonPlace& place) {
  BV_CHECK(place.only({"copy", "of", "of_tied", "when"}));
  Copy copy;
  BV_TRY(name, place.at("copy"));
  BV_TRY(name_text, name.text());
  BV_TRY(of, place.at("of"));
  BV_TRY(of_text, of.text());
  BV_TRY(of_tied, place.text_or("of_tied", ""));
  BV_TRY(when, place.texts_or_none("when"));
  copy.copy = name_text;
  copy.of = of_text;
  copy.of_tied = of_tied;
  copy.when = when;
  return copy;
}

Result<Unsupported> parse_unsupported(const JsonPlace& place) {
  BV_CHECK(place.only({"glob", "because", "help"}));
  BV_TRY(glob, place.at("glob"));
  BV_TRY(glob_text, glob.text());
  BV_TRY(because, place.at("because"));
  BV_TRY(because_text, because.text());
  BV_TRY(help, place.at("help"));
  BV_TRY(help_text, help.text());
  return Unsupported{glob_text, because_text, help_text};
}

namespace {

Result<CarriedPart> parse_carried_part(const JsonPlace& place) {
  BV_CHECK(place.only({"over", "when", "optional", "tensors"}));
  CarriedPart out;
  BV_TRY(over, place.text_or("over", ""));
  BV_TRY(when, place.texts_or_none("when"));
  BV_TRY(tensors, place.at("tensors"));
  BV_TRY(members, tensors.members());
  out.over = over;
  out.when = when;
  if (const auto optional = place.find("optional")) {
    BV_TRY(yes, optional->boolean());
    out.optional = yes;
  }
  for (const auto& [name, extents_place] : members) {
    BV_TRY(extents, extents_place.texts());
    const bool counts = name.find("{k}") != std::string::npos;
    if (counts == over.empty()) {
      return extents_place.error(
          counts ? "{k} counts nothing here" : "the name is the same for every {k}", escaped(name),
          counts ? "\"over\": how often" : "{k} in the name");
    }
    out.tensors.emplace_back(name, extents);
  }
  return out;
}

}  // namespace

Result<Carried> parse_carried(const JsonPlace& place) {
  BV_CHECK(place.only({"hf", "megatron", "when", "parts"}));
  BV_TRY(when, place.texts_or_none("when"));
  BV_TRY(hf, place.at("hf"));
  BV_TRY(prefixes, hf.texts());
  BV_TRY(megatron, place.at("megatron"));
  BV_TRY(megatron_text, megatron.text());
  const auto is_prefix = [](const std::string& text) {
    return text.ends_with('.') && text.find_first_of("{}") == std::string::npos;
  };
  if (prefixes.empty()) {
    return hf.error("no prefix is listed", "[]", "a list of prefixes");
  }
  for (const std::string& prefix : prefixes) {
    if (!is_prefix(prefix)) {
      return hf.error("this is not a prefix of names", escaped(prefix),
                      "a name with a . behind it");
    }
  }
  if (!is_prefix(megatron_text)) {
    return megatron.error("this is not a prefix of names", escaped(megatron_text),
                          "a name with a . behind it");
  }
  Carried out{prefixes, megatron_text, when};
  if (const auto parts = place.find("parts")) {
    BV_TRY(items, parts->items());
    for (const JsonPlace& item : items) {
      BV_TRY(part, parse_carried_part(item));
      out.parts.push_back(std::move(part));
    }
  }
  return out;
}

Result<StatedFacts> parse_stated_facts(const JsonPlace& place) {
  BV_CHECK(place.only({"computes_like", "layernorm_zero_centered_gamma", "renamed"}));
  StatedFacts out;
  BV_TRY(like, place.at("computes_like"));
  BV_TRY(like_text, like.text());
  out.computes_like = like_text;
  if (const auto gamma = place.find("layernorm_zero_centered_gamma")) {
    BV_TRY(yes, gamma->boolean());
    out.zero_centered_gamma = yes;
  }
  if (const auto renamed = place.find("renamed")) {
    BV_TRY(members, renamed->members());
    for (const auto& [here, there_place] : members) {
      BV_TRY(there, there_place.text());
      if (here.empty() || there.empty()) {
        return there_place.error("a renamed part is empty", "\"\"", "part of a tensor's name");
      }
      out.renamed.emplace_back(here, there);
    }
  }
  return out;
}

Result<std::pair<std::string, std::string>> parse_over(const JsonPlace& place) {
  BV_TRY(members, place.members());
  if (members.size() != 1 || members[0].first.size() != 1) {
    return place.error("\"over\" holds one variable of one letter",
                       counted(members.size(), "entry"),
                       "for example {\"i\": \"num_hidden_layers\"}");
  }
  BV_TRY(count, members[0].second.text());
  return std::pair{members[0].first, count};
}

Status parse_experts(const JsonPlace& place, Rule& rule) {
  if (const auto over = place.find("over")) {
    BV_TRY(variable, parse_over(*over));
    if (variable.first != "e") {
      return over->error("a rule repeats over experts only", variable.first, "\"e\"");
    }
    rule.per_expert = true;
    rule.experts = variable.second;
  }
  return Done{};
}

Result<Rule> parse_rule(const JsonPlace& place) {
  BV_CHECK(
      place.only({"kind", "megatron", "hf", "axes", "rest", "when", "expert", "vocabulary", "value",
                  "keep_float32", "as_in_hf", "form", "orientation", "shapes", "over"}));
  Rule rule;
  BV_TRY(kind, place.at("kind"));
  BV_TRY(kind_text, kind.text());
  rule.kind = kind_text;
  BV_TRY(megatron, place.at("megatron"));
  BV_CHECK(parse_megatron(megatron, rule));
  BV_TRY(hf, place.at("hf"));
  BV_CHECK(parse_hf(hf, rule));
  if (const auto axes = place.find("axes")) {
    BV_TRY(members, axes->members());
    for (const auto& [axis, size_place] : members) {
      BV_TRY(size, size_place.text());
      rule.axes[axis] = size;
    }
  }
  BV_TRY(rest, place.texts_or_none("rest"));
  BV_TRY(when, place.texts_or_none("when"));
  BV_TRY(expert, place.boolean_or("expert", false));
  BV_TRY(vocabulary, place.boolean_or("vocabulary", false));
  BV_TRY(value, place.text_or("value", ""));
  BV_TRY(keep_float32, place.boolean_or("keep_float32", false));
  BV_TRY(as_in_hf, place.boolean_or("as_in_hf", false));
  rule.rest = rest;
  rule.when = when;
  rule.expert = expert;
  rule.vocabulary = vocabulary;
  const auto steps = value_rule_from(value);
  if (!steps) {
    return place.error("this value rule is not known", escaped(value), std::string(kValueWords));
  }
  rule.value = *steps;
  rule.keep_float32 = keep_float32;
  rule.as_in_hf = as_in_hf;
  BV_CHECK(parse_form(place, rule));
  BV_CHECK(parse_experts(place, rule));
  if (const auto stacked = rule.axes.find("E"); !rule.per_expert && stacked != rule.axes.end()) {
    rule.experts = stacked->second;
  }
  return rule;
}

}  // namespace bv::family
