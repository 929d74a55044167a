#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/json_text.hpp"
#include "core/base/text.hpp"
#include "reports/machine_formats.hpp"
#include "reports/test_cases.hpp"

namespace bv::reports {
namespace {

using CtrfJson = nlohmann::ordered_json;

/// Milliseconds since 1970 of "2026-01-01T00:00:00Z"; 0 for anything else.
std::int64_t epoch_milliseconds(const std::string& time) {
  int year = 0;
  unsigned month = 0, day = 0, hour = 0, minute = 0, second = 0;
  if (std::sscanf(time.c_str(), "%4d-%2u-%2uT%2u:%2u:%2u", &year, &month, &day, &hour, &minute,
                  &second) != 6) {
    return 0;
  }
  const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(month),
                                         std::chrono::day(day)};
  if (!date.ok()) {
    return 0;
  }
  const auto days = std::chrono::sys_days(date).time_since_epoch().count();
  return (std::int64_t{days} * 86400 + std::int64_t{hour} * 3600 + std::int64_t{minute} * 60 +
          second) *
         1000;
}

const char* ctrf_status(TestCase::Status status) {
  switch (status) {
    case TestCase::Status::Passed:
      return "passed";
    case TestCase::Status::Failed:
    case TestCase::Status::Error:
      return "failed";
    case TestCase::Status::Undecided:
      return "other";
    case TestCase::Status::Skipped:
      break;
  }
  return "skipped";
}

CtrfJson ctrf_parameters(const std::string& layout, const Run& run) {
  for (const LayoutRow& row : run.layouts) {
    if (row.id == layout) {
      return {{"layout", row.id}, {"tp", row.tp},   {"pp", row.pp},
              {"ep", row.ep},     {"etp", row.etp}, {"vpp", row.vpp}};
    }
  }
  return {{"layout", layout}};
}

CtrfJson ctrf_test(const TestCase& one, const Run& run) {
  CtrfJson suite = {run.model_ref.empty() ? "bridge-verify" : readable(run.model_ref), one.suite};
  if (!one.layout.empty()) {
    suite.push_back(readable(one.layout));
  }
  CtrfJson out = {{"name", readable(one.name)},
                  {"status", ctrf_status(one.status)},
                  {"duration", 0},
                  {"suite", std::move(suite)},
                  {"rawStatus", one.outcome}};
  const auto add = [&out](const char* key, const std::string& text) {
    if (!text.empty()) {
      out[key] = text;
    }
  };
  add("message", readable(one.message));
  add("trace", one.body);
  add("filePath", readable(one.source_file));
  if (one.source_line > 0) {
    out["line"] = one.source_line;
  }
  if (!one.code.empty()) {
    out["tags"] = {one.code};
  }
  if (!one.kind.empty() || !one.evidence.empty()) {
    out["labels"] = {{"kind", readable(one.kind)}, {"evidence", one.evidence}};
  }
  if (!one.layout.empty()) {
    out["parameters"] = ctrf_parameters(one.layout, run);
  }
  out["extra"] = {{"bridge-verify", {{"id", readable(one.id)}, {"replay", readable(one.replay)}}}};
  return out;
}

}  // namespace

std::string render_ctrf(const Run& run, const TextStyle&) {
  CtrfJson tests = CtrfJson::array();
  std::map<std::string, std::int64_t> counts;
  std::set<std::string> suites;
  for (const TestCase& one : test_cases(run)) {
    ++counts[ctrf_status(one.status)];
    suites.insert(one.suite);
    tests.push_back(ctrf_test(one, run));
  }
  const std::int64_t start = epoch_milliseconds(run.started);
  const auto duration = static_cast<std::int64_t>(std::max(run.seconds, 0.0) * 1000);
  const CtrfJson summary = {{"tests", tests.size()},
                            {"passed", counts["passed"]},
                            {"failed", counts["failed"]},
                            {"skipped", counts["skipped"]},
                            {"pending", 0},
                            {"other", counts["other"]},
                            {"suites", suites.size()},
                            {"start", start},
                            {"stop", start + duration},
                            {"duration", duration}};
  const Conclusion conclusion = conclude(run);
  const CtrfJson out = {
      {"reportFormat", "CTRF"},
      {"specVersion", "1.0.0"},
      {"generatedBy", "bridge-verify"},
      {"results",
       {{"tool", {{"name", "bridge-verify"}, {"version", run.tool.version}}},
        {"summary", summary},
        {"tests", std::move(tests)},
        {"environment",
         {{"appName", readable(run.model_ref)},
          {"appVersion", readable(run.revision)},
          {"healthy", conclusion.exit_code == 0},
          {"extra", {{"result", conclusion.word}, {"rules_digest", run.rules_digest}}}}}}}};
  return json_text(out, 2) + "\n";
}

}  // namespace bv::reports
