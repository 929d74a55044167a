#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>

#include "core/base/json_text.hpp"
#include "core/base/text.hpp"
#include "reports/escape.hpp"
#include "reports/findings.hpp"
#include "reports/machine_formats.hpp"

namespace bv::reports {
namespace {

using SarifJson = nlohmann::ordered_json;

constexpr std::size_t kResultsMax = 5000;
constexpr std::size_t kMessageMax = 4000;

std::string_view level_name(Level level) {
  return level == Level::Error ? "error" : level == Level::Warning ? "warning" : "note";
}

/// The rule of a code; words of a conclusion have no page.
SarifJson sarif_rule(const Finding& finding) {
  SarifJson out = {{"id", finding.code},
                   {"shortDescription", {{"text", finding.name + "."}}},
                   {"defaultConfiguration", {{"level", level_name(finding.level)}}},
                   {"properties", {{"tags", {"checkpoint-bridge"}}}}};
  if (const auto code = code_from_text(finding.code)) {
    const CodeInfo& known = info(*code);
    out["name"] = known.name;
    out["fullDescription"] = {{"text", known.text}};
    out["help"] = {{"text", known.text},
                   {"markdown", fmt::format("**{}** {}\n\n{}\n\n`bridge-verify explain {}`",
                                            finding.code, known.title, known.text, finding.code)}};
  }
  return out;
}

SarifJson artifact(const std::string& file) {
  if (file.starts_with('/')) {
    return {{"uri", "file://" + uri_escaped(file)}};
  }
  return {{"uri", uri_escaped(file)}, {"uriBaseId", "SRCROOT"}};
}

SarifJson location(const Finding& finding) {
  const std::string file = finding.source.file.empty() ? "bridge-verify.toml" : finding.source.file;
  SarifJson out = {
      {"physicalLocation",
       {{"artifactLocation", artifact(file)},
        {"region", {{"startLine", finding.source.line > 0 ? finding.source.line : 1}}}}}};
  if (!finding.subject.empty()) {
    out["logicalLocations"] = {
        {{"fullyQualifiedName", readable(finding.subject)}, {"kind", "member"}}};
  }
  return out;
}

std::string sarif_message(const Finding& finding) {
  std::string out = readable(finding.title);
  if (!finding.layouts.empty()) {
    out +=
        fmt::format(" (in {}: {}{})", counted(finding.layouts.size(), "layout"),
                    readable(finding.layouts.front()), finding.layouts.size() > 1 ? ", ..." : "");
  }
  return out + "\n\n" + block_text(finding.block, kMessageMax);
}

SarifJson sarif_result(const Finding& finding, std::size_t rule) {
  SarifJson out = {{"ruleId", finding.code},
                   {"ruleIndex", rule},
                   {"level", level_name(finding.level)},
                   {"message", {{"text", sarif_message(finding)}}},
                   {"locations", {location(finding)}},
                   {"partialFingerprints",
                    {{"primaryLocationLineHash", finding.fingerprint + ":1"},
                     {"bridgeVerify/v1", finding.fingerprint}}},
                   {"properties",
                    {{"claim", finding.claim},
                     {"kind", readable(finding.kind)},
                     {"layouts", finding.layouts},
                     {"replay", readable(finding.replay)}}}};
  if (!finding.waiver.empty()) {
    out["suppressions"] = {{{"kind", "external"}, {"justification", readable(finding.waiver)}}};
  }
  return out;
}

SarifJson provenance(const Run& run) {
  SarifJson out = SarifJson::array();
  if (run.rules_repository.starts_with("http")) {
    out.push_back({{"repositoryUri", readable(run.rules_repository)}});
    if (!run.rules_commit.empty()) {
      out.back()["revisionId"] = readable(run.rules_commit);
    }
  }
  return out;
}

}  // namespace

std::string render_sarif(const Run& run, const TextStyle&) {
  const std::vector<Finding> all = findings(run);
  SarifJson rules = SarifJson::array();
  SarifJson results = SarifJson::array();
  std::map<std::string, std::size_t> place;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const bool last = i + 1 == kResultsMax && all.size() > kResultsMax;
    const auto [at, fresh] = place.try_emplace(all[i].code, rules.size());
    if (fresh) {
      rules.push_back(sarif_rule(all[i]));
    }
    results.push_back(sarif_result(all[i], at->second));
    if (last) {
      results.back()["message"]["text"] = fmt::format(
          "{} more findings are left out; verdicts.json lists them", all.size() - kResultsMax + 1);
      break;
    }
  }
  const Conclusion conclusion = conclude(run);
  SarifJson one = {
      {"tool",
       {{"driver",
         {{"name", run.tool.name.empty() ? "bridge-verify" : run.tool.name},
          {"version", run.tool.version.empty() ? "0.0.0" : run.tool.version},
          {"rules", rules}}}}},
      {"invocations",
       {{{"executionSuccessful", conclusion.word != "BROKEN"},
         {"exitCode", conclusion.exit_code}}}},
      {"columnKind", "unicodeCodePoints"},
      {"originalUriBaseIds",
       {{"SRCROOT", {{"description", {{"text", "the root of the checked repository"}}}}}}},
      {"results", results},
      {"properties", {{"model", readable(run.model_ref)}, {"word", conclusion.word}}}};
  if (SarifJson known = provenance(run); !known.empty()) {
    one["versionControlProvenance"] = std::move(known);
  }
  const SarifJson out = {{"$schema", "https://json.schemastore.org/sarif-2.1.0.json"},
                         {"version", "2.1.0"},
                         {"runs", {one}}};
  return json_text(out, 2) + "\n";
}

}  // namespace bv::reports
