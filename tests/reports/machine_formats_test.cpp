#include "reports/machine_formats.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "core/verdict/verdicts_json.hpp"
#include "reports/formats.hpp"
#include "reports/html_report.hpp"
#include "tests/reports/sample_runs.hpp"
#include "tests/reports/xml_check.hpp"

namespace bv::reports {
namespace {

using nlohmann::json;
using testing::hostile_run;
using testing::sample_run;
using testing::XmlNode;
using testing::XmlReader;

/// Runs that must not look green in any format that gates, and one that must.
std::vector<std::pair<std::string, bv::Run>> red_runs() {
  std::vector<std::pair<std::string, bv::Run>> out;
  bv::Run green = sample_run();
  green.verdicts.resize(3);
  green.warnings.clear();
  green.input_errors.clear();
  const auto with = [&](std::string name, auto change) {
    bv::Run run = green;
    change(run);
    out.emplace_back(std::move(name), std::move(run));
  };
  with("refuted", [](bv::Run& run) {
    run.verdicts.push_back(
        testing::sample_verdict("r9", "tp1", Outcome::Refuted, Code::WrongPlacement));
  });
  with("open", [](bv::Run& run) {
    run.verdicts.push_back(
        testing::sample_verdict("r9", "", Outcome::Inconclusive, Code::NoTargetLayout));
  });
  with("no verdicts", [](bv::Run& run) { run.verdicts.clear(); });
  with("skipped claim", [](bv::Run& run) { run.claims.back().skipped = true; });
  with("claim not reached", [](bv::Run& run) { run.claims.front().reached = false; });
  with("partial", [](bv::Run& run) { run.partial = true; });
  with("stopped", [](bv::Run& run) { run.stopped = true; });
  with("unusable input",
       [](bv::Run& run) { run.input_errors = {fail(Code::ModelNotFound, "no model")}; });
  with("warnings fail", [](bv::Run& run) {
    run.fail_on = FailOn::Warning;
    run.warnings = {fail(Code::RuleDead, "dead")};
  });
  return out;
}

XmlNode xml(const bv::Run& run, std::string* fault = nullptr) {
  const std::string text = render_junit(run, {});
  XmlReader reader(text);
  XmlNode root = reader.read();
  if (fault != nullptr) {
    *fault = reader.fault;
  }
  return root;
}

int number(const XmlNode& node, const std::string& key) {
  const auto at = node.attributes.find(key);
  return at == node.attributes.end() ? -1 : std::stoi(at->second);
}

void expect_counts(const XmlNode& node) {
  const auto cases = node.all("testcase");
  EXPECT_EQ(number(node, "tests"), static_cast<int>(cases.size()));
  EXPECT_EQ(number(node, "failures"), static_cast<int>(node.all("failure").size()));
  EXPECT_EQ(number(node, "errors"), static_cast<int>(node.all("error").size()));
  EXPECT_EQ(number(node, "skipped"), static_cast<int>(node.all("skipped").size()));
}

TEST(JUnit, IsWellFormedAndItsCountsReconcile) {
  for (const bv::Run& run : {sample_run(), hostile_run(), bv::Run{}}) {
    std::string fault;
    const XmlNode root = xml(run, &fault);
    EXPECT_EQ(fault, "");
    EXPECT_EQ(root.name, "testsuites");
    expect_counts(root);
    for (const XmlNode* suite : root.all("testsuite")) {
      expect_counts(*suite);
    }
    std::set<std::string> names;
    for (const XmlNode* one : root.all("testcase")) {
      EXPECT_TRUE(names.insert(one->attributes.at("classname") + one->attributes.at("name")).second)
          << one->attributes.at("name");
    }
  }
}

TEST(JUnit, EachOutcomeHasItsForm) {
  const XmlNode root = xml(sample_run());
  EXPECT_EQ(number(root, "tests"), 10);    // nine verdicts and an unusable input
  EXPECT_EQ(number(root, "failures"), 4);  // two refuted, one open, one unsupported
  EXPECT_EQ(number(root, "errors"), 2);    // broken, input
  EXPECT_EQ(number(root, "skipped"), 1);   // waived
  const XmlNode& failure = *root.all("failure").front();
  EXPECT_EQ(failure.attributes.at("type"), "BV2006");
  EXPECT_EQ(failure.attributes.at("message"), "rows are on the wrong rank");
  EXPECT_NE(failure.text.find("rank tp0 wanted  q[0:4] k[0:2]"), std::string::npos);
  EXPECT_EQ(root.all("system-out").front()->text,
            "bridge-verify check --model tiny --only placement");
  EXPECT_EQ(root.all("skipped").front()->attributes.at("message"),
            "waived: known (https://e.org/1, until 2027-01-01)");
}

TEST(JUnit, ManyGreenVerdictsBecomeFewCasesAndRedOnesStay) {
  bv::Run run = sample_run();
  for (int i = 0; i < 9000; ++i) {
    run.verdicts.push_back(testing::sample_verdict("r" + std::to_string(i % 90),
                                                   "tp" + std::to_string(i / 90), Outcome::Proved,
                                                   Code::Assertion));
  }
  std::string fault;
  const XmlNode root = xml(run, &fault);
  EXPECT_EQ(fault, "");
  expect_counts(root);
  EXPECT_LT(number(root, "tests"), 200);
  EXPECT_EQ(number(root, "failures"), 4);
  for (int i = 0; i < 6000; ++i) {
    run.verdicts.push_back(testing::sample_verdict("b" + std::to_string(i), "tp1", Outcome::Refuted,
                                                   Code::WrongPlacement));
  }
  EXPECT_LE(number(xml(run), "tests"), 5010);
  EXPECT_LT(render_junit(run, {}).size(), 20U << 20);
}

TEST(GatingFormats, NoRunThatFailsLooksGreen) {
  for (const auto& [name, run] : red_runs()) {
    SCOPED_TRACE(name);
    ASSERT_NE(conclude(run).exit_code, 0);
    const XmlNode root = xml(run);
    EXPECT_GT(number(root, "failures") + number(root, "errors"), 0);
    const json ctrf = json::parse(render_ctrf(run, {}));
    EXPECT_GT(ctrf["results"]["summary"]["failed"], 0);
    EXPECT_EQ(ctrf["results"]["environment"]["healthy"], false);
    const json sarif = json::parse(render_sarif(run, {}));
    EXPECT_TRUE(std::any_of(sarif["runs"][0]["results"].begin(), sarif["runs"][0]["results"].end(),
                            [](const json& one) { return one["level"] == "error"; }));
    const json gitlab = json::parse(render_gitlab(run, {}));
    EXPECT_TRUE(std::any_of(gitlab.begin(), gitlab.end(),
                            [](const json& one) { return one["severity"] == "critical"; }));
    EXPECT_NE(render_github(run, {}).find("::error "), std::string::npos);
    EXPECT_EQ(render_markdown(run, {}).find("PASS"), std::string::npos);
    EXPECT_EQ(render_html(run, {}).find("class=\"top PASS\""), std::string::npos);
  }
}

TEST(JUnit, ManyWaivedVerdictsDoNotFailARunThatPasses) {
  bv::Run run;
  for (int i = 0; i < 6000; ++i) {
    run.verdicts.push_back(testing::sample_verdict("w" + std::to_string(i), "tp1", Outcome::Waived,
                                                   Code::WrongPlacement));
  }
  ASSERT_EQ(conclude(run).exit_code, 0);
  const XmlNode root = xml(run);
  EXPECT_LE(number(root, "tests"), 5010);
  EXPECT_EQ(number(root, "failures"), 0);
  EXPECT_EQ(number(root, "errors"), 0);
}

TEST(GatingFormats, AGreenRunIsGreenInAll) {
  bv::Run run = sample_run();
  run.verdicts.resize(3);
  run.warnings.clear();
  run.input_errors.clear();
  ASSERT_EQ(conclude(run).word, "PASS");
  const XmlNode root = xml(run);
  EXPECT_EQ(number(root, "failures") + number(root, "errors") + number(root, "skipped"), 0);
  EXPECT_EQ(json::parse(render_ctrf(run, {}))["results"]["summary"]["failed"], 0);
  EXPECT_EQ(json::parse(render_sarif(run, {}))["runs"][0]["results"].size(), 0U);
  EXPECT_EQ(json::parse(render_gitlab(run, {})).size(), 0U);
  EXPECT_EQ(render_github(run, {}), "bridge-verify PASS: 2 proved, 1 held\n");
  EXPECT_TRUE(render_markdown(run, {}).starts_with("**bridge-verify PASS: 2 proved, 1 held**\n"));
}

TEST(Sarif, HasWhatGitHubRequires) {
  for (const bv::Run& run : {sample_run(), hostile_run(), bv::Run{}}) {
    const json out = json::parse(render_sarif(run, {}));
    EXPECT_EQ(out["version"], "2.1.0");
    ASSERT_EQ(out["runs"].size(), 1U);
    const json& one = out["runs"][0];
    const json& rules = one["tool"]["driver"]["rules"];
    EXPECT_EQ(one["tool"]["driver"]["name"], "bridge-verify");
    EXPECT_EQ(one["invocations"][0]["exitCode"], conclude(run).exit_code);
    for (const json& result : one["results"]) {
      ASSERT_LT(result["ruleIndex"], rules.size());
      EXPECT_EQ(rules[result["ruleIndex"].get<std::size_t>()]["id"], result["ruleId"]);
      EXPECT_FALSE(result["message"]["text"].get<std::string>().empty());
      EXPECT_TRUE((std::set<json>{"error", "warning", "note"}).contains(result["level"]));
      const json& place = result["locations"][0]["physicalLocation"];
      EXPECT_GE(place["region"]["startLine"], 1);
      const std::string uri = place["artifactLocation"]["uri"];
      EXPECT_EQ(uri.find_first_of(" <>\"{}|\\^`\n"), std::string::npos) << uri;
      EXPECT_EQ(result["partialFingerprints"]["bridgeVerify/v1"].get<std::string>().size(), 16U);
    }
  }
}

TEST(Sarif, OneResultAFaultWithItsLayouts) {
  const json out = json::parse(render_sarif(sample_run(), {}));
  const json& results = out["runs"][0]["results"];
  std::map<std::string, int> times;
  for (const json& result : results) {
    ++times[result["ruleId"].get<std::string>()];
    if (result["ruleId"] == "BV2006" && result["level"] == "error") {
      EXPECT_EQ(result["properties"]["layouts"], (json{"tp1", "tp2"}));
      EXPECT_EQ(result["locations"][0]["physicalLocation"]["region"]["startLine"], 257);
      EXPECT_EQ(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"],
                "src/models/x_bridge.py");
    }
  }
  EXPECT_EQ(times["BV2006"], 2);  // the refuted one, and the waived one
  EXPECT_TRUE(std::any_of(results.begin(), results.end(),
                          [](const json& one) { return one.contains("suppressions"); }));
}

TEST(Ctrf, HasTheKeysOfItsSchemaAndNoOthers) {
  const std::set<std::string> known = {"name",  "status",     "duration", "suite",  "message",
                                       "trace", "rawStatus",  "tags",     "labels", "filePath",
                                       "line",  "parameters", "extra"};
  for (const bv::Run& run : {sample_run(), hostile_run(), bv::Run{}}) {
    const json out = json::parse(render_ctrf(run, {}));
    EXPECT_EQ(out["reportFormat"], "CTRF");
    const json& results = out["results"];
    const json& summary = results["summary"];
    EXPECT_EQ(summary["tests"], results["tests"].size());
    EXPECT_EQ(summary["passed"].get<int>() + summary["failed"].get<int>() +
                  summary["skipped"].get<int>() + summary["other"].get<int>() +
                  summary["pending"].get<int>(),
              summary["tests"]);
    EXPECT_LE(summary["start"], summary["stop"]);
    for (const json& test : results["tests"]) {
      for (const char* key : {"name", "status", "duration"}) {
        EXPECT_TRUE(test.contains(key));
      }
      EXPECT_FALSE(test["name"].get<std::string>().empty());
      for (const auto& [key, value] : test.items()) {
        EXPECT_TRUE(known.contains(key)) << key;
      }
    }
  }
  EXPECT_EQ(json::parse(render_ctrf(sample_run(), {}))["results"]["summary"]["start"],
            1767225600000);
}

TEST(GitLab, HasTheRequiredKeysAndEachFingerprintOnce) {
  for (const bv::Run& run : {sample_run(), hostile_run()}) {
    std::set<std::string> prints;
    const json out = json::parse(render_gitlab(run, {}));
    EXPECT_FALSE(out.empty());
    for (const json& one : out) {
      EXPECT_TRUE(prints.insert(one["fingerprint"].get<std::string>()).second);
      EXPECT_FALSE(one["description"].get<std::string>().empty());
      EXPECT_FALSE(one["check_name"].get<std::string>().empty());
      EXPECT_FALSE(one["location"]["path"].get<std::string>().empty());
      EXPECT_GE(one["location"]["lines"]["begin"], 1);
      EXPECT_TRUE((std::set<json>{"info", "minor", "major", "critical", "blocker"})
                      .contains(one["severity"]));
    }
  }
}

TEST(GitHub, ShowsNineOfAKindAndCountsTheRest) {
  bv::Run run = sample_run();
  run.input_errors.clear();
  run.verdicts.clear();
  for (int i = 0; i < 25; ++i) {
    run.verdicts.push_back(testing::sample_verdict("r" + std::to_string(i), "tp1", Outcome::Refuted,
                                                   Code::WrongPlacement));
  }
  const std::string text = render_github(run, {});
  std::size_t errors = 0;
  for (std::size_t at = text.find("::error "); at != std::string::npos;
       at = text.find("::error ", at + 1)) {
    ++errors;
  }
  EXPECT_EQ(errors, 10U);
  EXPECT_NE(text.find("::error title=bridge-verify::16 more"), std::string::npos);
  EXPECT_NE(text.find("::error file=src/models/x_bridge.py,line=257,title=BV2006 "),
            std::string::npos);
}

TEST(GitHub, NoTextOfOthersBecomesACommand) {
  const std::string text = render_github(hostile_run(), {});
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    ASSERT_NE(end, std::string::npos);
    const std::string line = text.substr(begin, end - begin);
    EXPECT_TRUE(line.starts_with("::error ") || line.starts_with("::warning ") ||
                line.starts_with("::notice ") || line.starts_with("bridge-verify "))
        << line;
    EXPECT_EQ(line.find('\r'), std::string::npos);
    begin = end + 1;
  }
}

/// RFC 4180, read back.
std::vector<std::vector<std::string>> read_csv(const std::string& text) {
  std::vector<std::vector<std::string>> rows(1, std::vector<std::string>(1));
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted && c == '"' && text.substr(i + 1, 1) == "\"") {
      rows.back().back() += c;
      ++i;
    } else if (c == '"') {
      quoted = !quoted;
    } else if (!quoted && c == ',') {
      rows.back().emplace_back();
    } else if (!quoted && text.substr(i, 2) == "\r\n") {
      rows.emplace_back(1);
      ++i;
    } else {
      rows.back().back() += c;
    }
  }
  EXPECT_FALSE(quoted);
  rows.pop_back();
  return rows;
}

