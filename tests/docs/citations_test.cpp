// Nothing cites what is not in the repository: files, folders, pages and headings that are named in
// sources and documents exist.

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <sstream>

#include "tests/docs/pages.hpp"

namespace bv::docs {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kTop = {"core",     "oracles", "properties", "reports",
                                       "fixtures", "ci",      "tests",      "docs"};

/// Every file of the repository but build trees and what git keeps for itself.
const std::set<std::string>& repository() {
  static const std::set<std::string> files = [] {
    std::set<std::string> out;
    for (const std::string& top : kTop) {
      for (const auto& entry : fs::recursive_directory_iterator(fs::path(BV_ROOT) / top)) {
        out.insert(fs::relative(entry.path(), BV_ROOT).string());
      }
    }
    for (const auto& entry : fs::directory_iterator(BV_ROOT)) {
      if (entry.is_regular_file()) {
        out.insert(entry.path().filename().string());
      }
    }
    return out;
  }();
  return files;
}

bool has_prefix(const std::string& text) {
  const auto at = repository().lower_bound(text);
  return at != repository().end() && at->starts_with(text);
}

bool has_suffix(const std::string& text) {
  return std::any_of(repository().begin(), repository().end(),
                     [&](const std::string& file) { return file.ends_with("/" + text); });
}

bool is_word_letter(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-' || c == '.' ||
         c == '/';
}

struct Word {
  std::string text;
  std::string after;  // the next 40 characters
};

std::vector<Word> words(const std::string& text) {
  std::vector<Word> out;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t begin = i;
    while (i < text.size() && is_word_letter(text[i])) {
      ++i;
    }
    if (i > begin) {
      out.push_back({text.substr(begin, i - begin), text.substr(i, 40)});
    } else {
      ++i;
    }
  }
  return out;
}

/// "core/families/NAME.json" -> "core/families/": what comes before a word in capitals that a
/// reader fills in. Words that are files as they are stay.
std::string before_placeholder(std::string path) {
  if (repository().contains(path)) {
    return path;
  }
  for (std::size_t i = 0; i + 2 < path.size(); ++i) {
    const auto capital = [&](std::size_t at) {
      return std::isupper(static_cast<unsigned char>(path[at])) != 0;
    };
    if ((capital(i) && capital(i + 1) && capital(i + 2)) || path.substr(i, 4) == "nnnn") {
      return path.substr(0, i);
    }
  }
  return path;
}

std::string without_tail(std::string word) {
  while (!word.empty() && (word.back() == '.' || word.back() == '-' || word.back() == '/')) {
    word.pop_back();
  }
  return word;
}

bool starts_in_a_folder_of_ours(const std::string& word) {
  return std::any_of(kTop.begin(), kTop.end(),
                     [&](const std::string& top) { return word.starts_with(top + "/"); });
}

/// A page by its path, by its place beside the file that cites it, or by its last name alone.
bool is_page(const std::string& word, const std::string& cited_in) {
  const std::string beside = (fs::path(cited_in).parent_path() / word).lexically_normal().string();
  return repository().contains(word) || repository().contains(beside) || has_suffix(word);
}

/// " 5.16", " section 4", ", sections 2": a page by a number, which moves when the page grows.
bool goes_on_with_a_number(const std::string& after) {
  std::istringstream in(after.substr(0, after.find('\n')));
  std::string first, second;
  in >> first >> second;
  const auto digit = [](const std::string& word) {
    return !word.empty() && std::isdigit(static_cast<unsigned char>(word[0])) != 0;
  };
  return after.starts_with(" ") &&
         (digit(first) || (first.starts_with("section") && digit(second)));
}

