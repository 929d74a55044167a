#include "core/verdict/certificate.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <set>
#include <utility>

namespace bv {
namespace {

/// Options that take nothing away from what a run looked at. Every other one, and every one to
/// come, makes a run that is no certificate.
constexpr std::array<std::string_view, 32> kHarmless = {"model",
                                                        "revision",
                                                        "family",
                                                        "families",
                                                        "rules",
                                                        "layouts",
                                                        "max-ranks",
                                                        "level",
                                                        "strict",
                                                        "fail-on",
                                                        "follow-links",
                                                        "transformer-impl",
                                                        "out",
                                                        "report",
                                                        "format",
                                                        "json",
                                                        "plain",
                                                        "ci",
                                                        "baseline",
                                                        "quiet",
                                                        "verbose",
                                                        "color",
                                                        "ascii",
                                                        "progress",
                                                        "jobs",
                                                        "device",
                                                        "seed",
                                                        "timeout",
                                                        "mem-limit",
                                                        "overwrite",
                                                        "moe-grouped-gemm",
                                                        "no-moe-grouped-gemm"};
constexpr std::array<std::string_view, 6> kMustPass = {"names",   "shapes",    "coverage",
                                                       "inverse", "placement", "bytes"};

bool said(const Run& run, std::string_view name, std::string_view text) {
  return std::any_of(run.settings.begin(), run.settings.end(),
                     [&](const SettingRow& row) { return row.name == name && row.text == text; });
}

void check_settings(const Run& run, std::vector<std::string>& gaps) {
  for (const SettingRow& row : run.settings) {
    if (std::find(kHarmless.begin(), kHarmless.end(), row.name) == kHarmless.end()) {
      gaps.push_back("--" + row.name + (row.text.empty() ? "" : " " + row.text) +
                     " may limit what was looked at");
    }
    if (row.name == "max-ranks" && std::strtol(row.text.c_str(), nullptr, 10) < 8) {
      gaps.push_back("--max-ranks " + row.text + " leaves layouts out; 8 is the least");
    }
  }
  if (!said(run, "layouts", "all")) {
    gaps.emplace_back("not every layout was looked at: --layouts all is missing");
  }
  if (run.fail_on == FailOn::Refuted) {
    gaps.emplace_back("--fail-on refuted lets undecided verdicts through");
  }
}

void check_claims(const Run& run, std::vector<std::string>& gaps) {
  for (const std::string_view claim : kMustPass) {
    const ClaimResult result = result_of(run, claim);
    std::int64_t cases = 0;
    for (const Verdict& verdict : run.verdicts) {
      cases += verdict.claim == claim ? verdict.cases : 0;
    }
    if (!result.checked || cases == 0) {
      gaps.push_back("claim " + std::string(claim) + " has no case");
    } else if (claim == "bytes" ? !result.all.bytes : !result.all.proved && !result.all.bytes) {
      gaps.push_back("claim " + std::string(claim) + " is not known by proof or by bytes");
    }
  }
}

/// Every layout of the run has a verdict of each claim that stands on layouts.
void check_layouts(const Run& run, std::vector<std::string>& gaps) {
  constexpr std::array<std::string_view, 3> kOnLayouts = {"inverse", "placement", "bytes"};
  std::set<std::pair<std::string_view, std::string_view>> judged;
  for (const Verdict& verdict : run.verdicts) {
    judged.emplace(verdict.claim, verdict.layout);
  }
  if (run.layouts.empty()) {
    gaps.emplace_back("no layout was looked at");
  }
  for (const std::string_view claim : kOnLayouts) {
    for (const LayoutRow& row : run.layouts) {
      if (!judged.contains({claim, row.id})) {
        gaps.push_back("claim " + std::string(claim) + " says nothing of layout " + row.id);
        break;
      }
    }
  }
}

}  // namespace

std::string fact_of(const Run& run, std::string_view what) {
  const auto found = std::find_if(run.detected.begin(), run.detected.end(),
                                  [what](const Fact& fact) { return fact.what == what; });
  return found == run.detected.end() ? "" : found->value;
}

std::vector<std::string> certificate_gaps(const Run& run) {
  std::vector<std::string> gaps;
  const Conclusion conclusion = conclude(run);
  if (conclusion.word != "PASS") {
    gaps.push_back("the run ended as " + conclusion.word);
  }
  if (run.partial || run.allow_partial) {
    gaps.emplace_back("the run is, or may be, partial");
  }
  check_settings(run, gaps);
  check_claims(run, gaps);
  check_layouts(run, gaps);
  if (run.header_digest.empty() || fact_of(run, kContentsFact).empty() ||
      fact_of(run, kConfigFact).empty()) {
    gaps.emplace_back("nothing says of which weights and of which config.json it speaks");
  }
  return gaps;
}

}  // namespace bv
