#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <set>

#include "ci/cli/command.hpp"
#include "ci/cli/session/finish.hpp"
#include "core/verdict/verdicts_json.hpp"
#include "tests/ci/golden_text.hpp"

namespace bv::cli {
namespace {

struct Ended {
  int code = -1;
  std::string out;
  std::string err;
  int writes = 0;
};

template <class Body>
Ended in_memory(std::vector<std::string> arguments, const Environment& environment,
                const Body& body) {
  Ended ended;
  Streams streams(
      [&ended](std::string_view text) {
        ended.out += text;
        ++ended.writes;
        return true;
      },
      [&ended](std::string_view text) { ended.err += text; });
  Context context{.streams = streams,
                  .environment = environment,
                  .seconds = [] { return 0.25; },
                  .started = [] { return std::string("2026-01-01T00:00:00Z"); },
                  .argv0 = "bridge-verify",
                  .arguments = std::move(arguments)};
  ended.code = body(context);
  EXPECT_TRUE(streams.flush());
  return ended;
}

Ended run(std::vector<std::string> arguments,
          const Environment& environment = {{"LANG", "C.UTF-8"}}) {
  return in_memory(std::move(arguments), environment, run_command_line);
}

constexpr std::string_view kUsageLine =
    "bridge-verify: USAGE  proved 0  held 0  refuted 0  inconclusive 0  unsupported 0  waived 0  "
    "broken 0  layouts 0  0.0 s\n";

TEST(CommandLine, WithoutArgumentsTellsItsPurposeAndExitsTwo) {
  const Ended ended = run({});
  EXPECT_EQ(ended.code, 2);
  EXPECT_EQ(ended.err, "");
  EXPECT_EQ(ended.writes, 1);
  bv::testing::expect_golden("no_arguments", ended.out);
}

TEST(CommandLine, BadInputOne) {
  const Ended ended = run({"--modle", "x"});
  EXPECT_EQ(ended.code, 2);
  EXPECT_EQ(ended.out, kUsageLine);
  EXPECT_EQ(ended.err,
            "error[BV0001]: unknown option --modle\n   = help    did you mean --model?\n"
            "   = explain bridge-verify explain BV0001\n");
}

TEST(CommandLine, BadInputTwo) {
  const Ended ended = run({"--model", "x", "--tp", "0"});
  EXPECT_EQ(ended.code, 2);
  EXPECT_EQ(ended.out, kUsageLine);
  EXPECT_EQ(ended.err,
            "error[BV0002]: --tp 0 is not a positive number\n   = help    write --tp 1 for no "
            "tensor parallelism\n"
            "   = explain bridge-verify explain BV0002\n");
}

TEST(CommandLine, JsonKeepsStdoutFreeOfText) {
  EXPECT_EQ(run({"--json", "--tp", "0"}).out, "");
  EXPECT_EQ(run({"--format=json", "--tp", "0"}).out, "");
  EXPECT_EQ(run({"explain"}).out, "");
}

TEST(CommandLine, HelpBeatsMistakesAndExitsZero) {
  const Ended ended = run({"--modle", "x", "--tp", "0", "--help"});
  EXPECT_EQ(ended.code, 0);
  EXPECT_EQ(ended.err, "");
  EXPECT_NE(ended.out.find("bridge-verify lora check --model DIR --adapter ADAPTER_DIR"),
            std::string::npos);
  EXPECT_EQ(run({"help", "explain"}).out, run({"explain", "--help"}).out);
  EXPECT_EQ(run({"help", "explian"}).code, 2);
}

TEST(CommandLine, VersionNamesSchemas) {
  const Ended ended = run({"--version", "--modle"});
  EXPECT_EQ(ended.code, 0);
  EXPECT_TRUE(ended.out.starts_with("bridge-verify 0."));
  EXPECT_NE(ended.out.find("bridge-verdicts/1"), std::string::npos);
}

TEST(CommandLine, ExplainTakesNumberAndName) {
  EXPECT_EQ(run({"explain", "bv2006"}).out, run({"explain", "WrongPlacement"}).out);
  EXPECT_EQ(run({"explain", "2006"}).code, 0);
  const Ended wrong = run({"explain", "BV2096"});
  EXPECT_EQ(wrong.code, 2);
  EXPECT_NE(wrong.err.find("there is no code \"BV2096\""), std::string::npos);
}

TEST(CommandLine, DoctorAnswersWithoutAModel) {
  const Ended ended = run({"doctor"}, {{"HF_HOME", "/nowhere"}});
  EXPECT_EQ(ended.code, 0);
  EXPECT_NE(ended.out.find("hf cache  /nowhere/hub is not there\n"), std::string::npos);
  EXPECT_NE(ended.out.find("text      ASCII"), std::string::npos);
}

TEST(CommandLine, RulesShowPrintsTheNotation) {
  const Ended ended = run({"rules", "show", "qkv"});
  EXPECT_EQ(ended.code, 0);
  EXPECT_NE(ended.out.find("-> linear_qkv"), std::string::npos);
  EXPECT_EQ(run({"rules", "dance"}).code, 2);
  EXPECT_EQ(run({"models", "dance"}).code % 3, 2);
}

TEST(CommandLine, UnknownVariableIsANoteNotAnError) {
  const Ended ended = run({"explain", "2006"}, {{"BRIDGE_VERIFY_MODLE", "x"}});
  EXPECT_EQ(ended.code, 0);
  EXPECT_EQ(ended.err,
            "note: environment variable BRIDGE_VERIFY_MODLE names no option and is not used\n");
}

TEST(CommandLine, LostOutputIsNotASuccess) {
  std::string err;
  Streams streams([](std::string_view) { return false; },
                  [&err](std::string_view text) { err += text; });
  Context context{.streams = streams,
                  .environment = {},
                  .seconds = [] { return 0.0; },
                  .started = [] { return std::string(); },
                  .argv0 = "bridge-verify",
                  .arguments = {"--version"}};
  EXPECT_EQ(run_command_line(context), 5);
  EXPECT_NE(err.find("error[BV8001]"), std::string::npos);
}

TEST(CommandLine, FormatTextKeepsTheLastLine) {
  EXPECT_EQ(run({"--format", "text", "--tp", "0"}).out, kUsageLine);
  EXPECT_EQ(run({"--format", "plain", "--tp", "0"}).out, "");
}

TEST(WriteAll, TellsAFullDiskFromAClosedPipe) {
  const int full = ::open("/dev/full", O_WRONLY);
  ASSERT_GE(full, 0);
  EXPECT_FALSE(write_all(full, "x"));
  ::close(full);
  int ends[2] = {-1, -1};
  ASSERT_EQ(::pipe(ends), 0);
  EXPECT_TRUE(write_all(ends[1], "x"));
  std::signal(SIGPIPE, SIG_IGN);
  ::close(ends[0]);
  EXPECT_TRUE(write_all(ends[1], "x"));
  ::close(ends[1]);
}

TEST(CommandTable, NamesAreUniqueAndOptionsNameOnlyPlannedCommands) {
  std::set<std::string> names;
  for (const Command& command : commands()) {
    EXPECT_TRUE(names.insert(std::string(command.name.name)).second) << command.name.name;
    EXPECT_FALSE(command.summary.empty()) << command.name.name;
    EXPECT_NE(command.run, nullptr);
  }
  EXPECT_EQ(find_command("nothing"), nullptr);
}

bv::Run green_run() {
  bv::Run run;
  Verdict good;
  good.claim = "names";
  good.outcome = Outcome::Proved;
  good.cases = 1;
  run.verdicts = {good};
  return run;
}

Ended finish_with(const Options& options, const Run& run) {
  return in_memory({}, {{"LANG", "C.UTF-8"}}, [&](Context& context) {
    bv::Run stamped = run;
    stamp(context, options, stamped);
    return finish(context, options, stamped);
  });
}

TEST(Finish, ExitZeroHidesOneAndThreeOnly) {
  Options options;
  options.exit_zero = true;
  bv::Run bad = green_run();
  bad.verdicts[0].outcome = Outcome::Refuted;
  EXPECT_EQ(finish_with(options, bad).code, 0);
  EXPECT_NE(finish_with(options, bad).out.find("bridge-verify: FAIL"), std::string::npos);
  EXPECT_EQ(finish_with(options, bv::Run{}).code, 0);
  bad.verdicts[0].outcome = Outcome::Broken;
  EXPECT_EQ(finish_with(options, bad).code, 4);
  bad = green_run();
  bad.input_errors.push_back(fail(Code::CacheIncomplete, "1 shard is missing"));
  EXPECT_EQ(finish_with(options, bad).code, 5);
}

TEST(Finish, MatchMakesTheRunPartial) {
  Options options;
  options.match = {"mtp.*"};
  EXPECT_EQ(finish_with(options, green_run()).code, 3);
  options.allow_partial = true;
  EXPECT_EQ(finish_with(options, green_run()).code, 0);
}

TEST(Finish, WritesTheFormAskedFor) {
  Options options;
  options.format = "json";
  const Ended json = finish_with(options, green_run());
  EXPECT_TRUE(read_verdicts_json(json.out).has_value());
  EXPECT_EQ(json.writes, 1);
  options.format = "plain";
  EXPECT_TRUE(finish_with(options, green_run()).out.starts_with("Proved\t-\tnames\t"));
  options.format = "jsonl";
  EXPECT_TRUE(finish_with(options, green_run()).out.starts_with("{\"id\":\"names.model\""));
  options.format = "text";
  options.quiet = 2;
  EXPECT_EQ(finish_with(options, green_run()).out, "");
}

TEST(ExitCodes, FollowTheFamilyOfTheCode) {
  EXPECT_EQ(exit_code_of(Code::UnknownOption), 2);
  EXPECT_EQ(exit_code_of(Code::BadSettings), 2);
  EXPECT_EQ(exit_code_of(Code::IndivisibleDim), 5);
  EXPECT_EQ(exit_code_of(Code::ModelNotFound), 5);
  EXPECT_EQ(exit_code_of(Code::DiskFull), 5);
  EXPECT_EQ(exit_code_of(Code::OracleDisagrees), 4);
  EXPECT_EQ(exit_code_of(Code::Assertion), 4);
}

TEST(Style, FollowsTheEnvironment) {
  const auto style = [](const Environment& environment, const std::string& color, bool terminal) {
    reports::TextStyle out;
    in_memory({}, environment, [&](Context& context) {
      Options options;
      options.color = color;
      out = style_for(context, options, terminal);
      return 0;
    });
    return out;
  };
  EXPECT_TRUE(style({{"TERM", "xterm"}}, "auto", true).color);
  EXPECT_FALSE(style({{"TERM", "xterm"}}, "auto", false).color);
  EXPECT_FALSE(style({{"TERM", "dumb"}}, "auto", true).color);
  EXPECT_FALSE(style({{"NO_COLOR", "1"}}, "auto", true).color);
  EXPECT_TRUE(style({{"NO_COLOR", ""}}, "auto", true).color);
  EXPECT_TRUE(style({{"FORCE_COLOR", "1"}}, "auto", false).color);
  EXPECT_TRUE(style({{"NO_COLOR", "1"}}, "always", false).color);
  EXPECT_FALSE(style({{"LANG", "en_US.UTF-8"}}, "auto", false).ascii);
  EXPECT_TRUE(style({{"LC_ALL", "C"}, {"LANG", "en_US.UTF-8"}}, "auto", false).ascii);
}

TEST(GeneratedPages, TheReadmeHasTheClaimsOfTheCatalogue) {
  const std::filesystem::path root = std::filesystem::path(BV_FIXTURES).parent_path();
  const std::string readme = bv::testing::file_text(root / "README.md");
  EXPECT_NE(readme.find("\n\n" + claims_table() + "\n"), std::string::npos) << claims_table();
}

TEST(GeneratedPages, AreThoseOfTheTables) {
  const std::filesystem::path docs = std::filesystem::path(BV_FIXTURES).parent_path() / "docs";
  const char* remedy =
      "run bridge-verify __dump-codes docs/codes and bridge-verify __dump-cli "
      "docs/reference/cli.md";
  EXPECT_EQ(bv::testing::file_text(docs / "codes/README.md"), code_index_page()) << remedy;
  EXPECT_EQ(bv::testing::file_text(docs / "reference/cli.md"), reference_page()) << remedy;
  EXPECT_EQ(bv::testing::file_text(docs / "reference/claims.md"), claims_page())
      << "run bridge-verify __dump-claims docs/reference/claims.md";
  std::size_t pages = 1;
  for (const CodeInfo& entry : all_codes()) {
    EXPECT_EQ(bv::testing::file_text(docs / "codes" / (label(entry.code) + ".md")),
              code_page(entry.code))
        << remedy;
    ++pages;
  }
  const std::filesystem::directory_iterator folder(docs / "codes");
  EXPECT_EQ(static_cast<std::size_t>(std::distance(begin(folder), end(folder))), pages)
      << "a page of a code that is no more";
}

}  // namespace
}  // namespace bv::cli
