// Families of --families that expand without end, that hold control characters, and whose own
// numbers are wrong.

#include <gmock/gmock.h>
#include <signal.h>

#include <nlohmann/json.hpp>

#include "tests/e2e/lumen.hpp"

namespace bv::e2e {
namespace {

using nlohmann::ordered_json;
using ::testing::HasSubstr;
using ::testing::Not;

class HostileFamily : public Families {
 protected:
  /// The family of the how-to, changed.
  void edit(const std::function<void(ordered_json&)>& change) {
    ordered_json family = ordered_json::parse(family_of_howto());
    change(family);
    write(family.dump());
  }
  void expect_refused(const std::string& says, const std::string& at = "lumen_moe.json") const {
    const Ended ended = check({"--tp", "1", "-q"});
    EXPECT_EQ(ended.code, 5) << ended.all();
    EXPECT_EQ(ended.word(), "INPUT") << ended.all();
    EXPECT_THAT(ended.flat(), HasSubstr("error[BV7011]"));
    EXPECT_THAT(ended.flat(), HasSubstr(says));
    EXPECT_THAT(ended.flat(), HasSubstr(at));
    EXPECT_THAT(ended.flat(), Not(HasSubstr("config.json")));
    EXPECT_THAT(ended.all(), Not(HasSubstr("\n   |  \n")));
  }
};

void double_names(ordered_json& family, int times, bool backwards) {
  ordered_json names = {{"D", "{M}decoder.layers.{i}."}, {"L", "{HF}layers.{i}."}};
  for (int i = 0; i <= times; ++i) {
    const int k = backwards ? times - i : i;
    const std::string next = "{Z" + std::to_string(k + 1) + "}";
    names["Z" + std::to_string(k)] = k == times ? std::string("abc") : next + next;
  }
  names["NORM2"] = "{Z0}";
  names["SHARED"] = "x";
  family["sections"][1]["names"] = names;
}

TEST_F(HostileFamily, NamesThatDoubleAreRefusedAtOnce) {
  for (const bool backwards : {false, true}) {
    edit([&](ordered_json& family) { double_names(family, 39, backwards); });
    expect_refused("makes a name too long", "sections[1].names.");
  }
}

TEST_F(HostileFamily, NamesAndPrefixesOfThemselvesAreRefused) {
  edit([](ordered_json& family) { family["sections"][1]["names"]["L"] = "{L}{L}"; });
  expect_refused("a name is made of itself, at sections[1].names.L");
  edit([](ordered_json& family) { family["prefixes"]["M"] = "{M}{M}"; });
  expect_refused("a prefix is plain text, at prefixes.M");
  edit([](ordered_json& family) { family["prefixes"]["M"] = std::string(5000, 'x') + "."; });
  expect_refused("a prefix is plain text, at prefixes.M");
}

TEST_F(HostileFamily, ATableThatIsUsedAgainAndAgainIsRefused) {
  edit([](ordered_json& family) {
    for (int i = 0; i < 3000; ++i) {
      family["sections"][1]["use"].push_back("lumen_router");
    }
    for (int i = 0; i < 1000; ++i) {
      family["tables"]["lumen_router"]["rules"].push_back(
          family["tables"]["lumen_router"]["rules"][0]);
    }
  });
  expect_refused("the family grows too large here", "20000 entries");
}

/// ESC, BEL, an override of direction, and a carriage return.
const std::string kRaw = "\x1b[31m\x07\xe2\x80\xae\r";

void expect_printable(const Ended& ended, const std::string& command) {
  for (const std::string raw : {"\x1b", "\x07", "\xe2\x80\xae", "\r"}) {
    EXPECT_EQ(ended.all().find(raw), std::string::npos) << command << "\n" << ended.all();
  }
}

TEST_F(HostileFamily, NoCommandPrintsItsControlCharacters) {
  edit([](ordered_json& family) {
    family["doc"] = "doc" + kRaw;
    family["architectures"].push_back("Lumen" + kRaw);
    family["model_types"].push_back("lumen" + kRaw);
    family["unsupported"].push_back(
        {{"glob", "*router*"}, {"because", "because" + kRaw}, {"help", "help" + kRaw}});
    for (auto& section : family["sections"]) {
      section["title"] = "title" + kRaw;
    }
  });
  const Words families = {"--families", folder_ / "families"};
  const Words model = {"--model", folder_ / "lumen"};
  std::vector<Words> lines = {{"models", "list"},
                              {"models", "list", "--json"},
                              {"models", "show", "lumen_moe", "--json"},
                              {"rules", "show", "lumen_moe", "--as-rules"},
                              {"models", "show", "lumen_moe"},
                              {"rules", "show", "lumen_moe"},
                              Words{"check", "--tp", "1"} + model,
                              Words{"inspect"} + model,
                              Words{"config"} + model,
                              Words{"layout"} + model + Words{"--tp", "1"}};
  for (const std::string format : {"markdown", "html", "sarif", "junit", "github", "gitlab", "csv",
                                   "plain", "ctrf", "json", "jsonl", "card"}) {
    lines.push_back(Words{"check", "--tp", "1", "--format", format} + model);
  }
  for (const Words& line : lines) {
    const Ended ended = run(line + families);
    EXPECT_FALSE(ended.all().empty()) << line[0];
    expect_printable(ended, line[0] + " " + line[1] + " " + line.back());
  }
  edit([](ordered_json& family) {
    family.erase("unsupported");
    for (auto& rule : family["tables"]["lumen_router"]["rules"]) {
      rule["megatron"] = rule["megatron"].get<std::string>() + kRaw;
    }
    family["tables"]["lumen_router"]["constraints"] = {{{"code", "E010" + kRaw},
                                                        {"divisor", "tp"},
                                                        {"dividend", "num_heads * 0 + 1"},
                                                        {"noun", "noun" + kRaw}}};
  });
  lines.push_back(Words{"check", "--tp", "2"} + model);
  lines.push_back(Words{"convert", "--to", "megatron", "--tp", "1", "--out", folder_ / "o"} +
                  model);
  for (const Words& line : lines) {
    expect_printable(run(line + families), line[0] + " " + line[1] + " " + line.back());
  }
}

TEST_F(HostileFamily, ItsNameIsAName) {
  for (const std::string name : {"lumen\x1b[31m", "", "a b", "../x", "lumen.moe"}) {
    edit([&](ordered_json& family) { family["family"] = name; });
    expect_refused("this cannot be the name of a family");
  }
}

TEST_F(HostileFamily, ANumberOfItsOwnIsItsOwnFault) {
  for (const std::string value :
       {"9223372036854775807 * 9223372036854775807", "1 // 0", "num_hidden_layers / 0", "2 - 2"}) {
    edit([&](ordered_json& family) { family["symbols"]["boom"] = {{"value", value}}; });
    expect_refused("symbol boom");
  }
  edit([](ordered_json& family) { family["sections"][1]["over"]["i"] = "99999999"; });
  expect_refused("is repeated 99999999 times");
}

/// What a number of the config makes too large names both.
TEST_F(HostileFamily, ANumberThatTheConfigMakesTooLargeNamesBoth) {
  edit([](ordered_json& family) {
    family["symbols"]["boom"] = {{"value", "9223372036854775807 * num_hidden_layers"}};
  });
  const Ended ended = check({"--tp", "1", "-q"});
  EXPECT_EQ(ended.code, 5) << ended.all();
  EXPECT_THAT(ended.flat(), HasSubstr("error[BV7038]"));
  EXPECT_THAT(ended.flat(), HasSubstr("lumen_moe.json: symbol boom"));
  EXPECT_THAT(ended.flat(), HasSubstr("num_hidden_layers"));
}

TEST_F(HostileFamily, TooManyRepetitionsOfItsOwnAreNotTheConfigs) {
  edit([](ordered_json& family) { family["sections"][1]["over"]["i"] = "65536"; });
  const Ended ended = check({"--tp", "1", "-q"});
  EXPECT_EQ(ended.code, 5) << ended.all();
  EXPECT_THAT(ended.flat(), Not(HasSubstr("config.json asks")));
  EXPECT_THAT(ended.flat(), HasSubstr("lumen_moe.json"));
}

TEST_F(Families, OneFolderCountsOnceHoweverItIsWritten) {
  std::filesystem::create_directory_symlink(folder_ / "families", folder_ / "link");
  for (const std::string again : {"families", "./families/", "link", "lumen/../families"}) {
    const Ended ended =
        check({"--families", folder_ / again, "--tp", "1", "--only", "names", "-q"});
    EXPECT_EQ(ended.code, 0) << again << ended.all();
  }
}

}  // namespace
}  // namespace bv::e2e
