// Every exhibit of the museum: its twin is green, and the mutated bridge is refuted with this code,
// at this tensor and element.

#include "properties/attacks/mutants/museum.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace bv::mutants {
namespace {

namespace fs = std::filesystem;

const oracle::Entry kOracleAlone = {};

std::string read_text(const fs::path& path) {
  std::ostringstream out;
  out << std::ifstream(path).rdbuf();
  return out.str();
}

std::vector<fs::path> exhibits() {
  std::vector<fs::path> out;
  for (const auto& entry : fs::directory_iterator(fs::path(BV_FIXTURES) / "regress" / "bugs")) {
    if (entry.path().extension() == ".json") {
      out.push_back(entry.path());
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

/// The claims of `bridge-verify check` refute rules with this fault, and placement at the same
/// element.
void expect_seen_by_the_user(const Finding& wanted, const std::vector<Verdict>& refuted) {
  ASSERT_FALSE(refuted.empty()) << "bridge-verify check sees nothing in the rules";
  if (wanted.claim == "names") {
    EXPECT_EQ(refuted.front().claim, "names") << refuted.front().title;
  } else {
    EXPECT_EQ(refuted.front().code, wanted.code) << refuted.front().title;
  }
  if (wanted.claim == "placement") {
    ASSERT_EQ(refuted.front().counterexamples.size(), 1U);
    const Counterexample& seen = refuted.front().counterexamples.front();
    EXPECT_EQ(seen.tensor, wanted.example.tensor);
    EXPECT_EQ(seen.index, wanted.example.index);
    EXPECT_EQ(seen.found.tensor, wanted.example.found.tensor);
    EXPECT_EQ(seen.found.index, wanted.example.found.index);
    EXPECT_EQ(seen.wanted.index, wanted.example.wanted.index);
  }
}

class Museum : public ::testing::TestWithParam<fs::path> {
 protected:
  static const Library& library() {
    static const Library value = load_library().value();
    return value;
  }
  static const std::vector<Sample>& samples() {
    static const std::vector<Sample> value = builtin_samples().value();
    return value;
  }
};

TEST_P(Museum, TheBugIsSeenAndItsTwinIsNot) {
  const auto exhibit = read_exhibit(read_text(GetParam()), GetParam().filename().string());
  ASSERT_TRUE(exhibit) << exhibit.error().message;
  EXPECT_EQ(exhibit->id + ".json", GetParam().filename().string());
  const auto shown = show(library(), samples(), kOracleAlone, *exhibit);
  ASSERT_TRUE(shown) << shown.error().message << " " << shown.error().found;
  EXPECT_TRUE(shown->twin.empty()) << shown->twin.front().title;
  nlohmann::json found = nlohmann::json::array();
  for (const Finding& finding : shown->mutated) {
    found.push_back(to_json(finding));
  }
  ASSERT_FALSE(found.empty()) << "no claim sees it";
  if (std::getenv("BV_RECORD") != nullptr) {
    nlohmann::json user = nullptr;
    if (shown->by_user_claims) {
      user = nlohmann::json::array();
      for (const Verdict& verdict : *shown->by_user_claims) {
        user.push_back(verdict.claim + " " + label(verdict.code));
      }
    }
    std::ofstream(std::string(std::getenv("BV_RECORD")) + "/" + exhibit->id) << nlohmann::json{
        {"found", found},
        {"gate", shown->gate.red},
        {"why", shown->gate.why},
        {"user", user}}.dump();
  }
  const nlohmann::json wanted = to_json(exhibit->expected);
  EXPECT_NE(std::find(found.begin(), found.end(), wanted), found.end())
      << "wanted " << wanted.dump() << "\nfound  " << found.dump();
  EXPECT_EQ(shown->gate.red, exhibit->gate_red) << shown->gate.why;
  if (shown->by_user_claims) {
    expect_seen_by_the_user(exhibit->expected, *shown->by_user_claims);
  }
}

INSTANTIATE_TEST_SUITE_P(Bugs, Museum, ::testing::ValuesIn(exhibits()),
                         [](const auto& row) { return row.param.stem().string(); });

TEST(MuseumFiles, HoldEveryBugOfTheList) {
  const auto files = exhibits();
  ASSERT_EQ(files.size(), 68U);
  for (std::size_t i = 0; i < files.size(); ++i) {
    EXPECT_EQ(files[i].stem().string(), fmt::format("B{:02}", i + 1));
  }
}

TEST(MuseumFiles, AnExhibitWithoutAMutantIsRefused) {
  const auto exhibit = read_exhibit(R"({"id": "B01", "bug": "x"})", "B01.json");
  ASSERT_FALSE(exhibit);
  EXPECT_EQ(exhibit.error().code, Code::BadValue);
}

}  // namespace
}  // namespace bv::mutants
