// The page of decisions: every number once, and every test that it names there.

#include <gtest/gtest.h>

#include "tests/docs/pages.hpp"

namespace bv::docs {
namespace {

constexpr std::string_view kNoTest = "no test: ";

/// What is wrong with the last cell of a row, "" when nothing is: it names tests that exist, or
/// says why there is none.
std::string trouble(const std::vector<std::string>& row) {
  const std::string& cell = row.back();
  if (cell.starts_with(kNoTest)) {
    return cell.size() < kNoTest.size() + 10 ? row.front() + " does not say why" : "";
  }
  if (quoted(cell).empty()) {
    return row.front() + " names no test";
  }
  for (const std::string& test : quoted(cell)) {
    if (!test_names().contains(test)) {
      return row.front() + ": there is no test " + test;
    }
  }
  return "";
}

std::vector<std::string> firsts(const std::string& heading) {
  std::vector<std::string> out;
  for (const auto& row : table(section(read("docs/reference/decisions.md"), heading))) {
    EXPECT_EQ(trouble(row), "");
    out.push_back(row.front());
  }
  return out;
}

TEST(Decisions, EveryOneHasItsTestOrSaysWhyNot) {
  EXPECT_EQ(firsts("Suspicions"), (std::vector<std::string>{"S1", "S2", "S3", "S4", "S5", "S6",
                                                            "S7", "S8", "S9", "S10"}));
  EXPECT_EQ(firsts("Low findings of the attacks"),
            (std::vector<std::string>{"R22", "R23", "R24", "R25", "R26", "R27", "R28", "R29", "R30",
                                      "R31", "R33", "R34"}));
  EXPECT_EQ(firsts("Screen").size(), 6U);
  EXPECT_EQ(firsts("Rules of released bridges").size(), 12U);
}

TEST(Decisions, TheCheckSeesATestThatIsGoneAndARowWithoutOne) {
  EXPECT_EQ(trouble({"S1", "x", "`Decisions.EveryOneHasItsTestOrSaysWhyNot`"}), "");
  EXPECT_EQ(trouble({"S1", "x", "`Decisions.IsGone`"}), "S1: there is no test Decisions.IsGone");
  EXPECT_EQ(trouble({"S1", "x", ""}), "S1 names no test");
  EXPECT_EQ(trouble({"S1", "x", "no test: "}), "S1 does not say why");
}

}  // namespace
}  // namespace bv::docs
