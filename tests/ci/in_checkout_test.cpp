// Findings beside the lines of a change: at the file as the repository has it.

#include "ci/cli/session/in_checkout.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/verdict/source_place.hpp"
#include "tests/ci/run_command.hpp"
#include "tests/support/golden_text.hpp"

namespace bv::cli::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kRecorded = "megatron/bridge/models/x/x_bridge.py";

class InACheckout : public ::testing::Test {
 protected:
  void file(const std::string& path, const std::string& text = "x\n") const {
    fs::create_directories((folder_.path() / path).parent_path());
    write_text(folder_.path() / path, text);
  }
  /// The place that a finding of `source` has in the forms of a forge, seen from `from`.
  [[nodiscard]] std::string place(const std::string& source, const std::string& from = "",
                                  const std::string& title = "wrong") const {
    bv::Run run;
    Verdict verdict;
    verdict.outcome = Outcome::Refuted;
    verdict.rule_source = source;
    verdict.title = title;
    run.verdicts = {verdict};
    const fs::path stands = folder_.path() / from;
    return InCheckout(run, stands)
        .for_form(*reports::find_format("github"))
        .verdicts.front()
        .rule_source;
  }
  [[nodiscard]] std::string at(const std::string& path) const {
    return (folder_.path() / path).string();
  }

  TempFolder folder_;
};

TEST_F(InACheckout, ASourceOfAPackageIsTheFileBelowTheRoot) {
  file("src/" + std::string(kRecorded));
  EXPECT_EQ(place(std::string(kRecorded) + ":33"), "src/" + std::string(kRecorded) + ":33");
  fs::create_directory(at(".git"));
  fs::create_directories(at("docs/deep"));
  EXPECT_EQ(place(std::string(kRecorded) + ":33", "docs/deep"),
            "src/" + std::string(kRecorded) + ":33");
  EXPECT_EQ(place("", "", "made of others (" + std::string(kRecorded) + ":9)"),
            "src/" + std::string(kRecorded) + ":9");
  EXPECT_EQ(place(at("src/" + std::string(kRecorded)) + ":4"),
            "src/" + std::string(kRecorded) + ":4");
}

TEST_F(InACheckout, AFileOfOneEndingAnywhereBelowTheRootIsTheOne) {
  fs::create_directory(at(".git"));
  const std::string there = "third_party/Megatron-Bridge/src/" + std::string(kRecorded);
  file(there);
  file(".venv/lib/" + std::string(kRecorded));
  file("env/lib/python3.12/site-packages/" + std::string(kRecorded));
  file("own/pyvenv.cfg");
  file("own/lib/" + std::string(kRecorded));
  EXPECT_EQ(place(std::string(kRecorded) + ":33"), there + ":33");
  EXPECT_EQ(place("x_bridge.py:2"), there + ":2");
  EXPECT_EQ(place("bridge.py:2"), "bridge.py:2");  // the end of a name is no name
  file("other/" + std::string(kRecorded));
  EXPECT_EQ(place(std::string(kRecorded) + ":33"), std::string(kRecorded) + ":33");
}

TEST_F(InACheckout, WhatIsNotInTheCheckoutStaysAsItIsRecorded) {
  fs::create_directory(at(".git"));
  EXPECT_EQ(place(std::string(kRecorded) + ":33"), std::string(kRecorded) + ":33");
  EXPECT_EQ(place("/usr/lib/x.py:1"), "/usr/lib/x.py:1");
  EXPECT_EQ(place("llama.json: decoder rule 3"), "llama.json: decoder rule 3");
  file("deep/llama.json");  // a file of that name is not the family's
  EXPECT_EQ(place("llama.json: decoder rule 3"), "llama.json: decoder rule 3");
}

TEST_F(InACheckout, RulesAndMessagesOfASubfolderAreNamedFromTheRoot) {
  fs::create_directory(at(".git"));
  file("ci/my.rules.json");
  file("ci/w.toml");
  EXPECT_EQ(place("my.rules.json:14:3", "ci"), "ci/my.rules.json:14");
  bv::Run run;
  run.warnings = {fail(Code::WaiverUnused, "matches nothing").at("w.toml:3:1")};
  const fs::path stands = at("ci");
  const InCheckout named(run, stands);
  EXPECT_EQ(named.for_form(*reports::find_format("sarif")).warnings[0].where, "ci/w.toml:3:1");
  EXPECT_EQ(named.for_form(*reports::find_format("html")).warnings[0].where, "w.toml:3:1");
}

/// The rules say that gate is made of up: found rule by rule (placement), by BV1011 and by BV1001.
TEST_F(InACheckout, EveryFindingWithAPlaceInItsTextHasItInEachFormOfAForge) {
  fs::create_directory(at(".git"));
  file("src/" + std::string(kRecorded));
  json rules =
      json::parse(support::file_text(fs::path(BV_FIXTURES) / "registries" / "llama.rules.json"));
  for (json& rule : rules.at("rules")) {
    rule["source"] = {{"file", kRecorded}, {"line", 33}};
    if (rule.at("hf").is_object() && rule.at("hf").contains("gate")) {
      rule["hf"]["gate"] = rule["hf"]["up"];
    }
  }
  rules.erase("model");
  write_text(at("my.rules.json"), rules.dump());
  const std::vector<std::string> words = {
      "check",
      "--headers",
      (fs::path(BV_FIXTURES) / "registries" / "llama.headers.json.gz").string(),
      "--rules",
      at("my.rules.json"),
      "--ci",
      "github",
      "--report",
      "gitlab=" + at("gl.json"),
      "--report",
      "sarif=" + at("s.sarif")};
  const Ended done = support::in_memory(words, {{"LANG", "C.UTF-8"}}, [&](Context& context) {
    context.folder = folder_.path();
    return run_command_line(context);
  });
  ASSERT_EQ(done.code, 1) << done.err;
  const std::string wanted = "src/" + std::string(kRecorded);
  EXPECT_NE(done.err.find("::error file=" + wanted + ",line=33,title=BV1011"), std::string::npos)
      << done.err;
  std::size_t named = 0;
  for (const json& row : json::parse(support::file_text(at("gl.json")))) {
    if (row.at("description").get<std::string>().find("x_bridge.py:33") != std::string::npos) {
      ++named;
      EXPECT_EQ(row.at("location").at("path"), wanted) << row;
      EXPECT_EQ(row.at("location").at("lines").at("begin"), 33) << row;
    }
  }
  EXPECT_GT(named, 0U);
  for (const json& row :
       json::parse(support::file_text(at("s.sarif"))).at("runs").at(0).at("results")) {
    if (row.at("message").at("text").get<std::string>().find("x_bridge.py:33") !=
        std::string::npos) {
      EXPECT_EQ(row.at("locations").at(0).at("physicalLocation").at("artifactLocation").at("uri"),
                wanted)
          << row;
    }
  }
}

}  // namespace
}  // namespace bv::cli::testing
