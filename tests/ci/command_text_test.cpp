// Lines that we print to be copied: what a shell makes of them is what the options were.

#include "ci/cli/options/command_text.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <random>

#include "ci/cli/command.hpp"
#include "tests/ci/command_lines.hpp"

namespace bv::cli {
namespace {

using testing::parse_line;
using testing::shell_words;

/// The words that a real shell hands to a program.
std::vector<std::string> bash_words(const std::string& line) {
  std::vector<std::string> out;
  const std::string script = "printf '%s\\0' " + line;
  int ends[2] = {-1, -1};
  EXPECT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], STDOUT_FILENO);
    ::close(ends[0]);
    ::execl("/bin/bash", "bash", "--norc", "-c", script.c_str(), static_cast<char*>(nullptr));
    ::_exit(127);
  }
  ::close(ends[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t n = 0; (n = ::read(ends[0], buffer, sizeof buffer)) > 0;) {
    text.append(buffer, static_cast<std::size_t>(n));
  }
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0) << line;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\0', at);
    out.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

using Given = std::vector<std::pair<std::string, std::string>>;

Given given(const Options& options) {
  Given out;
  for (const Setting& setting : options.given) {
    out.emplace_back(setting.name, setting.text);
  }
  return out;
}

/// Values that a careless printer breaks on.
const std::vector<std::string>& nasty() {
  static const std::vector<std::string> words = {
      "my model",  "it's",      "a\"b",     "*x*",        "-dash",      "--long",
      "$HOME",     "`id`",      "a;b",      "~",          "=x",         "back\\slash",
      "tab\there", "new\nline", "\x1b[2J",  "m\u00f6del", "\u202ename", "a#b",
      "{a,b}",     "!x",        "\xff\xfe", "a=b",        "[0-9]",      "x y'z\" $w"};
  return words;
}

std::string value_of(const OptionSpec& spec, std::mt19937& random) {
  const auto pick = [&random](const auto& list) { return list[random() % list.size()]; };
  switch (spec.form) {
    case Form::Choice: {
      std::vector<std::string> choices;
      std::string all(spec.value);
      for (std::size_t at = 0; at <= all.size();) {
        const std::size_t end = std::min(all.find('|', at), all.size());
        choices.push_back(all.substr(at, end - at));
        at = end + 1;
      }
      return pick(choices);
    }
    case Form::Positive:
    case Form::Unsigned:
      return std::to_string(1 + random() % 9);
    case Form::Sizes:
      return pick(std::vector<std::string>{"1,2", "1..8", "4"});
    case Form::Pair:
      return "a.b=" + pick(nasty());
    default:
      return pick(nasty());
  }
}

/// A random command line that the parser takes; every word is an option of check.
std::vector<std::string> random_line(std::mt19937& random) {
  std::vector<std::string> out = {"check"};
  for (const OptionSpec& spec : option_specs()) {
    if (!spec.listed || spec.group == "common" || !usable_by(spec, "check") || random() % 8 != 0) {
      continue;
    }
    const std::size_t times = repeats(spec.form) ? 1 + random() % 3 : 1;
    for (std::size_t i = 0; i < times; ++i) {
      out.push_back(fmt::format("--{}{}", spec.name,
                                takes_value(spec.form) ? "=" + value_of(spec, random) : ""));
    }
  }
  return out;
}

TEST(CommandText, ParsesToTheSameOptions) {
  std::mt19937 random(7);
  std::size_t parsed = 0;
  std::size_t odd = 0;
  for (int i = 0; i < 4000; ++i) {
    const auto first = parse_line(random_line(random));
    if (!first) {
      continue;  // two of the options contradict each other
    }
    ++parsed;
    const std::string line =
        shell_line(command_words(first->options, [](const OptionSpec&) { return true; }));
    std::vector<std::string> words = shell_words(line);
    ASSERT_EQ(words.front(), "bridge-verify");
    odd += line.find('\'') != std::string::npos ? 1U : 0U;
    words.erase(words.begin());
    const auto again = parse_line(words);
    ASSERT_TRUE(again.has_value()) << line << "\n" << again.error().message;
    ASSERT_EQ(given(again->options), given(first->options)) << line;
    ASSERT_EQ(again->options.command, first->options.command);
  }
  EXPECT_GT(parsed, 500U);
  EXPECT_GT(odd, 200U);
}

TEST(CommandText, OurReaderOfShellWordsIsThatOfBash) {
  const std::string line = shell_line(nasty());
  const std::vector<std::string> words = shell_words(line);
  EXPECT_EQ(std::vector<std::string>(words.begin() + 1, words.end()), nasty()) << line;
  EXPECT_EQ(bash_words(line), words) << line;
  EXPECT_EQ(line.find('\n'), std::string::npos);
  EXPECT_EQ(line.find('\x1b'), std::string::npos);
}

TEST(CommandText, OperandsThatLookLikeOptionsStandLast) {
  const auto parsed = parse_line({"trace", "--model", "x", "--", "--odd", "-1"});
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(shell_line(command_words(parsed->options, [](const OptionSpec&) { return true; })),
            "bridge-verify trace --model x -- --odd -1");
}

TEST(CommandText, ReplayAsksOneClaimOnOneLayout) {
  const auto parsed =
      parse_line({"check", "--model", "my model", "--tp", "2,4", "--match", "a", "--match", "b c",
                  "--skip", "shapes", "-q", "-j", "4", "--out", "r", "--fail-on", "refuted"});
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
  EXPECT_EQ(replay_line(parsed->options, "check", "placement", "tp2pp1ep1etp2"),
            "bridge-verify check --model 'my model' --match a --match 'b c' --only placement "
            "--layout tp2pp1ep1etp2");
  // A claim without a layout keeps those of the run.
  EXPECT_EQ(
      replay_line(parsed->options, "check", "values", ""),
      "bridge-verify check --model 'my model' --tp 2,4 --match a --match 'b c' --only values");
}

TEST(CommandText, ReplayMakesTheEnvironmentExplicit) {
  const auto parsed = parse_line({"check", "--model", "m"}, {{"BRIDGE_VERIFY_RULES", "r.json"}});
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(replay_line(parsed->options, "check", "placement", ""),
            "bridge-verify check --model m --rules r.json --only placement");
}

TEST(CommandText, NextKeepsWhatTheOtherCommandCanUse) {
  const auto parsed = parse_line({"check", "--model", "m", "--rules", "r", "--tp", "2", "--level",
                                  "headers", "--headers=h", "--out", "o"});
  EXPECT_FALSE(parsed.has_value());  // --model and --headers
  const auto right = parse_line({"check", "--model", "m", "--rules", "r", "--tp", "2", "--level",
                                 "headers", "--out", "o", "--waivers", "w.toml"});
  ASSERT_TRUE(right.has_value());
  EXPECT_EQ(next_line(right->options, "roundtrip"),
            "bridge-verify roundtrip --model m --rules r --tp 2 --waivers w.toml");
}

}  // namespace
}  // namespace bv::cli
