#include "reports/family_report.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "reports/wrap.hpp"

namespace bv::reports {
namespace {

using Json = nlohmann::ordered_json;

Json head_json(const FamilyReport& family) {
  return {{"name", family.name},
          {"architectures", family.architectures},
          {"model_types", family.model_types}};
}

}  // namespace

std::string families_text(const std::vector<FamilyReport>& families, const TextStyle& style) {
  std::size_t names = 0;
  for (const FamilyReport& family : families) {
    names = std::max(names, family.name.size());
  }
  std::string out;
  for (const FamilyReport& family : families) {
    const std::string head =
        fmt::format("{:<{}} {:>9}  ", family.name, names, counted(family.rules.size(), "rule"));
    out += head +
           flowed(family.architectures, " ", head.size(), static_cast<std::size_t>(style.width)) +
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
  return out.dump(2) + "\n";
}

std::string family_text(const FamilyReport& family, const TextStyle& style) {
  const auto width = static_cast<std::size_t>(style.width);
  std::string out = family.name + "\n" + wrapped(family.doc, 0, "", width) + "\n";
  out += "architectures  " + flowed(family.architectures, " ", 15, width) + "\n";
  out += "model types    " + flowed(family.model_types, " ", 15, width) + "\n\n";
  for (const FamilyRule& rule : family.rules) {
    std::vector<std::string> sources;
    for (const auto& [source, name] : rule.hf) {
      sources.push_back(name);
    }
    out += fmt::format("{:<4} {:<14} {}\n", rule.id, rule.kind, rule.megatron);
    out += fmt::format("{:20}<- {}\n", "", flowed(sources, ", ", 23, width));
    if (!rule.when.empty()) {
      out += fmt::format("{:20}when {}\n", "", flowed(rule.when, ", ", 25, width));
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
  return out.dump(2) + "\n";
}

}  // namespace bv::reports
