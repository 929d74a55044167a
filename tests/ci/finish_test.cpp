// How a run ends: its exit code, what is written where, and the style of the terminal.

#include "ci/cli/session/finish.hpp"

#include <gtest/gtest.h>

#include "ci/cli/command.hpp"
#include "core/verdict/verdicts_json.hpp"

namespace bv::cli {
namespace {

struct Finished {
  int code = -1;
  std::string out;
  int writes = 0;
};

/// What `body` writes and returns, with streams in memory.
template <class Body>
Finished in_memory(const Environment& environment, const Body& body) {
  Finished finished;
  Streams streams(
      [&finished](std::string_view text) {
        finished.out += text;
        ++finished.writes;
        return true;
      },
      [](std::string_view) {});
  Context context{.streams = streams,
                  .environment = environment,
                  .seconds = [] { return 0.25; },
                  .started = [] { return std::string("2026-01-01T00:00:00Z"); },
                  .argv0 = "bridge-verify",
                  .arguments = {}};
  finished.code = body(context);
  EXPECT_TRUE(streams.flush());
  return finished;
}

bv::Run green_run() {
  bv::Run run;
  Verdict good;
  good.claim = "names";
  good.outcome = Outcome::Proved;
  good.cases = 1;
  good.evidence = {.proved = true};
  run.verdicts = {good};
  return run;
}

Finished finish_with(const Options& options, const Run& run) {
  return in_memory({{"LANG", "C.UTF-8"}}, [&](Context& context) {
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

TEST(Finish, TheHeaderIsWrittenBeforeTheWork) {
  std::vector<std::string> writes;
  Streams streams(
      [&](std::string_view text) {
        writes.emplace_back(text);
        return true;
      },
      [](std::string_view) {});
  Context context{.streams = streams,
                  .environment = {{"LANG", "C.UTF-8"}},
                  .seconds = [] { return 0.25; },
                  .started = [] { return std::string("2026-01-01T00:00:00Z"); },
                  .argv0 = "bridge-verify",
                  .arguments = {"check", "--model", "fixture:llama", "--tp", "2"}};
  EXPECT_EQ(run_command_line(context), 0);
  ASSERT_TRUE(streams.flush());
  ASSERT_GE(writes.size(), 2U);
  EXPECT_TRUE(writes.front().starts_with("model    fixture:llama")) << writes.front();
  EXPECT_NE(writes.front().find("layouts  1"), std::string::npos) << writes.front();
  EXPECT_EQ(writes.front().find("claim"), std::string::npos) << writes.front();
}

TEST(Finish, ARunThatLookedAtSomeTensorsIsPartial) {
  Options options;
  options.match = {"mtp.*"};
  EXPECT_EQ(finish_with(options, green_run()).code, 3);
  options.allow_partial = true;
  EXPECT_EQ(finish_with(options, green_run()).code, 0);
}

TEST(Finish, WritesTheFormAskedFor) {
  Options options;
  options.format = "json";
  const Finished json = finish_with(options, green_run());
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
    in_memory(environment, [&](Context& context) {
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

}  // namespace
}  // namespace bv::cli
