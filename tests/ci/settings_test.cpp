#include "ci/cli/session/settings.hpp"

#include <gtest/gtest.h>

#include "tests/ci/run_command.hpp"

namespace bv::cli {
namespace {

namespace fs = std::filesystem;
using testing::TempFolder;
using testing::write_text;

std::vector<std::string> paths(const Environment& environment, const fs::path& folder) {
  const auto read = read_settings(environment, folder);
  EXPECT_TRUE(read.has_value()) << (read ? "" : read.error().message);
  std::vector<std::string> out;
  for (const SettingsText& one : read ? *read : std::vector<SettingsText>{}) {
    out.push_back(one.path);
  }
  return out;
}

TEST(Settings, TheFileOfTheFolderThenThatOfTheUser) {
  const TempFolder home;
  const TempFolder work;
  EXPECT_TRUE(paths({{"HOME", home.path()}}, work.path()).empty());
  write_text(work.path() / "bridge-verify.toml", "tp = 2\n");
  fs::create_directories(home.path() / ".config/bridge-verify");
  write_text(home.path() / ".config/bridge-verify/config.toml", "pp = 2\n");
  EXPECT_EQ(paths({{"HOME", home.path()}}, work.path()),
            (std::vector<std::string>{"bridge-verify.toml",
                                      home.path() / ".config/bridge-verify/config.toml"}));
  EXPECT_TRUE(paths({{"HOME", home.path()}}, {}).empty());
}

TEST(Settings, AreLookedForUpToTheRepository) {
  const TempFolder work;
  fs::create_directories(work.path() / "repo/a/b");
  write_text(work.path() / "bridge-verify.toml", "");
  EXPECT_TRUE(paths({}, work.path() / "repo/a/b").empty());  // no repository: this folder alone
  fs::create_directories(work.path() / "repo/.git");
  EXPECT_TRUE(paths({}, work.path() / "repo/a/b").empty());  // above the repository
  write_text(work.path() / "repo/bridge-verify.toml", "");
  EXPECT_EQ(paths({}, work.path() / "repo/a/b"),
            std::vector<std::string>{work.path() / "repo/bridge-verify.toml"});
}

TEST(Settings, AFileThatCannotBeReadIsAFault) {
  const TempFolder work;
  fs::create_directories(work.path() / "bridge-verify.toml");
  const auto read = read_settings({}, work.path());
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(read.error().code, Code::BadSettings);
}

}  // namespace
}  // namespace bv::cli
