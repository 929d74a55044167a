#include "ci/cli/completion.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <set>
#include <sstream>

#include "tests/ci/run_command.hpp"
#include "tests/support/files.hpp"
#include "tests/support/golden_text.hpp"

namespace bv::cli {
namespace {

using testing::run_line;
using testing::TempFolder;
using testing::write_text;

std::string output_of(const std::string& line) {
  std::string out;
  FILE* pipe = ::popen(line.c_str(), "r");
  std::array<char, 4096> buffer{};
  while (pipe != nullptr && std::fgets(buffer.data(), buffer.size(), pipe) != nullptr) {
    out += buffer.data();
  }
  const int status = pipe == nullptr ? -1 : ::pclose(pipe);
  return status == 0 ? out : "status " + std::to_string(status) + "\n" + out;
}

/// What bash offers behind these words; the last one is being typed.
std::set<std::string> offered(const std::vector<std::string>& words) {
  const TempFolder folder;
  std::string script = bash_completion() + "COMP_WORDS=(";
  for (const std::string& word : words) {
    script += "'" + word + "' ";
  }
  script += ")\nCOMP_CWORD=" + std::to_string(words.size() - 1) +
            "\n_bridge_verify\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n";
  write_text(folder.path() / "script", script);
  std::istringstream lines(output_of("bash " + (folder.path() / "script").string()));
  std::set<std::string> out;
  for (std::string line; std::getline(lines, line);) {
    out.insert(line);
  }
  return out;
}

TEST(Completion, BashOffersCommandsOptionsAndValues) {
  EXPECT_EQ(offered({"bridge-verify", "round"}), std::set<std::string>{"roundtrip"});
  EXPECT_EQ(offered({"bridge-verify", "check", "--layout"}),
            (std::set<std::string>{"--layout", "--layouts"}));
  EXPECT_EQ(offered({"bridge-verify", "check", "--level", ""}),
            (std::set<std::string>{"headers", "data", "full"}));
  EXPECT_EQ(offered({"bridge-verify", "check", "--only", "pla"}),
            std::set<std::string>{"placement"});
  EXPECT_EQ(offered({"bridge-verify", "report", "j"}),
            (std::set<std::string>{"json", "jsonl", "junit"}));
  EXPECT_EQ(offered({"bridge-verify", "explain", "BV200"}).count("BV2006"), 1U);
  EXPECT_EQ(offered({"bridge-verify", "doctor", "--tp"}), std::set<std::string>{""});
  EXPECT_EQ(offered({"bridge-verify", "completion", "z"}), std::set<std::string>{"zsh"});
}

TEST(Completion, EveryShellKnowsEveryCommandAndOption) {
  for (const std::string& script : {bash_completion(), zsh_completion(), fish_completion()}) {
    for (const Command& command : commands()) {
      const std::string name(command.name.name);
      EXPECT_EQ(script.find(name) != std::string::npos, !name.starts_with("__")) << name;
    }
  }
  for (const OptionSpec& spec : option_specs()) {
    const std::string name(spec.name);
    const bool listed = spec.listed;
    EXPECT_EQ(zsh_completion().find("--" + name + "[") != std::string::npos, listed) << name;
    EXPECT_EQ(fish_completion().find(" -l " + name + " ") != std::string::npos, listed) << name;
  }
}

TEST(Completion, EachShellThatIsHereReadsItsScript) {
  const TempFolder folder;
  int read = 0;
  for (const auto& [shell, text] :
       {std::pair("bash", bash_completion()), std::pair("zsh", zsh_completion()),
        std::pair("fish", fish_completion())}) {
    if (output_of(std::string("command -v ") + shell + " || true").empty()) {
      continue;
    }
    write_text(folder.path() / shell, text);
    EXPECT_EQ(output_of(std::string(shell) + " -n " + (folder.path() / shell).string() + " 2>&1"),
              "")
        << shell;
    ++read;
  }
  EXPECT_GT(read, 0);
}

TEST(Completion, AnotherShellIsRefused) {
  EXPECT_EQ(run_line({"completion", "zsh"}).out, zsh_completion());
  EXPECT_EQ(run_line({"completion", "tcsh"}).code, 2);
  EXPECT_EQ(run_line({"completion"}).code, 2);
}

/// The lines of a page of man(7): known macros, and no line that only looks like one.
TEST(ManualPage, HasKnownMacrosOnlyAndEveryCommandAndOption) {
  const std::string page = manual_page();
  const std::set<std::string> known = {".TH", ".SH", ".TP", ".B", ".br", ".\\\""};
  std::istringstream lines(page);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with('.') || line.starts_with('\'')) {
      EXPECT_TRUE(known.contains(line.substr(0, line.find(' ')))) << line;
    }
  }
  for (const Command& command : commands()) {
    const std::string name(command.name.name);
    EXPECT_EQ(page.find("\n.B " + name) != std::string::npos, !name.starts_with("__")) << name;
  }
  for (const OptionSpec& spec : option_specs()) {
    std::string name;
    for (const char c : spec.name) {
      name += c == '-' ? "\\-" : std::string(1, c);
    }
    EXPECT_EQ(page.find("\\-\\-" + name + "\\fR") != std::string::npos, spec.listed) << name;
  }
}

TEST(ManualPage, EqualsTheCommittedOne) {
  EXPECT_EQ(manual_page(),
            support::file_text(std::filesystem::path(BV_ROOT) / "docs/man/bridge-verify.1"))
      << "run bridge-verify __dump-man docs/man/bridge-verify.1";
}

}  // namespace
}  // namespace bv::cli
