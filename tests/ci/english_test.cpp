// What a user can come to read: no constructions that English does not have, no ids of our own
// documents, nothing that leads to what does not exist.

#include <gtest/gtest.h>

#include <optional>
#include <regex>
#include <set>
#include <sstream>

#include "tests/ci/source_literals.hpp"
#include "tests/support/files.hpp"
#include "tests/support/golden_text.hpp"

namespace bv::cli {
namespace {

struct Rule {
  const char* name;
  const char* word;  // of every match, so that most lines need no regular expression
  std::regex pattern;
  std::optional<std::regex> allowed = {};  // what the pattern also finds and may stay
};

const std::vector<Rule>& rules() {
  // "there is no X" and "has no X" are English; "X is no Y" is not.
  static const std::vector<Rule> kRules = {
      {"X is no Y", " no ",
       std::regex(R"((?:^|[^e] |[^r]e |\} )(?:is|are|was) no (?!longer|more|fewer|less))"),
       std::regex(R"(there (?:is|are|was) no )")},
      {"stands for appears", "stand",
       std::regex(R"(\bstands? (?:twice|once|on|in|where|elsewhere|under|above|only)\b)"),
       std::regex(R"(\bstands? in for\b)")},
      {"wants for needs", "want", std::regex(R"(\bwants? (?:(?:a|an|two|the)\b|\{))")},
      {"takes no word", "takes no word", std::regex(R"(\btakes no word\b)")},
      {"mend", "mend", std::regex(R"(\bmend\b)")},
      {"told apart", "told apart", std::regex(R"(\btold apart\b)")},
      {"cannot be kept by", "cannot be kept", std::regex(R"(\bcannot be kept\b)")},
      {"an id of our documents", "0", std::regex(R"(\b[EW]0[0-7][0-9]\b)"),
       // the rows of semantics.md that define them
       std::regex(R"(^\| (?:[EW]0[0-7][0-9](?:, )?)+ \|)")},
      {"a count without bv::counted", "{} ",
       std::regex(
           R"(^\{\} (?:[A-Za-z]+ )?(?:tensor|file|shard|layer|expert|rule|byte|row|element|rank|value)s$)")},
      {"a module that does not exist", "python -m",
       std::regex(R"(python -m bridge_verify(?!\.(?:export|headers)\b))")},
  };
  return kRules;
}

/// Sources with the key of the constraint that padding lifts, which is not printed.
const std::set<std::string, std::less<>> kKeys = {"core/plan/legality.cpp",
                                                  "core/foreign/foreign_line.cpp"};

std::vector<std::string> faults(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    for (const Rule& rule : rules()) {
      if (line.find(rule.word) == std::string::npos) {
        continue;
      }
      const std::string rest = rule.allowed ? std::regex_replace(line, *rule.allowed, "") : line;
      if (std::regex_search(rest, rule.pattern)) {
        out.push_back(std::string(rule.name) + ": " + line);
      }
    }
  }
  return out;
}

TEST(English, OfEveryLiteralOfTheProduct) {
  const auto sources = testing::source_literals();
  EXPECT_GT(sources.size(), 200U);
  for (const auto& [path, text] : sources) {
    for (const std::string& fault : faults(text)) {
      if (!kKeys.contains(path) || fault != "an id of our documents: E023") {
        ADD_FAILURE() << path << ": " << fault;
      }
    }
  }
}

TEST(English, OfEveryGoldenTextAndEveryPage) {
  namespace fs = std::filesystem;
  const fs::path root = fs::path(BV_FIXTURES).parent_path();
  for (const char* folder : {"fixtures/text", "docs/codes", "docs/reference"}) {
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      if (entry.is_regular_file()) {
        for (const std::string& fault : faults(support::file_text(entry.path()))) {
          ADD_FAILURE() << entry.path() << ": " << fault;
        }
      }
    }
  }
}

