// Rows of what one side alone has: they make no parameter, and say why.

#include "core/base/text.hpp"
#include "core/family/family_fields.hpp"
#include "core/family/family_parts.hpp"

namespace bv::family {
namespace {

constexpr std::string_view kNoPlace = "no_place";    // an HF tensor without a Megatron parameter
constexpr std::string_view kNoSource = "no_source";  // a Megatron parameter without an HF tensor

std::string kind_of(const JsonPlace& place) {
  const auto kind = place.find("kind");
  return kind && kind->node().is_string() ? kind->node().get<std::string>() : std::string();
}

}  // namespace

bool is_one_sided(const JsonPlace& place) {
  const std::string kind = kind_of(place);
  return kind == kNoPlace || kind == kNoSource || kind == kUnread;
}

Result<OneSided> parse_one_sided(const JsonPlace& place) {
  BV_CHECK(place.only({"kind", "megatron", "hf", "when", "over", "because"}));
  Rule rule;
  rule.kind = kind_of(place);
  BV_TRY(megatron, place.text_or("megatron", ""));
  BV_TRY(hf, place.at("hf"));
  BV_TRY(hf_text, hf.text());
  BV_TRY(when, place.texts_or_none("when"));
  BV_TRY(because, place.at("because"));
  BV_TRY(because_text, because.text());
  if (megatron.empty() != (rule.kind != kNoSource)) {
    return place.error("a row of one side names what has no counterpart",
                       megatron.empty() ? "no Megatron name" : escaped(megatron),
                       megatron.empty()
                           ? "the Megatron parameter, and the HF name that would fill it"
                           : "the HF name alone");
  }
  if (when.empty()) {
    return place.error("a row of one side has no condition", "none",
                       "\"when\": the symbols or layer flags under which a model has it");
  }
  if (because_text.empty()) {
    return because.error("a row of one side gives no reason", "\"\"", "a sentence");
  }
  rule.megatron = megatron;
  rule.hf.emplace_back("x", hf_text);
  rule.when = when;
  BV_CHECK(parse_experts(place, rule));
  return OneSided{std::move(rule), because_text};
}

namespace {

Result<Ignored> parse_ignored(const JsonPlace& place, std::string_view usual) {
  if (place.node().is_string()) {
    BV_TRY(text, place.text());
    return Ignored{.glob = text, .because = std::string(usual)};
  }
  BV_CHECK(place.only({"glob", "ndim", "because", "mtp"}));
  BV_TRY(glob, place.at("glob"));
  BV_TRY(glob_text, glob.text());
  BV_TRY(ndim, number_or(place, "ndim", -1));
  BV_TRY(because, place.text_or("because", std::string(usual)));
  BV_TRY(mtp, place.text_or("mtp", ""));
  return Ignored{glob_text, ndim, because, mtp};
}

}  // namespace

Status add_ignored(const JsonPlace& place, std::string_view usual, std::vector<Ignored>& out) {
  const auto list = place.find("ignore_hf");
  if (!list) {
    return Done{};
  }
  BV_TRY(items, list->items());
  for (const JsonPlace& item : items) {
    BV_TRY(one, parse_ignored(item, usual));
    out.push_back(std::move(one));
  }
  return Done{};
}

std::vector<StageStart> stage_starts(const Family& family) {
  std::vector<StageStart> out;
  for (const Section& section : family.sections) {
    out.insert(out.end(), section.stage_starts.begin(), section.stage_starts.end());
  }
  return out;
}

Result<StageStart> parse_stage_start(const JsonPlace& place) {
  BV_CHECK(place.only({"flag", "noun", "because"}));
  StageStart out;
  for (const auto& [key, slot] :
       {std::pair{"flag", &out.flag}, {"noun", &out.noun}, {"because", &out.because}}) {
    BV_TRY(found, place.at(key));
    BV_TRY(text, found.text());
    *slot = text;
  }
  return out;
}

}  // namespace bv::family