/// What is wrong with the citations of one file.
std::vector<std::string> faults_of(const std::string& text, const std::string& file) {
  static const std::set<std::string> kElsewhere = {std::string("mapping-") + "semantics",
                                                   std::string("lora-") + "semantics",
                                                   std::string("style-") + "anchors"};
  static const std::set<std::string> kWritten = {"summary.md"};  // a report's file, not a page
  std::vector<std::string> out;
  for (const Word& found : words(text)) {
    const std::string word = without_tail(found.text);
    const std::string path = without_tail(before_placeholder(word));
    if (kElsewhere.contains(word)) {
      out.push_back(word + " is not in the repository");
    } else if (word.ends_with(".md") && word.size() > 3) {
      if (path == word && !kWritten.contains(word) && !is_page(word, file)) {
        out.push_back(word + " is not in the repository");
      } else if (goes_on_with_a_number(found.after)) {
        out.push_back(word + " is cited by a number: cite the heading, as page.md#heading");
      }
    } else if (starts_in_a_folder_of_ours(path) && !has_prefix(path)) {
      out.push_back(path + " is not in the repository");
    } else if ((word == "section" || word == "sections" || word == "Section") &&
               goes_on_with_a_number(found.after)) {
      out.push_back("\"" + word + found.after.substr(0, found.after.find('\n')) +
                    "\" is cited by a number: cite the heading");
    }
  }
  return out;
}

/// Headings that are cited as page.md#heading, and further ones of the same page as ", #heading".
std::vector<std::string> heading_faults(const std::string& text, const std::string& file) {
  static std::map<std::string, std::set<std::string>> known;
  std::vector<std::string> out;
  std::string page;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n' && (i + 1 == text.size() || text[i + 1] == '\n')) {
      page.clear();  // a new paragraph
    }
    if (text[i] != '#' || i == 0 || text[i - 1] == '\n') {  // at the start of a line: not a heading
      continue;
    }
    std::size_t begin = i;
    while (begin > 0 && is_word_letter(text[begin - 1])) {
      --begin;
    }
    std::size_t end = i + 1;
    while (end < text.size() && (std::islower(static_cast<unsigned char>(text[end])) != 0 ||
                                 std::isdigit(static_cast<unsigned char>(text[end])) != 0 ||
                                 text[end] == '-' || text[end] == '_')) {
      ++end;
    }
    const std::string cited = text.substr(begin, i - begin);
    const std::string heading = text.substr(i + 1, end - i - 1);
    if (cited.ends_with(".md")) {
      const std::string beside = (fs::path(file).parent_path() / cited).lexically_normal().string();
      page = repository().contains(cited) ? cited : beside;
    } else if (!cited.empty() || page.empty() || file.ends_with(".md")) {
      continue;
    }
    if (heading.empty() || !repository().contains(page)) {
      continue;
    }
    const auto [entry, fresh] = known.try_emplace(page);
    if (fresh) {
      entry->second = anchors(read(page));
    }
    if (!entry->second.contains(heading)) {
      out.push_back(page + " has no heading #" + heading);
    }
  }
  return out;
}

/// Comments alone of a test: its texts may name files that are not there.
std::string citable(const std::string& file) {
  const std::string text = read(file);
  if (!file.starts_with("tests/") || !(file.ends_with(".cpp") || file.ends_with(".hpp"))) {
    return text;
  }
  std::string out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    const std::size_t at = line.find("//");
    out += (at == std::string::npos ? "" : line.substr(at)) + "\n";
  }
  return out;
}

