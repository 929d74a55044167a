#include "reports/family_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/json_text.hpp"
#include "core/base/text.hpp"
#include "reports/printable.hpp"
#include "reports/wrap.hpp"

namespace bv::reports {
namespace {

using Json = nlohmann::ordered_json;

std::vector<std::string> printable_all(const std::vector<std::string>& texts,
                                       const TextStyle& style) {
  std::vector<std::string> out;
  out.reserve(texts.size());
  for (const std::string& text : texts) {
    out.push_back(printable(text, style.ascii));
  }
  return out;
}

Json head_json(const FamilyReport& family) {
  return {{"name", family.name},
          {"architectures", family.architectures},
          {"model_types", family.model_types}};
}

}  // namespace

std::string families_text(const std::vector<FamilyReport>& families, const TextStyle& style) {
  std::size_t names = 0;
  for (const FamilyReport& family : families) {
    names = std::max(names, printable(family.name, style.ascii).size());
  }
  std::string out;
  for (const FamilyReport& family : families) {
    const std::string head = fmt::format("{:<{}} {:>9}  ", printable(family.name, style.ascii),
                                         names, counted(family.rules.size(), "rule"));
    out += head +
           flowed(printable_all(family.architectures, style), " ", head.size(),
                  static_cast<std::size_t>(style.width)) +
           "\n";
  }
  return out;
}

std::string families_json(const std::vector<FamilyReport>& families) {
  Json out = Json::array();
  for (const FamilyReport& family : families) {
    Json row = head_json(family);
    row["rules"] = family.rules.size();
    out.push_back(std::move(row));
  }
  return json_text(out, 2) + "\n";
}

std::string family_text(const FamilyReport& family, const TextStyle& style) {
  const auto width = static_cast<std::size_t>(style.width);
  const auto safe = [&style](std::string_view text) { return printable(text, style.ascii); };
  std::string out = safe(family.name) + "\n" + wrapped(safe(family.doc), 0, "", width) + "\n";
  out +=
      "architectures  " + flowed(printable_all(family.architectures, style), " ", 15, width) + "\n";
  out +=
      "model types    " + flowed(printable_all(family.model_types, style), " ", 15, width) + "\n\n";
  for (const FamilyRule& rule : family.rules) {
    std::vector<std::string> sources;
    for (const auto& [source, name] : rule.hf) {
      sources.push_back(safe(name));
    }
    out += fmt::format("{:<4} {:<14} {}\n", rule.id, safe(rule.kind), safe(rule.megatron));
    out += fmt::format("{:20}<- {}\n", "", flowed(sources, ", ", 23, width));
    if (!rule.when.empty()) {
      out += fmt::format("{:20}when {}\n", "",
                         flowed(printable_all(rule.when, style), ", ", 25, width));
    }
  }
  return out;
}

std::string family_json(const FamilyReport& family) {
  Json rules = Json::array();
  for (const FamilyRule& rule : family.rules) {
    Json sources = Json::object();
    for (const auto& [source, name] : rule.hf) {
      sources[source] = name;
    }
    rules.push_back({{"id", rule.id},
                     {"kind", rule.kind},
                     {"megatron", rule.megatron},
                     {"hf", std::move(sources)},
                     {"when", rule.when}});
  }
  Json out = head_json(family);
  out["rules"] = std::move(rules);
  return json_text(out, 2) + "\n";
}

}  // namespace bv::reports
