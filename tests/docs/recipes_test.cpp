// The recipes of docs/howto: the files that they list are there, are as many as the design
// promises, and are all that mention the worked example.

#include <gtest/gtest.h>

#include <regex>

#include "tests/docs/pages.hpp"

namespace bv::docs {
namespace {

/// One row of a recipe: a file to change, a file that was changed so, and a text that it got then.
struct Step {
  std::string file;
  std::string example;
  std::string holds;
};

struct Recipe {
  std::vector<Step> must;  // under "Files"
  std::vector<Step> may;   // under "Also, ..."
  std::size_t said = 0;    // "files: N"
};

std::vector<Step> steps(const std::string& text) {
  std::vector<Step> out;
  for (const std::vector<std::string>& row : table(text)) {
    EXPECT_EQ(row.size(), 4U);
    if (row.size() == 4) {
      out.push_back({code(row[0]), code(row[2]), code(row[3])});
    }
  }
  return out;
}

std::size_t number_after(const std::string& text, const std::string& word) {
  const std::size_t at = text.find("\n" + word);
  return at == std::string::npos ? 0 : std::stoul(text.substr(at + 1 + word.size()));
}

Recipe recipe(const std::string& name) {
  const std::string page = read("docs/howto/" + name + ".md");
  const std::string files = section(page, "Files");
  return {steps(files), steps(section(page, "Also")), number_after("\n" + files, "files: ")};
}

/// What is wrong with a row; "" when its example is there and holds its text.
std::string fault_of(const Step& step) {
  std::string all;
  for (const std::string& path : expanded(step.example)) {
    const std::string text = read(path);
    if (text.empty()) {
      return path + " is not there";
    }
    all += text;
  }
  return all.find(step.holds) == std::string::npos ? step.example + " does not hold " + step.holds
                                                   : "";
}

/// How many files each recipe may ask for. A recipe that needs one more is a fault of the design.
struct Promise {
  const char* name;
  std::size_t files;
  friend std::ostream& operator<<(std::ostream& out, const Promise& promise) {
    return out << promise.name;
  }
};
constexpr Promise kPromises[] = {{"add-a-family", 1},
                                 {"add-a-kind", 3},
                                 {"add-a-claim", 2},
                                 {"add-a-report-format", 2},
                                 {"add-a-container-format", 5}};

class Recipes : public testing::TestWithParam<Promise> {};
INSTANTIATE_TEST_SUITE_P(All, Recipes, testing::ValuesIn(kPromises), [](const auto& row) {
  return std::regex_replace(std::string(row.param.name), std::regex("-"), "_");
});

TEST_P(Recipes, ListsAsManyFilesAsTheDesignPromises) {
  const Recipe found = recipe(GetParam().name);
  EXPECT_EQ(found.must.size(), GetParam().files);
  EXPECT_EQ(found.said, GetParam().files);
}

TEST_P(Recipes, EveryFileOfTheWorkedExampleIsThereAndHoldsItsRow) {
  const Recipe found = recipe(GetParam().name);
  for (const std::vector<Step>& part : {found.must, found.may}) {
    for (const Step& step : part) {
      EXPECT_EQ(fault_of(step), "") << step.file;
    }
  }
}

TEST_P(Recipes, AreLinkedFromTheArchitectureAndFromContributing) {
  const std::string page = "docs/howto/" + std::string(GetParam().name) + ".md";
  EXPECT_NE(read("CONTRIBUTING.md").find(page), std::string::npos);
  EXPECT_NE(read("docs/reference/architecture.md").find("../" + page.substr(5)), std::string::npos);
}

TEST(RecipeCheck, SeesAFileThatIsNotThereAndARowThatIsMissing) {
  EXPECT_EQ(fault_of({"", "core/families/no_such_family.json", "x"}),
            "core/families/no_such_family.json is not there");
  EXPECT_EQ(fault_of({"", "core/families/{mixtral,no_such}.json", "{"}),
            "core/families/no_such.json is not there");
  EXPECT_EQ(fault_of({"", "core/families/mixtral.json", "no such text"}),
            "core/families/mixtral.json does not hold no such text");
}

/// Files of the product that mention something.
std::set<std::string> mentions(const std::string& pattern,
                               const std::vector<std::string>& folders) {
  std::set<std::string> out;
  const std::regex wanted(pattern);
  for (const std::string& path : text_files(folders)) {
    const std::string text = read(path);
    if (std::regex_search(text, wanted)) {
      out.insert(path);
    }
  }
  return out;
}

const std::vector<std::string>& product() {
  static const std::vector<std::string> folders = {"core",    "oracles", "properties",
                                                   "reports", "ci",      "fixtures/maker"};
  return folders;
}

/// Every file of `found` is in the recipe, and every file that the recipe demands is in `found`.
void expect_whole(const Recipe& recipe, std::set<std::string> found) {
  for (const Step& step : recipe.must) {
    for (const std::string& path : expanded(step.example)) {
      EXPECT_EQ(found.erase(path), 1U) << path << " does not mention the example";
    }
  }
  for (const Step& step : recipe.may) {
    for (const std::string& path : expanded(step.example)) {
      found.erase(path);
    }
  }
  for (const std::string& path : found) {
    ADD_FAILURE() << path << " mentions the example, and the recipe does not name it";
  }
}

TEST(FamilyRecipe, NamesEveryFileThatMentionsTheExample) {
  expect_whole(recipe("add-a-family"), mentions("\"mixtral\"", product()));
}

/// The words that lines of code hold as text, comments left out.
std::string without_comments(const std::string& source) {
  return std::regex_replace(source, std::regex("//[^\n]*"), "");
}

TEST(FamilyRecipe, NoCodeNamesAFamily) {
  std::vector<std::string> families;
  for (const std::string& path : text_files({"core/families"})) {
    if (path.ends_with(".json") && path.find("/tables/") == std::string::npos) {
      families.push_back(std::filesystem::path(path).stem().string());
    }
  }
  EXPECT_GE(families.size(), 18U);
  for (const std::string& path :
       text_files({"core", "properties", "reports", "ci", "fixtures/maker"})) {
    if (!path.ends_with(".cpp") && !path.ends_with(".hpp")) {
      continue;
    }
    const std::string text = without_comments(read(path));
    for (const std::string& family : families) {
      EXPECT_EQ(text.find("\"" + family + "\""), std::string::npos) << path << " names " << family;
    }
  }
}

TEST(ClaimRecipe, NamesEveryFileThatMentionsTheExample) {
  std::set<std::string> found = mentions("check_offsets|count_offsets|\"offsets\"", product());
  std::erase_if(found, [](const std::string& path) {  // a field of .metadata has that name
    return path.starts_with("core/torch_dist/");
  });
  expect_whole(recipe("add-a-claim"), found);
}

TEST(KindRecipe, EveryKindHasItsStatement) {
  const std::string statements = read("tests/properties/oracle_kinds_test.cpp");
  static const std::regex kLine("(^|\n)([a-z][a-z_0-9]*)  ");
  const std::string kinds = read("core/kinds/kinds.layout");
  std::size_t count = 0;
  for (std::sregex_iterator at(kinds.begin(), kinds.end(), kLine), end; at != end; ++at, ++count) {
    const std::string kind = (*at)[2];
    EXPECT_NE(statements.find("\"" + kind + "\""), std::string::npos) << kind;
  }
  EXPECT_GE(count, 20U);
}

TEST(ContainerRecipe, NamesEveryRoomThatReadsTensorsOfACheckpoint) {
  const std::string rooms =
      section(read("docs/howto/add-a-container-format.md"), "Rooms that read its tensors");
  std::set<std::string> listed;
  for (const std::vector<std::string>& row : table(rooms)) {
    listed.insert(code(row[0]));
  }
  std::set<std::string> found;
  for (const std::string& path : mentions("io::Checkpoint|io::StoredTensor", product())) {
    const std::size_t slash = path.find('/');
    found.insert(path.substr(0, path.find('/', slash + 1)));
  }
  EXPECT_EQ(listed, found);
  EXPECT_EQ(number_after(rooms, "rooms: "), found.size());
}

}  // namespace
}  // namespace bv::docs