std::vector<std::string> everything() {
  std::vector<std::string> out = kTop;
  for (const char* file : {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CMakeLists.txt"}) {
    out.emplace_back(file);
  }
  return out;
}

TEST(Citations, NameFilesAndHeadingsThatAreInTheRepository) {
  std::size_t files = 0;
  for (const std::string& file : text_files(everything())) {
    if (file.starts_with("tests/docs/")) {
      continue;  // it names what must not be cited
    }
    const std::string text = citable(file);
    for (const std::string& fault : faults_of(text, file)) {
      ADD_FAILURE() << file << ": " << fault;
    }
    for (const std::string& fault : heading_faults(text, file)) {
      ADD_FAILURE() << file << ": " << fault;
    }
    ++files;
  }
  EXPECT_GT(files, 500U);
}

/// Words of one letter of `letters` and `digits` digits: "E010", "P9".
std::set<std::string> ids(const std::string& text, std::string_view letters, std::size_t least,
                          std::size_t most) {
  std::set<std::string> out;
  for (const Word& found : words(text)) {
    const std::string word = without_tail(found.text);
    if (word.size() > least && word.size() <= most + 1 &&
        letters.find(word[0]) != std::string_view::npos &&
        std::all_of(word.begin() + 1, word.end(), [](char c) { return c >= '0' && c <= '9'; })) {
      out.insert(word);
    }
  }
  return out;
}

std::set<std::string> ids_in(const std::vector<std::string>& folders, std::string_view letters,
                             std::size_t least, std::size_t most) {
  std::set<std::string> out;
  for (const std::string& file : text_files(folders)) {
    out.merge(ids(file.ends_with(".json") ? read(file) : citable(file), letters, least, most));
  }
  return out;
}

TEST(Citations, EveryConditionAndEveryPropertyIsExplained) {
  const std::string page = read("docs/reference/semantics.md");
  const auto conditions = ids(section(page, "Conditions"), "EW", 3, 3);
  for (const std::string& id : ids_in({"core", "tests/conditions"}, "EW", 3, 3)) {
    EXPECT_TRUE(conditions.contains(id)) << id;
  }
  EXPECT_GT(conditions.size(), 50U);
  const auto properties = ids(section(page, "Properties"), "P", 1, 2);
  EXPECT_EQ(ids_in({"tests/properties"}, "P", 1, 2), properties);
}

struct Planted {
  const char* text;
  const char* file;
  const char* fault;  // "" when it is right
};

class CitationCheck : public testing::TestWithParam<Planted> {};
INSTANTIATE_TEST_SUITE_P(
    All, CitationCheck,
    testing::Values(Planted{"// see core/exec/plan.hpp", "core/plan/plan.hpp",
                            "core/exec/plan.hpp is not in the repository"},
                    Planted{"// see core/plan/plan.hpp, core/plan and core/io/checkpoint.{hpp,cpp}",
                            "a.hpp", ""},
                    Planted{"`core/families/NAME.json`", "README.md", ""},
                    Planted{"`core/no_such_folder/NAME.json`", "README.md",
                            "core/no_such_folder is not in the repository"},
                    Planted{"(no_such_page.md)", "docs/reference/cli.md",
                            "no_such_page.md is not in the repository"},
                    Planted{"(ux.md 4)", "core/io/a.hpp", "ux.md is not in the repository"},
                    Planted{"[x](../adr/0001-layers.md), layout.md", "docs/reference/cli.md", ""},
                    Planted{"// docs/reference/formats.md 2.3", "core/io/a.hpp",
                            "docs/reference/formats.md is cited by a number: cite the heading, as "
                            "page.md#heading"},
                    Planted{"the vectors of section 14.", "tests/a.md",
                            "\"section 14.\" is cited by a number: cite the heading"},
                    Planted{"a section of 14 rows", "tests/a.md", ""}));

TEST_P(CitationCheck, SaysWhatIsWrong) {
  const std::vector<std::string> found = faults_of(GetParam().text, GetParam().file);
  EXPECT_EQ(found, GetParam().fault[0] == '\0' ? std::vector<std::string>{}
                                               : std::vector<std::string>{GetParam().fault});
}

TEST(CitationCheck, SeesAHeadingThatAPageDoesNotHave) {
  const std::string page = "docs/reference/semantics.md";
  EXPECT_TRUE(heading_faults(page + "#value-rules, #dtypes", "a.hpp").empty());
  EXPECT_EQ(heading_faults("// " + page + "#no-such and #nor-this\n#include <x>", "a.hpp"),
            (std::vector<std::string>{page + " has no heading #no-such",
                                      page + " has no heading #nor-this"}));
  EXPECT_EQ(heading_faults("[x](semantics.md#no-such)", "docs/reference/cli.md"),
            std::vector<std::string>{page + " has no heading #no-such"});
}

}  // namespace
}  // namespace bv::docs
