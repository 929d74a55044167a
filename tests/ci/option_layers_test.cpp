// Options from the environment and from settings files, beside those of the command line.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/ci/parse_options.hpp"

namespace bv::cli {
namespace {

using Sizes = std::vector<std::int64_t>;

TEST(Environment, GivesEveryLongOption) {
  const Options options = parsed({"check"}, {{"BRIDGE_VERIFY_TP", "1,2"},
                                             {"BRIDGE_VERIFY_EXPERT_TENSOR_PARALLEL_SIZE", "1"},
                                             {"BRIDGE_VERIFY_JSON", "1"}});
  EXPECT_EQ(options.tp, (Sizes{1, 2}));
  EXPECT_EQ(options.etp, Sizes{1});
  EXPECT_EQ(options.format, "json");
  EXPECT_EQ(parsed({}, {{"BRIDGE_VERIFY_MODEL", "x"}}).command, "check");
}

TEST(Environment, LosesAgainstOptions) {
  EXPECT_EQ(parsed({"check", "--tp", "4"}, {{"BRIDGE_VERIFY_TP", "2"}}).tp, Sizes{4});
  EXPECT_TRUE(parsed({"check", "--layout", "tp4"}, {{"BRIDGE_VERIFY_TP", "2"}}).tp.empty());
  EXPECT_EQ(parsed({"check", "--json"}, {{"BRIDGE_VERIFY_FORMAT", "plain"}}).format, "json");
}

TEST(Environment, BadValuesNameTheVariable) {
  const Error error = refused({"check"}, {{"BRIDGE_VERIFY_TP", "0"}});
  EXPECT_EQ(error.message, "BRIDGE_VERIFY_TP=0 is not a positive number");
  EXPECT_EQ(refused({"check"}, {{"BRIDGE_VERIFY_JSON", "perhaps"}}).code, Code::BadValue);
  EXPECT_EQ(
      refused({"check"}, {{"BRIDGE_VERIFY_TP", "1"}, {"BRIDGE_VERIFY_TENSOR_PARALLEL_SIZE", "2"}})
          .code,
      Code::Conflict);
}

/// A variable of a CI image that says which version is installed would make every check a success.
TEST(Environment, CannotAskForWhatAnswersInPlaceOfACheck) {
  for (const char* name : {"BRIDGE_VERIFY_VERSION", "BRIDGE_VERIFY_HELP"}) {
    for (const char* value : {"1", "0", "0.1.0"}) {
      const Error error = refused({"check", "--model", "m"}, {{name, value}});
      EXPECT_EQ(error.code, Code::BadValue);
      EXPECT_NE(error.message.find("can only be given on the command line"), std::string::npos);
      EXPECT_NE(error.help.find(std::string("unset ") + name), std::string::npos);
    }
  }
  EXPECT_TRUE(parse({"--help"}, {{"BRIDGE_VERIFY_HELP", "1"}})->options.help);
}

TEST(Environment, OptionsOfOtherCommandsAreLeftAlone) {
  EXPECT_FALSE(parsed({"check"}, {{"BRIDGE_VERIFY_RESUME", "1"}}).resume);
  const auto result = parse({"check"}, {{"BRIDGE_VERIFY_MODLE", "x"}});
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->notes,
            std::vector<std::string>{
                "environment variable BRIDGE_VERIFY_MODLE names no option and is not used"});
}

SettingsText file(std::string text) {
  return {"bridge-verify.toml", std::move(text)};
}

Options with_file(const std::string& text, std::vector<std::string> arguments = {"check"}) {
  const auto result = parse(std::move(arguments), {}, {file(text)});
  EXPECT_TRUE(result.has_value()) << (result ? "" : result.error().message);
  return result ? result->options : Options{};
}

Error bad_file(const std::string& text) {
  const auto result = parse({"check"}, {}, {file(text)});
  EXPECT_FALSE(result.has_value()) << text;
  return result ? fail(Code::Assertion, "was accepted") : result.error();
}

TEST(SettingsFile, SaysWhatTheCommandLineCouldSay) {
  const Options options = with_file(
      "tp = [1, 2]\nallow-partial = true\nmatch = [\"a*\", \"b c\"]\nmodel = "
      "\"m\"\n"
      "set = [\"a.b=1\", \"c=2\"]\nverbose = 1\nonly = [\"names\", \"shapes\"]\n",
      {"check", "--fail-on", "refuted"});
  EXPECT_EQ(options.tp, (Sizes{1, 2}));
  EXPECT_EQ(options.match, (std::vector<std::string>{"a*", "b c"}));
  EXPECT_EQ(options.only, (std::vector<std::string>{"names", "shapes"}));
  EXPECT_EQ(options.settings.size(), 2U);
  EXPECT_TRUE(options.allow_partial);
  EXPECT_EQ(options.verbose, 1);
  EXPECT_EQ(options.said("tp")->origin, Origin::File);
  EXPECT_EQ(options.said("tp")->written, "tp in bridge-verify.toml:1:1");
  EXPECT_EQ(options.said("fail-on")->origin, Origin::CommandLine);
}

TEST(SettingsFile, ItsAdviceIsTaken) {
  for (const char* name : {"quiet", "verbose"}) {
    const Error error = bad_file(std::string(name) + " = true\n");
    EXPECT_EQ(error.help, fmt::format("write {0} = 1, or {0} = 2 for more", name));
    EXPECT_EQ(bad_file(std::string(name) + " = \"\"\n").help,
              fmt::format("write {0} = 1, or {0} = 2 for more", name));
  }
  EXPECT_EQ(refused({"check"}, {{"BRIDGE_VERIFY_QUIET", "yes"}}).help,
            "write BRIDGE_VERIFY_QUIET=1");
  EXPECT_EQ(with_file("quiet = 1\n").quiet, 1);
  EXPECT_EQ(with_file("verbose = 2\n").verbose, 2);
  EXPECT_EQ(bad_file("jobs = true\n").help, "write jobs = 1");
  EXPECT_EQ(bad_file("tp = true\n").help, "write tp = \"1,2\"");
}

TEST(SettingsFile, IsTheWeakestLayerAndTheNearestFileBeatsTheNext) {
  const std::vector<SettingsText> files = {file("tp = 4\n"), {"home.toml", "tp = 8\npp = 2\n"}};
  const auto all = parse({"check"}, {{"BRIDGE_VERIFY_TP", "2"}}, files);
  ASSERT_TRUE(all.has_value());
  EXPECT_EQ(all->options.tp, Sizes{2});
  EXPECT_EQ(all->options.pp, Sizes{2});
  EXPECT_EQ(parse({"check"}, {}, files)->options.tp, Sizes{4});
  EXPECT_EQ(parse({"check", "--tp", "1"}, {}, files)->options.tp, Sizes{1});
  EXPECT_TRUE(parse({"check", "--layout", "tp1"}, {}, files)->options.tp.empty());
  EXPECT_FALSE(parse({"check"}, {}, {file("tp = 2\nlayout = \"tp1\"\n")}).has_value());
  EXPECT_FALSE(with_file("json = true\n", {"trace", "x"}).given.empty());
  EXPECT_TRUE(with_file("tp = 2\n", {"doctor"}).tp.empty());  // doctor has no use for it
  EXPECT_FALSE(
      parse({"check"}, {{"BRIDGE_VERIFY_STRICT", "0"}}, {file("strict = true\n")})->options.strict);
}

TEST(SettingsFile, FaultsNameLineAndColumn) {
  struct Row {
    const char *text, *where, *message, *help;
  };
  for (const Row& row : {
           Row{"tp = 2\nmodle = \"x\"\n", "bridge-verify.toml:2:1", "\"modle\" is not a setting",
               "did you mean model?"},
           Row{"overwrite = true\n", "bridge-verify.toml:1:1",
               "\"overwrite\" can only be given on the command line", "remove the line"},
           Row{"tp = 2\ntensor_parallel_size = 4\n", "bridge-verify.toml:2:1", "tp is set twice",
               "keep one of the two"},
           Row{"model = 3\n", "bridge-verify.toml:1:9", "model cannot be a whole number",
               "write model = \"REF\""},
           Row{"strict = \"yes\"\n", "bridge-verify.toml:1:10", "strict cannot be a string",
               "write strict = true"},
           Row{"tp = 0\n", "bridge-verify.toml:1:1",
               "tp in bridge-verify.toml:1:1 is not a positive number",
               "write --tp 1 for no tensor parallelism"},
       }) {
    const Error error = bad_file(row.text);
    EXPECT_EQ(error.code, Code::BadSettings) << row.text;
    EXPECT_EQ(error.where, row.where) << row.text;
    EXPECT_EQ(error.message, row.message);
    EXPECT_EQ(error.help, row.help);
  }
  const Error broken = bad_file("tp = [1,\n");
  EXPECT_EQ(broken.code, Code::BadSettings);
  EXPECT_TRUE(broken.where.starts_with("bridge-verify.toml:")) << broken.where;
}

}  // namespace
}  // namespace bv::cli
