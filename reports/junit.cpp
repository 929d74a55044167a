#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/base/text.hpp"
#include "reports/escape.hpp"
#include "reports/machine_formats.hpp"
#include "reports/test_cases.hpp"

namespace bv::reports {
namespace {

struct JUnitCounts {
  std::size_t tests = 0, failures = 0, errors = 0, skipped = 0;

  void add(const TestCase& one) {
    ++tests;
    failures += one.status == TestCase::Status::Failed ? 1 : 0;
    errors += one.status == TestCase::Status::Error ? 1 : 0;
    skipped += one.status == TestCase::Status::Skipped || one.status == TestCase::Status::Undecided
                   ? 1
                   : 0;
  }
  [[nodiscard]] std::string text() const {
    return fmt::format("tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\"", tests, failures,
                       errors, skipped);
  }
};

std::string attribute(std::string_view name, std::string_view value) {
  return value.empty() ? "" : fmt::format(" {}=\"{}\"", name, xml_escaped(readable(value)));
}

std::string junit_result(const TestCase& one) {
  const std::string message = attribute("message", one.message);
  switch (one.status) {
    case TestCase::Status::Passed:
      return "";
    case TestCase::Status::Skipped:
    case TestCase::Status::Undecided:
      return fmt::format("      <skipped{}/>\n", message);
    case TestCase::Status::Failed:
    case TestCase::Status::Error:
      break;
  }
  const bool open = one.outcome == "Inconclusive" || one.outcome == "Unsupported";
  const char* tag = one.status == TestCase::Status::Failed ? "failure" : "error";
  return fmt::format("      <{0}{1}{2}>{3}</{0}>\n", tag,
                     attribute("type", open ? one.code + " incomplete" : one.code), message,
                     xml_escaped(one.body));
}

std::string junit_case(const TestCase& one, const std::string& model) {
  std::string out = "    <testcase" + attribute("classname", model + "." + one.suite) +
                    attribute("name", one.name) + attribute("file", one.source_file) +
                    (one.source_line > 0 ? fmt::format(" line=\"{}\"", one.source_line) : "") +
                    " time=\"0\"";
  const std::string result = junit_result(one);
  if (result.empty()) {
    return out + "/>\n";
  }
  out += ">\n" + result;
  if (!one.replay.empty()) {
    out += "      <system-out>" + xml_escaped(one.replay) + "</system-out>\n";
  }
  return out + "    </testcase>\n";
}

std::string junit_properties(const Run& run) {
  std::string out = "    <properties>\n";
  for (const auto& [name, value] : std::initializer_list<std::pair<const char*, std::string>>{
           {"model", run.model_ref},
           {"revision", run.revision},
           {"rules", run.family},
           {"rules_digest", run.rules_digest},
           {"seed", std::to_string(run.seed)},
           {"version", run.tool.version},
           {"result", conclude(run).word}}) {
    out += "      <property" + attribute("name", name) +
           fmt::format(" value=\"{}\"/>\n", xml_escaped(readable(value)));
  }
  return out + "    </properties>\n";
}

}  // namespace

std::string render_junit(const Run& run, const TextStyle&) {
  const std::vector<TestCase> cases = test_cases(run);
  const std::string model = run.model_ref.empty() ? "bridge-verify" : run.model_ref;
  std::vector<std::string> suites;
  std::map<std::string, JUnitCounts> counts;
  std::map<std::string, std::string> bodies;
  JUnitCounts all;
  for (const TestCase& one : cases) {
    if (!counts.contains(one.suite)) {
      suites.push_back(one.suite);
    }
    counts[one.suite].add(one);
    bodies[one.suite] += junit_case(one, model);
    all.add(one);
  }
  const double seconds = std::max(run.seconds, 0.0);
  std::string out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites" +
                    attribute("name", "bridge-verify " + run.model_ref) +
                    fmt::format(" {} time=\"{:.3f}\">\n", all.text(), seconds);
  for (const std::string& suite : suites) {
    const bool first = suite == suites.front();
    out += "  <testsuite" + attribute("name", suite) + " " + counts[suite].text() +
           fmt::format(" time=\"{:.3f}\"", first ? seconds : 0.0) +
           attribute("timestamp", run.started.substr(0, 19)) + ">\n" +
           (first ? junit_properties(run) : "") + bodies[suite] + "  </testsuite>\n";
  }
  return out + "</testsuites>\n";
}

}  // namespace bv::reports