TEST(Csv, HasOneRowAVerdictAndNoFormula) {
  for (const bv::Run& run : {sample_run(), hostile_run()}) {
    const auto rows = read_csv(render_csv(run, {}));
    ASSERT_EQ(rows.size(), run.verdicts.size() + 1);
    for (const auto& row : rows) {
      EXPECT_EQ(row.size(), rows.front().size());
      for (const std::string& one : row) {
        EXPECT_TRUE(one.empty() || std::string("=+-@\t\r").find(one.front()) == std::string::npos)
            << one;
      }
    }
  }
}

TEST(Formats, AStoredRunRendersTheSameBytesInEveryFormat) {
  for (const bv::Run& run : {sample_run(), bv::Run{}}) {
    const auto stored = read_verdicts_json(verdicts_json(run));
    ASSERT_TRUE(stored.has_value()) << stored.error().message;
    for (const Format& format : formats()) {
      EXPECT_EQ(format.render(*stored, {}), format.render(run, {})) << format.name;
    }
  }
}

TEST(Formats, EveryFormatTakesHostileTextsWithoutAControlCharacter) {
  for (const Format& format : formats()) {
    const std::string text = format.render(hostile_run(), {});
    for (const char c : text) {
      const auto byte = static_cast<unsigned char>(c);
      EXPECT_TRUE(byte >= 0x20 || c == '\n' || c == '\t' || (c == '\r' && format.name == "csv"))
          << format.name << " " << int{byte};
    }
    EXPECT_EQ(text.find("\x1b"), std::string::npos) << format.name;
  }
}

TEST(Card, IsYamlWithQuotedTexts) {
  const std::string text = render_card(hostile_run(), {});
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    const std::string line = text.substr(begin, end - begin);
    EXPECT_TRUE(line == "bridge_verify:" || line.starts_with("  ")) << line;
    begin = end + 1;
  }
  EXPECT_NE(render_card(sample_run(), {}).find("\n  mismatches: 2\n"), std::string::npos);
}

}  // namespace
}  // namespace bv::reports
