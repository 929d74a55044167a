// What a user can come to read: no constructions that English does not have, no ids of our own
// documents, nothing that leads to what does not exist.

#include <gtest/gtest.h>

#include <array>
#include <regex>
#include <set>
#include <sstream>

#include "tests/ci/golden_text.hpp"
#include "tests/ci/source_literals.hpp"

namespace bv::cli {
namespace {

struct Rule {
  const char* name;
  const char* pattern;
  const char* allowed;  // what the pattern also finds and may stay
};

// "there is no X" and "has no X" are English; "X is no Y" is not.
const std::array kRules = {
    Rule{"X is no Y", R"((?:^|[^e] |[^r]e |\} )(?:is|are|was) no (?!longer|more|fewer|less))",
         R"(there (?:is|are|was) no )"},
    Rule{"stands for appears",
         R"(\bstands? (?:twice|once|on|in|where|elsewhere|under|above|only)\b)",
         R"(\bstands? in for\b)"},
    Rule{"wants for needs", R"(\bwants? (?:(?:a|an|two|the)\b|\{))", nullptr},
    Rule{"takes no word", R"(\btakes no word\b)", nullptr},
    Rule{"mend", R"(\bmend\b)", nullptr},
    Rule{"told apart", R"(\btold apart\b)", nullptr},
    Rule{"cannot be kept by", R"(\bcannot be kept\b)", nullptr},
    Rule{"an id of our documents", R"(\b[EW]0[0-7][0-9]\b)",
         R"(^\| (?:[EW]0[0-7][0-9](?:, )?)+ \|)"},  // the rows of semantics.md that define them
    Rule{
        "a count without bv::counted",
        R"(^\{\} (?:[A-Za-z]+ )?(?:tensor|file|shard|layer|expert|rule|byte|row|element|rank|value)s$)",
        nullptr},
    Rule{"a tool that does not exist", R"(python -m bridge_verify|lora check|lora merge)", nullptr},
};

/// Sources with the key of the constraint that padding lifts, which is not printed.
const std::set<std::string, std::less<>> kKeys = {"core/plan/legality.cpp",
                                                  "core/foreign/foreign_line.cpp"};

std::vector<std::string> faults(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    for (const Rule& rule : kRules) {
      std::string rest = line;
      if (rule.allowed != nullptr) {
        rest = std::regex_replace(rest, std::regex(rule.allowed), "");
      }
      if (std::regex_search(rest, std::regex(rule.pattern))) {
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
        for (const std::string& fault : faults(bv::testing::file_text(entry.path()))) {
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
        "run bridge-verify lora check", "{} files"}) {
    const std::vector<std::string> found = faults(text);
    ASSERT_EQ(found.size(), 1U) << text;
    seen.insert(found[0].substr(0, found[0].find(": ")));
  }
  for (const Rule& rule : kRules) {
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
      EXPECT_EQ(ones_of_many(bv::testing::file_text(entry.path())), std::vector<std::string>{})
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
    const std::string text = entry.is_regular_file() ? bv::testing::file_text(entry.path()) : "";
    for (std::size_t at = text.find("\n   = found"); at != std::string::npos;
         at = text.find("\n   = found", at + 1)) {
      EXPECT_NE(value(text, "found   ", at), value(text, "wanted  ", at)) << entry.path();
      ++pairs;
    }
    std::smatch first;
    std::string rest = text;
    while (std::regex_search(rest, first, std::regex(R"(wanted ([^,\n]+), found ([^\n]+))"))) {
      EXPECT_NE(first[1], first[2]) << entry.path();
      rest = first.suffix();
    }
    EXPECT_EQ(text.find("wants zero padding, has zero padding"), std::string::npos);
  }
  EXPECT_GT(pairs, 5U);
}

}  // namespace
}  // namespace bv::cli