TEST(English, TheLintSeesWhatItForbids) {
  std::set<std::string, std::less<>> seen;
  for (const char* text :
       {"\"x\" is no index", "it is no rules file", "{} is no element type",
        "tensor x stands twice", "rule {} wants {} axes", "diff wants two checkpoints",
        "help takes no word", "mend that line", "they cannot be told apart",
        "the file cannot be kept", "E018: TP=3 does not divide 4", "python -m bridge_verify_export",
        "{} files"}) {
    const std::vector<std::string> found = faults(text);
    ASSERT_EQ(found.size(), 1U) << text;
    seen.insert(found[0].substr(0, found[0].find(": ")));
  }
  for (const Rule& rule : rules()) {
    EXPECT_TRUE(seen.contains(rule.name)) << rule.name;
  }
  for (const char* text :
       {"there is no config.json", "the file has no end", "it is no longer there", "the standard",
        "it stands in for a checkpoint", "| E017, E018 | EP does not divide the experts |",
        "TE0105", "amended", "wanted a file", "{} of {} rows"}) {
    EXPECT_TRUE(faults(text).empty()) << text;
  }
}

/// A block that says found and wanted says two different things, and no element wants what it has.
/// "1 tensors", "1 HF tensors": counts that no helper made (bv::counted).
std::vector<std::string> ones_of_many(const std::string& text) {
  static const std::regex kOne(R"((?:^|[ ("/])1 ((?:[A-Za-z]+ )?[a-z]+s)\b)");
  static const std::regex kNoNoun(
      R"((?:[a-z]+ )?(?:is|was|has|does|holds|lists|of|as|its|this|[a-z]*ss)$)");
  std::vector<std::string> out;
  for (std::sregex_iterator at(text.begin(), text.end(), kOne), end; at != end; ++at) {
    const std::string noun = (*at)[1];
    if (!std::regex_match(noun, kNoNoun)) {
      out.push_back("1 " + noun);
    }
  }
  return out;
}

TEST(GoldenTexts, OneIsNeverMany) {
  std::size_t files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(BV_FIXTURES) / "text")) {
    if (entry.is_regular_file()) {
      ++files;
      EXPECT_EQ(ones_of_many(support::file_text(entry.path())), std::vector<std::string>{})
          << entry.path();
    }
  }
  EXPECT_GT(files, 20U);
  EXPECT_EQ(ones_of_many("names 1 HF tensors; (1 files) 21 rows, 1 shard is, rank 1 holds; 1 of 2"),
            (std::vector<std::string>{"1 HF tensors", "1 files"}));
}

TEST(GoldenTexts, NoFactSaysThatFoundIsWanted) {
  namespace fs = std::filesystem;
  const auto value = [](const std::string& text, const std::string& key, std::size_t from) {
    const std::size_t at = text.find("\n   = " + key, from);
    const std::size_t begin = at == std::string::npos ? at : at + 6 + key.size();
    return at == std::string::npos ? std::string()
                                   : text.substr(begin, text.find('\n', begin) - begin);
  };
  std::size_t pairs = 0;
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(BV_FIXTURES) / "text")) {
    const std::string text = entry.is_regular_file() ? support::file_text(entry.path()) : "";
    for (std::size_t at = text.find("\n   = found"); at != std::string::npos;
         at = text.find("\n   = found", at + 1)) {
      EXPECT_NE(value(text, "found   ", at), value(text, "wanted  ", at)) << entry.path();
      ++pairs;
    }
    static const std::regex kPair(R"(wanted ([^,\n]+), found ([^\n]+))");
    std::smatch first;
    std::string rest = text;
    while (std::regex_search(rest, first, kPair)) {
      EXPECT_NE(first[1], first[2]) << entry.path();
      rest = first.suffix();
    }
    EXPECT_EQ(text.find("wants zero padding, has zero padding"), std::string::npos);
  }
  EXPECT_GT(pairs, 5U);
}

}  // namespace
}  // namespace bv::cli
