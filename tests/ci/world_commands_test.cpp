// Every command, and every option that changes it, has a place in a world of processes: rows of
// world_commands.txt.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>

#include "ci/cli/command.hpp"
#include "tests/ci/run_command.hpp"

namespace bv::cli {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::run_line;
using testing::TempFolder;

struct WorldRow {
  std::string what, command, line, name;
};

std::string without_blanks(const std::string& text) {
  const std::size_t begin = text.find_first_not_of(' ');
  return begin == std::string::npos ? ""
                                    : text.substr(begin, text.find_last_not_of(' ') - begin + 1);
}

std::vector<std::string> cut_at(const std::string& text, char separator) {
  std::vector<std::string> out;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, separator);) {
    out.push_back(std::move(part));
  }
  return out;
}

/// "check", "rules:lint": what the table must have.
std::set<std::string> all_commands() {
  std::set<std::string> out;
  for (const Command& command : commands()) {
    const auto verbs = words_of(command.name.verbs);
    for (const std::string& verb : verbs) {
      out.insert(std::string(command.name.name) + ":" + verb);
    }
    if (verbs.empty() && !command.name.name.starts_with("__")) {
      out.emplace(command.name.name);
    }
  }
  return out;
}

/// A row of "report:*" for each verb.
std::vector<WorldRow> world_rows() {
  std::vector<WorldRow> out;
  std::istringstream text(support::file_text(fs::path(BV_ROOT) / "tests/ci/world_commands.txt"));
  for (std::string line; std::getline(text, line);) {
    if (line.empty() || line.starts_with('#')) {
      continue;
    }
    std::vector<std::string> columns = cut_at(line, '|');
    columns.resize(4);
    WorldRow row{without_blanks(columns[0]), without_blanks(columns[1]), without_blanks(columns[2]),
                 without_blanks(columns[3])};
    if (!row.command.ends_with(":*")) {
      out.push_back(std::move(row));
      continue;
    }
    const std::string before = row.command.substr(0, row.command.size() - 1);
    for (const std::string& command : all_commands()) {
      if (command.starts_with(before)) {
        WorldRow one = row;
        one.command = command;
        const std::size_t verb = one.line.find("VERB");
        one.line.replace(verb, 4, command.substr(before.size()));
        out.push_back(std::move(one));
      }
    }
  }
  return out;
}

class WorldCommands : public ::testing::Test {
 protected:
  [[nodiscard]] std::vector<std::string> words(const WorldRow& row) const {
    std::vector<std::string> out;
    const std::map<std::string, std::string> places = {
        {"{out}", (folder_.path() / "out").string()},
        {"{run}", (folder_.path() / "run.json").string()},
        {"{fixtures}", BV_FIXTURES}};
    for (std::string word : cut_at(row.line, ' ')) {
      for (const auto& [name, place] : places) {
        if (const std::size_t at = word.find(name); at != std::string::npos) {
          word.replace(at, name.size(), place);
        }
      }
      out.push_back(std::move(word));
    }
    return out;
  }

  [[nodiscard]] static support::Said run_as(std::vector<std::string> line, const std::string& rank,
                                            const std::string& size) {
    return run_line(std::move(line), {{"LANG", "C.UTF-8"},
                                      {"RANK", rank},
                                      {"WORLD_SIZE", size},
                                      {"LOCAL_RANK", rank},
                                      {"LOCAL_WORLD_SIZE", size},
                                      {"MASTER_ADDR", "127.0.0.1"},
                                      {"MASTER_PORT", "29431"}});
  }

  void expect_nothing_written() const {
    std::vector<std::string> left;
    for (const auto& entry : fs::directory_iterator(folder_.path())) {
      left.push_back(entry.path().filename().string());
    }
    EXPECT_EQ(left, (std::vector<std::string>{"run.json"}));
  }

  void SetUp() override {
    const auto made = run_line({"check", "--model", "fixture:llama", "--tp", "1", "--json"});
    ASSERT_EQ(made.code, 0) << made.err;
    testing::write_text(folder_.path() / "run.json", made.out);
  }

 private:
  TempFolder folder_;
};

TEST_F(WorldCommands, EveryCommandHasARow) {
  std::set<std::string> rows;
  for (const WorldRow& row : world_rows()) {
    rows.insert(row.command);
    EXPECT_TRUE(row.what == "all" || row.what == "one" || row.what == "each") << row.what;
  }
  EXPECT_EQ(rows, all_commands());
}

/// An option that names what is written makes a command that each process would do the work of one.
TEST_F(WorldCommands, EveryOptionThatNamesAnOutputIsInARow) {
  const std::set<std::string> other = {"baseline", "report"};
  for (const WorldRow& row : world_rows()) {
    for (const OptionSpec& spec : option_specs()) {
      const bool names = spec.group == "output" && (spec.value.find("FILE") != std::string::npos ||
                                                    spec.value.find("DIR") != std::string::npos);
      if (row.what != "each" || !names || !usable_by(spec, row.command) ||
          row.line.find("--" + std::string(spec.name)) != std::string::npos) {
        continue;
      }
      const auto rows = world_rows();
      EXPECT_TRUE(std::any_of(rows.begin(), rows.end(),
                              [&](const WorldRow& one) {
                                return one.what == "one" && one.command == row.command &&
                                       one.line.find("--" + std::string(spec.name)) !=
                                           std::string::npos;
                              }))
          << row.command << " --" << spec.name;
    }
  }
}

TEST_F(WorldCommands, TheWorkOfOneIsRefusedAtOnceAndToldOnce) {
  for (const WorldRow& row : world_rows()) {
    if (row.what != "one") {
      continue;
    }
    SCOPED_TRACE(row.line);
    const auto host = run_as(words(row), "0", "3");
    EXPECT_EQ(host.code, 2);
    EXPECT_THAT(host.err, HasSubstr("BV0003"));
    EXPECT_THAT(host.err,
                HasSubstr(row.name + " is the work of one process, and this world has 3"));
    EXPECT_THAT(host.err, HasSubstr("env -u WORLD_SIZE"));
    for (const char* rank : {"1", "2"}) {
      const auto other = run_as(words(row), rank, "3");
      EXPECT_EQ(other.code, 2);
      EXPECT_EQ(other.out + other.err, "");
    }
    expect_nothing_written();
  }
}

TEST_F(WorldCommands, WhatOnlySaysSomethingIsSaidByEach) {
  for (const WorldRow& row : world_rows()) {
    if (row.what != "each") {
      continue;
    }
    SCOPED_TRACE(row.line);
    const auto alone = run_line(words(row));
    const auto other = run_as(words(row), "1", "2");
    EXPECT_EQ(alone.code, 0) << alone.err;
    EXPECT_EQ(other.code, alone.code) << other.err;
    EXPECT_EQ(other.out.empty(), alone.out.empty());
    EXPECT_EQ(other.err, alone.err);
    expect_nothing_written();
  }
}

TEST_F(WorldCommands, WhatAllDoWaitsForTheOthers) {
  for (const WorldRow& row : world_rows()) {
    if (row.what != "all") {
      continue;
    }
    SCOPED_TRACE(row.line);
    std::vector<std::string> line = words(row);
    line.insert(line.end(), {"--patience", "1"});
    const auto host = run_as(line, "0", "2");
    EXPECT_EQ(host.code, 5) << host.err;
    EXPECT_THAT(host.err, HasSubstr("of the 2 processes of this world did not come within 1 s"));
  }
}

}  // namespace
}  // namespace bv::cli
