#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "ci/cli/command.hpp"
#include "ci/cli/session/finish.hpp"
#include "core/base/text.hpp"
#include "core/verdict/verdicts_json.hpp"
#include "properties/claims/catalogue.hpp"
#include "tests/ci/run_command.hpp"
#include "tests/support/files.hpp"
#include "tests/support/golden_text.hpp"

namespace bv::cli {
namespace {

using Ended = support::Said;
using support::in_memory;

Ended run(std::vector<std::string> arguments,
          const Environment& environment = {{"LANG", "C.UTF-8"}}) {
  return in_memory(std::move(arguments), environment, run_command_line);
}

constexpr std::string_view kUsageLine =
    "bridge-verify: USAGE  proved 0  held 0  refuted 0  inconclusive 0  unsupported 0  waived 0  "
    "broken 0  layouts 0  0.2 s\n";

TEST(CommandLine, WithoutArgumentsTellsItsPurposeAndExitsTwo) {
  const Ended ended = run({});
  EXPECT_EQ(ended.code, 2);
  EXPECT_EQ(ended.err, "");
  EXPECT_EQ(ended.writes, 1);
  support::expect_golden("no_arguments", ended.out);
}

TEST(CommandLine, BadInputOne) {
  const Ended ended = run({"--modle", "x"});
  EXPECT_EQ(ended.code, 2);
  EXPECT_EQ(ended.out, kUsageLine);
  EXPECT_EQ(ended.err,
            "error[BV0001]: unknown option --modle\n   = help    did you mean --model?\n"
            "   = explain bridge-verify explain BV0001\n");
}

TEST(CommandLine, AVerbThatDoesNotExistIsNamedByEveryCommandWithVerbs) {
  std::vector<std::string> names = {"certify", "completion", "report"};  // other first words
  for (const Command& command : commands()) {
    if (!command.name.verbs.empty()) {
      names.emplace_back(command.name.name);
    }
  }
  EXPECT_GE(names.size(), 8U);
  for (const std::string& name : names) {
    for (const std::vector<std::string>& more :
         std::vector<std::vector<std::string>>{{}, {"other"}}) {
      std::vector<std::string> words = {name, "no-such-verb"};
      words.insert(words.end(), more.begin(), more.end());
      const Ended ended = run(words);
      EXPECT_EQ(ended.code, 2) << name;
      const std::string first = ended.err.substr(0, ended.err.find('\n'));
      EXPECT_NE(first.find("no-such-verb"), std::string::npos) << first;
    }
  }
}

TEST(CommandLine, AVerbThatIsMissingIsAskedFor) {
  for (const char* command : {"lora", "config", "certify", "completion", "report"}) {
    const Ended ended = run({command});
    EXPECT_EQ(ended.code, 2) << command;
    EXPECT_EQ(ended.err.rfind(std::string("error[BV0002]: ") + command + " needs ", 0), 0U)
        << ended.err;
  }
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

nlohmann::json json_of(const Ended& ended) {
  EXPECT_TRUE(nlohmann::json::accept(ended.out)) << ended.out;
  return nlohmann::json::parse(ended.out, nullptr, false);
}

/// A document on every exit code, wherever the option is on the line.
TEST(CommandLine, JsonIsADocumentWhateverTheExitCode) {
  for (const std::vector<std::string>& line : std::vector<std::vector<std::string>>{
           {"--json", "--tp", "0"},
           {"--tp", "0", "--json"},
           {"check", "--format=json", "--modle"},
           {"check", "--json", "--model", "/nowhere/at/all"},
           {"roundtrip", "--model", "fixture:llama", "--tp", "3", "--json"},
           {"convert", "--json"},
           {"diff", "--json", "x"},
           {"fuzz", "--json", "--replay", "/nowhere"}}) {
    const Ended ended = run(line);
    EXPECT_NE(ended.code, 0);
    const auto json = json_of(ended);
    EXPECT_EQ(json.at("schema"), "bridge-verdicts/1");
    EXPECT_EQ(json.at("result").at("exit_code"), ended.code);
    ASSERT_EQ(json.at("input_errors").size(), 1U);
    EXPECT_NE(ended.err.find("error[" + json.at("input_errors")[0].at("code").get<std::string>()),
              std::string::npos);
  }
  for (const std::vector<std::string>& line :
       std::vector<std::vector<std::string>>{{"trace", "x", "--json"},
                                             {"layout", "--tp", "0", "--json"},
                                             {"inspect", "--json"},
                                             {"doctor", "--json", "--tp", "2"},
                                             {"models", "dance", "--json"}}) {
    const Ended ended = run(line);
    EXPECT_EQ(ended.code, 2);
    EXPECT_EQ(json_of(ended).at("schema"), "bridge-error/1");
  }
}

TEST(CommandLine, OutIsMadeFirstAndHoldsTheVerdictsOfABadInput) {
  const bv::cli::testing::TempFolder folder;
  const std::string out = (folder.path() / "a/b").string();
  const Ended ended = run({"check", "--model", "/nowhere/at/all", "--out", out});
  EXPECT_EQ(ended.code, 5);
  const auto json =
      nlohmann::json::parse(support::file_text(out + "/verdicts.json"), nullptr, false);
  EXPECT_EQ(json.at("result").at("word"), "INPUT");
  EXPECT_EQ(run({"check", "--model", "x", "--out", "-"}).code, 2);
}

TEST(CommandLine, ReportGoesToAFileOrToStdout) {
  const bv::cli::testing::TempFolder folder;
  const std::string file = (folder.path() / "v.json").string();
  const Ended ended = run({"check", "--model", "fixture:llama", "--tp", "1", "--report",
                           "json=" + file, "--report", "plain=-"});
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_TRUE(ended.out.starts_with("Proved\t-\tnames\t")) << ended.out;
  EXPECT_TRUE(read_verdicts_json(support::file_text(file)).has_value());
  const Ended wrong = run({"check", "--model", "x", "--report", "jsn=v"});
  EXPECT_EQ(wrong.code, 2);
  EXPECT_EQ(run({"check", "--model", "x", "--report", "json=a", "--report", "plain=a"}).code, 2);
  EXPECT_EQ(run({"check", "--model", "x", "--report", "json=-", "--format", "plain"}).code, 2);
}

TEST(CommandLine, WaiversAreReadBeforeAnyWork) {
  const bv::cli::testing::TempFolder folder;
  const std::string file = (folder.path() / "w.toml").string();
  bv::cli::testing::write_text(file, "[[waiver]]\ncode = \"BV2006\"\n");
  const Ended ended = run({"check", "--model", "/nowhere", "--waivers", file});
  EXPECT_EQ(ended.code, 2);
  EXPECT_NE(ended.err.find("error[BV0110]"), std::string::npos) << ended.err;
}

/// A known fault with an issue and a last day lets the gate pass, and says so.
TEST(CommandLine, AWaivedFaultPasses) {
  const bv::cli::testing::TempFolder folder;
  const std::string file = (folder.path() / "w.toml").string();
  bv::cli::testing::write_text(
      file,
      "[[waiver]]\ncode = \"BV2006\"\nsubject = \"decoder.layers.*.mlp.linear_fc1.weight\"\n"
      "reason = \"known\"\nissue = \"https://example.org/1\"\nexpires = 2026-06-01\n");
  const std::vector<std::string> line = {
      "check",
      "--model",
      "fixture:qwen3",
      "--rules",
      std::string(BV_FIXTURES) + "/broken/swapped_gate_up.rules.json",
      "--tp",
      "1"};
  EXPECT_EQ(run(line).code, 1);
  std::vector<std::string> waived = line;
  waived.insert(waived.end(), {"--waivers", file});
  const Ended ended = run(waived);
  EXPECT_EQ(ended.code, 0) << ended.out << ended.err;
  EXPECT_NE(ended.out.find("  waived 1  "), std::string::npos) << ended.out;
}

TEST(CommandLine, HelpBeatsMistakesAndExitsZero) {
  const Ended ended = run({"--modle", "x", "--tp", "0", "--help"});
  EXPECT_EQ(ended.code, 0);
  EXPECT_EQ(ended.err, "");
  EXPECT_TRUE(ended.out.starts_with("usage: bridge-verify [COMMAND] [options]\n"));
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
  EXPECT_NE(wrong.err.find("there is no code, claim or result \"BV2096\""), std::string::npos);
}

TEST(CommandLine, ExplainListsAndKnowsClaimsAndResults) {
  const std::string list = run({"explain"}).out;
  for (const claims::Claim& claim : claims::catalogue()) {
    EXPECT_NE(list.find("\n  " + std::string(claim.id) + " "), std::string::npos) << claim.id;
    const Ended page = run({"explain", std::string(claim.id)});
    EXPECT_EQ(page.code, 0);
    EXPECT_NE(page.out.find("Counted in: "), std::string::npos) << page.out;
  }
  for (const CodeInfo& code : all_codes()) {
    EXPECT_NE(list.find("\n  " + label(code.code) + " "), std::string::npos) << code.name;
  }
  for (const char* result :
       {"proved", "held", "refuted", "inconclusive", "unsupported", "waived", "broken"}) {
    EXPECT_NE(run({"explain", "results"}).out.find(std::string("\n  ") + result),
              std::string::npos);
    EXPECT_EQ(run({"explain", result}).code, 0);
  }
  EXPECT_NE(run({"explain", "placment"}).err.find("bridge-verify explain placement"),
            std::string::npos);
  EXPECT_EQ(run({"explain", "BV4001"}).err.find("BV0001\n   = explain"), std::string::npos);
}

TEST(CommandLine, DoctorAndVersionAnswerInJson) {
  const auto doctor = json_of(run({"doctor", "--json"}));
  for (const char* key : {"version", "system", "processor", "memory", "forward", "hf_cache"}) {
    EXPECT_FALSE(doctor.at(key).get<std::string>().empty()) << key;
  }
  EXPECT_EQ(json_of(run({"version", "--json"})).at("name"), "bridge-verify");
}

TEST(CommandLine, ConfigShowsEverySettingAndItsOrigin) {
  const Ended ended = run({"config", "show", "--json"}, {{"BRIDGE_VERIFY_TP", "2"}});
  const auto json = json_of(ended);
  EXPECT_EQ(json.at("schema"), "bridge-settings/1");
  bool seen = false;
  for (const auto& row : json.at("settings")) {
    if (row.at("name") == "tp") {
      EXPECT_EQ(row.at("value"), "2");
      EXPECT_EQ(row.at("origin"), "environment");
      seen = true;
    }
  }
  EXPECT_TRUE(seen);
  EXPECT_EQ(run({"config", "dance"}).code, 2);
}

/// Prose is broken at words; a command line or one long word stays whole behind its indent.
TEST(CommandLine, EveryScreenOfProseFitsTheTerminal) {
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {},
           {"help"},
           {"explain"},
           {"explain", "results"},
           {"explain", "placement"},
           {"explain", "BV2006"},
           {"rules", "list"},
           {"fixture", "list"},
           {"models", "show", "llama"},
           {"doctor"},
           {"version"},
           {"check", "--model", "fixture:qwen3_5_moe"},
           {"check", "--model", "fixture:llama", "--set", "intermediate_size=40"},
           {"roundtrip", "--model", "fixture:llama", "--tp", "2", "--skip", "inverse"}}) {
    const Ended ended = in_memory(words, {{"NO_COLOR", "1"}}, [](Context& context) {
      context.out_is_terminal = true;
      context.terminal_width = [] { return 80; };
      return run_command_line(context);
    });
    std::istringstream lines(ended.out);
    for (std::string line; std::getline(lines, line);) {
      const std::size_t lead = line.find_last_of(' ', 80);
      const bool one_word = lead == std::string::npos || lead < 20;
      EXPECT_TRUE(line.size() <= 80 || one_word || line.find("bridge-verify ") != std::string::npos)
          << join(words, " ") << ": " << line;
    }
  }
}

TEST(CommandLine, HelpFitsEightyColumnsAndNothingIsGlued) {
  std::vector<std::string> texts = {run({"--help"}).out, run({}).out, run({"help", "options"}).out};
  for (const Command& command : commands()) {
    texts.push_back(help_text(command.name.name));
  }
  for (const std::string& text : texts) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      EXPECT_TRUE(line.size() <= 80 || line.find("bridge-verify ") != std::string::npos) << line;
    }
  }
  for (const OptionSpec& spec : option_specs()) {
    const std::string row = "--" + std::string(spec.name) + (spec.value.empty() ? "" : " ");
    EXPECT_EQ(texts[2].find(row) != std::string::npos, spec.listed) << spec.name;
  }
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
  EXPECT_EQ(run({"models", "dance"}).code, 2);
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
  const auto before = std::signal(SIGPIPE, SIG_IGN);
  ::close(ends[0]);
  EXPECT_TRUE(write_all(ends[1], "x"));
  std::signal(SIGPIPE, before);
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

TEST(GeneratedPages, TheReadmeHasTheClaimsOfTheCatalogue) {
  const std::filesystem::path root = std::filesystem::path(BV_FIXTURES).parent_path();
  const std::string readme = support::file_text(root / "README.md");
  EXPECT_NE(readme.find("\n\n" + claims_table() + "\n"), std::string::npos) << claims_table();
}

TEST(GeneratedPages, AreThoseOfTheTables) {
  const std::filesystem::path docs = std::filesystem::path(BV_FIXTURES).parent_path() / "docs";
  const char* remedy =
      "run bridge-verify __dump-codes docs/codes and __dump-cli docs/reference/cli.md";
  EXPECT_EQ(support::file_text(docs / "codes/README.md"), code_index_page()) << remedy;
  EXPECT_EQ(support::file_text(docs / "reference/cli.md"), reference_page()) << remedy;
  EXPECT_EQ(support::file_text(docs / "reference/claims.md"), claims_page())
      << "run bridge-verify __dump-claims docs/reference/claims.md";
  std::size_t pages = 1;
  for (const CodeInfo& entry : all_codes()) {
    EXPECT_EQ(support::file_text(docs / "codes" / (label(entry.code) + ".md")),
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
