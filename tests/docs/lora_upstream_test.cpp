// The page of faults of other tools: every number once, every test that it names there.

#include <gtest/gtest.h>

#include <fmt/format.h>

#include <regex>

#include "tests/docs/pages.hpp"

namespace bv::docs {
namespace {

/// "D-01" to "D-38".
std::vector<std::string> numbered(const char* form, int last) {
  std::vector<std::string> out;
  for (int i = 1; i <= last; ++i) {
    out.push_back(fmt::format(fmt::runtime(form), i));
  }
  return out;
}

/// The numbers of a table's first column, in order; tests of its last column that do not exist are
/// failures.
std::vector<std::string> numbers(const std::string& heading, const std::string& form) {
  const std::regex number(form);
  std::vector<std::string> out;
  for (const auto& row : table(section(read("docs/reference/lora-upstream.md"), heading))) {
    const std::string& first = row.front();
    for (std::sregex_iterator at(first.begin(), first.end(), number), end; at != end; ++at) {
      out.push_back(at->str());
    }
    EXPECT_FALSE(quoted(row.back()).empty()) << first;
    for (const std::string& test : quoted(row.back())) {
      EXPECT_TRUE(test_names().contains(test)) << first << ": there is no test " << test;
    }
  }
  return out;
}

TEST(LoraUpstream, EveryFaultHasATest) {
  EXPECT_EQ(numbers("Faults", "D-[0-9]{2}"), numbered("D-{:02}", 38));
}

TEST(LoraUpstream, EveryFunctionHasATest) {
  EXPECT_EQ(numbers("Functions", "^`").size(), 29u);
}

TEST(LoraUpstream, EveryRulingHasATest) {
  EXPECT_EQ(numbers("Serving", "^R[0-9]+"), numbered("R{}", 15));
}

TEST(LoraUpstream, EveryBugOfTheMuseumHasATest) {
  const std::vector<std::string> of_adapters = {"B03", "B04", "B05", "B10", "B14", "B24", "B27",
                                                "B45", "B64", "B65", "B66", "B67", "B68"};
  EXPECT_EQ(numbers("Museum", "^B[0-9]{2}"), of_adapters);
}

TEST(LoraUpstream, EveryVectorHasATest) {
  std::vector<std::string> found = numbers("Vectors", "TV-[0-9]{2}");
  std::sort(found.begin(), found.end());
  EXPECT_EQ(found, numbered("TV-{:02}", 47));
}

}  // namespace
}  // namespace bv::docs
