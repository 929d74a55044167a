// Every command line that we print or document is one that the program takes.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <regex>
#include <set>
#include <tuple>

#include "core/base/text.hpp"
#include "tests/ci/command_lines.hpp"
#include "tests/ci/run_command.hpp"
#include "tests/ci/source_literals.hpp"
#include "tests/support/files.hpp"
#include "tests/support/golden_text.hpp"

namespace bv::cli {
namespace {

namespace fs = std::filesystem;
using testing::parse_line;
using testing::run_line;
using testing::shell_words;

const fs::path kRoot = fs::path(BV_FIXTURES).parent_path();

/// Words that end a command line inside a sentence.
const std::set<std::string, std::less<>> kProse = {"lists", "names", "shows", "prints",
                                                   "says",  "wrote", "has",   "or",
                                                   "to",    "and",   "in",    "fetches"};
/// Words after the program's name that make it the subject of a sentence.
const std::set<std::string, std::less<>> kVerbs = {"checks", "does",   "failed",  "found",
                                                   "is",     "itself", "against", "never",
                                                   "wrote",  "or",     "needs",   "that"};

struct Line {
  std::string where;
  std::vector<std::string> words;  // without the program's name
};

/// Command lines in a text, without what follows them in a sentence.
void collect(const std::string& where, const std::string& text, std::vector<Line>& out) {
  static const std::regex kLine(R"(bridge-verify ([^`\n;|()]*))");
  for (std::sregex_iterator at(text.begin(), text.end(), kLine), end; at != end; ++at) {
    std::string tail = (*at)[1];
    while (!tail.empty() && (tail.back() == '.' || tail.back() == '?' || tail.back() == ':')) {
      tail.pop_back();
    }
    std::vector<std::string> words = shell_words(tail);
    words.erase(std::find_if(words.begin(), words.end(),
                             [](const std::string& word) { return kProse.contains(word); }),
                words.end());
    for (std::string& word : words) {
      if (word.ends_with(',') || word.ends_with(':')) {
        word.pop_back();
      }
    }
    if (words.empty() || kVerbs.contains(words.front()) || words.front() == "{}" ||
        tail.find('[') != std::string::npos) {
      continue;
    }
    out.push_back({where, words});
  }
}

std::vector<Line> printed_lines() {
  std::vector<Line> out;
  for (const auto& [path, text] : testing::source_literals()) {
    collect(path, text, out);
  }
  return out;
}

std::vector<Line> documented_lines() {
  std::vector<Line> out;
  std::vector<fs::path> pages = {kRoot / "README.md", kRoot / "CONTRIBUTING.md"};
  for (const auto& entry : fs::recursive_directory_iterator(kRoot / "docs")) {
    if (entry.path().extension() == ".md") {
      pages.push_back(entry.path());
    }
  }
  static const std::regex kCode(R"((?:^|\n|`|/)(bridge-verify [^`\n]*))");
  for (const fs::path& page : pages) {
    const std::string text = support::file_text(page);
    for (std::sregex_iterator at(text.begin(), text.end(), kCode), end; at != end; ++at) {
      collect(page.string(), (*at)[1], out);
    }
  }
  return out;
}

/// True when the program takes the line. A line that is completed by the code that prints it
/// ("bridge-verify rules show ") is tried with a word more.
testing::Ended tried(const Line& line) {
  testing::Ended out;
  for (const auto& [value, more] : {std::pair("x", false), std::pair("x", true),
                                    std::pair("1", false)}) {  // a name, or a number
    std::vector<std::string> words = line.words;
    for (std::string& word : words) {
      word = std::regex_replace(word, std::regex(R"(\{[^}]*\})"), value);
    }
    if (more) {
      words.emplace_back("x");
    }
    const auto parsed = parse_line(words);
    if (parsed) {
      const Command* command = find_command(parsed->options.command);
      const std::vector<std::string> verbs =
          command == nullptr ? std::vector<std::string>() : words_of(command->name.verbs);
      const std::vector<std::string>& operands = parsed->options.operands;
      if (verbs.empty() || operands.empty() ||
          std::find(verbs.begin(), verbs.end(), operands.front()) != verbs.end()) {
        out.code = 0;
        return out;
      }
      out.err = "no subcommand " + operands.front();
      return out;
    }
    out.err += (out.err.empty() ? "" : " / ") + parsed.error().message;
  }
  out.code = 2;
  return out;
}

TEST(CopiedLines, EveryPrintedOneIsTaken) {
  const std::vector<Line> lines = printed_lines();
  EXPECT_GT(lines.size(), 80U);
  for (const Line& line : lines) {
    const testing::Ended ended = tried(line);
    EXPECT_EQ(ended.code, 0) << line.where << ": " << join(line.words, " ") << "\n" << ended.err;
  }
}

TEST(CopiedLines, EveryDocumentedOneIsTaken) {
  const std::vector<Line> lines = documented_lines();
  EXPECT_GT(lines.size(), 20U);
  for (const Line& line : lines) {
    const testing::Ended ended = tried(line);
    EXPECT_EQ(ended.code, 0) << line.where << ": " << join(line.words, " ") << "\n" << ended.err;
  }
}

TEST(CopiedLines, TheCheckSeesAWrongOne) {
  for (const char* text :
       {"run bridge-verify lora train --model DIR", "bridge-verify trace X --resume",
        "bridge-verify check --modle X", "bridge-verify rules dance"}) {
    std::vector<Line> lines;
    collect("here", text, lines);
    ASSERT_EQ(lines.size(), 1U) << text;
    EXPECT_NE(tried(lines[0]).code, 0) << text;
  }
}

/// Those that need no model of the reader's are run.
TEST(CopiedLines, ThoseThatNeedNothingRun) {
  std::vector<Line> lines;
  collect("purpose", purpose_text(), lines);
  for (const Command& command : commands()) {
    collect(std::string(command.name.name), std::string(command.examples), lines);
  }
  std::size_t ran = 0;
  for (const Line& line : lines) {
    const std::string text = join(line.words, " ");
    const bool own =
        text.find("DIR") != std::string::npos || text.find("NAME") != std::string::npos ||
        text.find("./") != std::string::npos || text.find("SHARDS") != std::string::npos;
    const bool slow = text.starts_with("fuzz") || text.starts_with("mutate") ||
                      text.starts_with("fixture make") ||
                      text.find("my_bridge") != std::string::npos;
    if (own || slow) {
      continue;
    }
    const testing::Ended ended = run_line(line.words);
    EXPECT_EQ(ended.code, 0) << text << "\n" << ended.err << ended.out;
    ++ran;
  }
  EXPECT_GE(ran, 8U);
}

/// The first line of a run behind `lead`, as words of a shell without the program.
std::vector<std::string> words_behind(const std::string& text, std::string_view lead) {
  const std::size_t at = text.find(lead);
  EXPECT_NE(at, std::string::npos) << text;
  if (at == std::string::npos) {
    return {};
  }
  const std::size_t begin = at + lead.size();
  std::string line = text.substr(begin, text.find('\n', begin) - begin);
  std::vector<std::string> words = shell_words(line.substr(0, line.find("    ")));
  words.erase(words.begin());
  return words;
}

/// What a run prints to be copied, run: the same verdict again.
TEST(CopiedLines, ReplayAndNextOfAFailureFailAgain) {
  const std::string rules = std::string(BV_FIXTURES) + "/broken/swapped_gate_up.rules.json";
  const testing::Ended ended = run_line({"check", "--model", "fixture:qwen3", "--tp", "2"},
                                        {{"LANG", "C.UTF-8"}, {"BRIDGE_VERIFY_RULES", rules}});
  ASSERT_EQ(ended.code, 1) << ended.err;
  for (const char* lead : {"   = replay  ", "\nnext     "}) {
    const std::vector<std::string> words = words_behind(ended.out, lead);
    const testing::Ended again = run_line(words);
    EXPECT_EQ(again.code, 1) << join(words, " ") << again.err;
    EXPECT_NE(again.out.find("error[BV2006]"), std::string::npos) << again.out;
  }
}

/// Every command that compares: its replay runs, and ends as the run that printed it.
TEST(CopiedLines, AReplayOfEveryComparisonEndsTheSame) {
  const auto golden = [](const std::string& part) { return (testing::kGolden / part).string(); };
  const std::string rules = std::string(BV_FIXTURES) + "/broken/swapped_gate_up.rules.json";
  const std::vector<std::vector<std::string>> lines = {
      {"check", "--model", golden("hf/llama"), "--megatron", golden("torch_dist/qwen3")},
      {"check", "--model", golden("hf/llama"), "--against", golden("hf/llama_tied_kv2")},
      {"diff", golden("hf/llama"), golden("hf/llama_tied_kv2")},
      {"diff", golden("hf/llama"), golden("torch_dist/qwen3")},
      {"roundtrip", "--model", "fixture:qwen3", "--rules", rules, "--tp", "2"},
      {"lora", "check", "--model", golden("peft/llama_all/base"), "--adapter",
       golden("peft/llama_all/adapter"), "--merged", golden("peft/llama_all/base")},
  };
  for (const std::vector<std::string>& line : lines) {
    const testing::Ended ended = run_line(line);
    ASSERT_EQ(ended.code, 1) << join(line, " ") << ended.err << ended.out;
    const std::vector<std::string> words = words_behind(ended.out, "   = replay  ");
    const testing::Ended again = run_line(words);
    EXPECT_EQ(again.code, 1) << join(words, " ") << again.err;
  }
}

TEST(CopiedLines, NextOfAPassMovesTheBytesWithTheSameOptions) {
  const testing::Ended ended = run_line(
      {"check", "--model", "fixture:qwen3", "--tp", "2", "--make-vocab-size-divisible-by", "1"});
  ASSERT_EQ(ended.code, 0) << ended.err << ended.out;
  EXPECT_NE(ended.out.find("next     bridge-verify roundtrip --model fixture:qwen3 --tp 2 "
                           "--make-vocab-size-divisible-by 1"),
            std::string::npos)
      << ended.out;
}

/// Every verb that writes something prints the command that goes on with it, and that command runs
/// green: folders with blanks in their names, options kept, those that files say left out.
TEST(CopiedLines, NextOfEveryVerbThatWritesRuns) {
  const auto peft = [](const std::string& name, const std::string& part) {
    return (testing::kGolden / "peft" / name / part).string();
  };
  using Words = std::vector<std::string>;
  const auto on = [&](const std::string& name) {
    return Words{"--model", peft(name, "base"), "--adapter", peft(name, "adapter")};
  };
  const testing::TempFolder temp;
  const auto out = [&](const std::string& name) { return (temp.path() / name).string(); };
  const std::string ranks = out("the ranks");
  const std::vector<std::tuple<Words, Words, std::string>> lines = {
      {{"lora", "merge"}, on("llama_all"), "lora check"},
      {{"lora", "merge", "--untie"}, on("tied_embed"), "lora check"},
      {{"lora", "merge"}, on("lora_bias_true"), "lora check"},
      {{"lora", "merge"}, on("gpt2_conv1d"), "lora check"},
      {{"lora", "convert", "--to", "megatron", "--tp", "2", "--pp", "2"},
       on("llama_all"),
       "lora check"},
      {{"lora", "slice", "--tp", "2"}, on("llama_all"), "lora check"},
      {{"lora", "unpack"}, on("qwen3_moe_named_targets"), "lora check"},
      {{"lora", "unpack"}, on("qwen35_moe_down_only"), "lora slice"},
      {{"fixture", "make", "qwen3_moe"}, {}, "check"}};
  int number = 0;
  for (const auto& [verb, files, wanted] : lines) {
    Words line = verb;
    line.insert(line.end(), files.begin(), files.end());
    line.insert(line.end(), {"--out", out("my out " + std::to_string(number++))});
    const testing::Ended ended = run_line(line);
    ASSERT_EQ(ended.code, 0) << join(line, " ") << ended.err << ended.out;
    const Words words = words_behind(ended.out, "next     ");
    EXPECT_EQ(join(words, " ").rfind(wanted + " --model ", 0), 0U) << join(words, " ");
    const testing::Ended next = run_line(words);
    EXPECT_EQ(next.code, 0) << join(words, " ") << next.err << next.out;
  }
  Words line = {"lora", "convert", "--to", "megatron", "--tp", "2", "--out", ranks};
  const Words files = on("llama_all");
  line.insert(line.end(), files.begin(), files.end());
  ASSERT_EQ(run_line(line).code, 0);
  const testing::Ended back = run_line({"lora", "convert", "--to", "hf", "--model", files[1],
                                        "--adapter", ranks, "--out", out("back")});
  ASSERT_EQ(back.code, 0) << back.err << back.out;
  const Words words = words_behind(back.out, "next     ");
  const testing::Ended next = run_line(words);
  EXPECT_EQ(next.code, 0) << join(words, " ") << next.err << next.out;
}

/// What was not read back is not called right, and leads nowhere.
TEST(CopiedLines, ARunThatIsUndecidedPrintsNoNext) {
  const testing::TempFolder temp;
  const testing::Ended ended =
      run_line({"lora", "merge", "--no-verify", "--model",
                (testing::kGolden / "peft/llama_all/base").string(), "--adapter",
                (testing::kGolden / "peft/llama_all/adapter").string(), "--out",
                (temp.path() / "out").string()});
  EXPECT_EQ(ended.code, 3) << ended.out;
  EXPECT_EQ(ended.out.find("next     "), std::string::npos) << ended.out;
}

}  // namespace
}  // namespace bv::cli
