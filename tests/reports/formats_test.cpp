#include "reports/formats.hpp"

#include <gtest/gtest.h>

#include <set>

namespace bv::reports {
namespace {

TEST(Formats, NamesAndFilesAreUniqueAndEachRenders) {
  std::set<std::string_view> names, files;
  for (const Format& format : formats()) {
    EXPECT_TRUE(names.insert(format.name).second) << format.name;
    EXPECT_TRUE(files.insert(format.file).second) << format.file;
    EXPECT_EQ(find_format(format.name), &format);
    bv::Run run;
    run.verdicts.emplace_back();
    EXPECT_FALSE(format.render(run, {}).empty()) << format.name;
  }
  EXPECT_EQ(find_format("html5"), nullptr);
}

TEST(Formats, AReportHasAFileOrTheFormatsOwn) {
  const std::vector<std::string> texts = {"json=a.json", "plain", "text=-"};
  const auto wanted = wanted_reports(texts);
  ASSERT_TRUE(wanted.has_value());
  ASSERT_EQ(wanted->size(), 3U);
  EXPECT_EQ((*wanted)[0].file, "a.json");
  EXPECT_EQ((*wanted)[1].file, find_format("plain")->file);
  EXPECT_EQ((*wanted)[2].file, "-");
}

TEST(Formats, WrongOnesAreRefused) {
  const auto error = [](std::vector<std::string> texts) {
    const auto wanted = wanted_reports(texts);
    return wanted ? fail(Code::Assertion, "was accepted") : wanted.error();
  };
  EXPECT_EQ(error({"jsno=x"}).code, Code::BadValue);
  EXPECT_EQ(error({"json="}).code, Code::BadValue);
  EXPECT_EQ(error({"json=x", "plain=x"}).code, Code::Conflict);
  EXPECT_EQ(error({"json=-", "plain=-"}).code, Code::Conflict);
}

}  // namespace
}  // namespace bv::reports
