// What people read: the page in HTML and the summary in Markdown.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "reports/formats.hpp"
#include "reports/html_report.hpp"
#include "reports/machine_formats.hpp"
#include "tests/reports/sample_runs.hpp"

namespace bv::reports {
namespace {

using nlohmann::json;
using testing::hostile_run;
using testing::sample_run;

TEST(Markdown, IsBoundedAndNoNameLeavesItsCell) {
  bv::Run run = hostile_run();
  for (int i = 0; i < 5000; ++i) {
    Verdict one = testing::sample_verdict("r" + std::to_string(i), "tp1", Outcome::Refuted,
                                          Code::WrongPlacement);
    one.title = std::string(3000, 'x') + "|" + testing::hostile_text();
    run.verdicts.push_back(one);
  }
  const std::string text = render_markdown(run, {});
  EXPECT_LT(text.size(), 60U << 10);
  EXPECT_NE(text.find(" more in the HTML report"), std::string::npos);
  std::size_t fences = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    fences += line.starts_with("```") ? 1U : 0U;
    EXPECT_TRUE(fences % 2 == 1 || line.find("script>") == std::string::npos) << line;
    if (line.starts_with("| ") && line.find("---") == std::string::npos) {
      std::size_t bars = 0;
      for (std::size_t i = 0; i < line.size(); ++i) {
        bars += line[i] == '|' && (i == 0 || line[i - 1] != '\\') ? 1U : 0U;
      }
      EXPECT_EQ(bars, 6U) << line;
    }
    begin = end + 1;
  }
  EXPECT_EQ(fences % 2, 0U);
}

TEST(Html, NoTextOfOthersBecomesMarkupAndNothingIsAskedFor) {
  for (const bv::Run& run : {sample_run(), hostile_run(), bv::Run{}}) {
    const std::string page = render_html(run, {});
    std::size_t scripts = 0;
    for (std::size_t at = page.find("<script"); at != std::string::npos;
         at = page.find("<script", at + 1)) {
      ++scripts;
    }
    EXPECT_EQ(scripts, 2U);
    std::size_t ends = 0;
    for (std::size_t at = page.find("</script"); at != std::string::npos;
         at = page.find("</script", at + 1)) {
      ++ends;
    }
    EXPECT_EQ(ends, 2U);
    EXPECT_EQ(page.find("src="), std::string::npos);
    EXPECT_EQ(page.find("@import"), std::string::npos);
    EXPECT_EQ(page.find("<link"), std::string::npos);
    EXPECT_EQ(page.find("innerHTML"), std::string::npos);
    EXPECT_NE(page.find("Content-Security-Policy\" content=\"default-src 'none'"),
              std::string::npos);
    EXPECT_EQ(page.find('\0'), std::string::npos);
  }
}

TEST(Html, TheDataIsJsonAndHasEveryVerdict) {
  for (const bv::Run& run : {sample_run(), hostile_run(), bv::Run{}}) {
    const std::string text = html_data(run);
    EXPECT_EQ(text.find('<'), std::string::npos);
    const json data = json::parse(text);
    for (const auto& [column, values] : data["rows"].items()) {
      if (values.is_array()) {
        EXPECT_EQ(values.size(), run.verdicts.size()) << column;
      }
    }
    std::size_t details = 0;
    for (const Verdict& verdict : run.verdicts) {
      details += verdict.outcome == Outcome::Proved || verdict.outcome == Outcome::Held ? 0 : 1;
    }
    EXPECT_EQ(data["rows"]["details"].size(), details);
  }
}

}  // namespace
}  // namespace bv::reports
