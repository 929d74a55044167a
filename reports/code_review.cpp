// Findings beside the lines of a change: workflow commands of GitHub, code quality of GitLab.

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>

#include "core/base/json_text.hpp"
#include "core/base/text.hpp"
#include "reports/escape.hpp"
#include "reports/findings.hpp"
#include "reports/machine_formats.hpp"

namespace bv::reports {
namespace {

using QualityJson = nlohmann::ordered_json;

constexpr std::size_t kAnnotationsMax = 9;  // GitHub shows ten of a kind
constexpr std::size_t kAnnotationBytesMax = 3000;

std::string_view command_of(Level level) {
  return level == Level::Error ? "error" : level == Level::Warning ? "warning" : "notice";
}

std::string annotation(const Finding& finding) {
  std::string place;
  if (!finding.source.file.empty()) {
    place = fmt::format("file={},line={},", github_escaped(readable(finding.source.file), true),
                        finding.source.line > 0 ? finding.source.line : 1);
  }
  return fmt::format("::{} {}title={}::{}\n", command_of(finding.level), place,
                     github_escaped(finding.code + " " + finding.name, true),
                     github_escaped(block_text(finding.block, kAnnotationBytesMax), false));
}

}  // namespace

std::string render_github(const Run& run, const TextStyle&) {
  const std::vector<Finding> all = findings(run);
  std::string out;
  for (const Level level : {Level::Error, Level::Warning, Level::Note}) {
    std::size_t met = 0;
    for (const Finding& finding : all) {
      if (finding.level == level && ++met <= kAnnotationsMax) {
        out += annotation(finding);
      }
    }
    if (met > kAnnotationsMax) {
      out += fmt::format(
          "::{} title=bridge-verify::{} more; the job summary and verdicts.json list "
          "them\n",
          command_of(level), met - kAnnotationsMax);
    }
  }
  return out + github_escaped("bridge-verify " + headline(run), false) + "\n";
}

std::string render_gitlab(const Run& run, const TextStyle&) {
  QualityJson out = QualityJson::array();
  std::set<std::string> taken;
  for (const Finding& finding : findings(run)) {
    std::string print = finding.fingerprint;
    for (int again = 2; !taken.insert(print).second; ++again) {
      print = fmt::format("{}{}", finding.fingerprint, again);
    }
    const bool broken =
        !finding.verdicts.empty() && finding.verdicts.front()->outcome == Outcome::Broken;
    out.push_back({{"description", fmt::format("{}: {}", finding.code, readable(finding.title))},
                   {"check_name", finding.code},
                   {"fingerprint", print},
                   {"severity", broken                            ? "blocker"
                                : finding.level == Level::Error   ? "critical"
                                : finding.level == Level::Warning ? "minor"
                                                                  : "info"},
                   {"location",
                    {{"path", finding.source.file.empty() ? "bridge-verify.toml"
                                                          : readable(finding.source.file)},
                     {"lines", {{"begin", finding.source.line > 0 ? finding.source.line : 1}}}}}});
  }
  return json_text(out, 2) + "\n";
}

}  // namespace bv::reports
