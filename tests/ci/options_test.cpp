#include "ci/cli/options/options.hpp"

#include <gtest/gtest.h>

#include <set>

#include "core/base/shell.hpp"
#include "tests/ci/parse_options.hpp"

namespace bv::cli {
namespace {

using Sizes = std::vector<std::int64_t>;

TEST(Options, ModelAloneMeansCheck) {
  EXPECT_EQ(parsed({"--model", "x"}).command, "check");
  EXPECT_EQ(parsed({"-m", "x"}).model, "x");
  EXPECT_EQ(parsed({"-mx"}).model, "x");
  EXPECT_EQ(parsed({"--headers", "x.json"}).command, "check");
  EXPECT_EQ(parsed({}).command, "");
}

TEST(Options, UnderscoreAndDashAreTheSame) {
  EXPECT_EQ(parsed({"--model=x", "--tensor_model_parallel_size", "2"}).tp, Sizes{2});
  EXPECT_EQ(parsed({"--model=x", "--tensor-model_parallel-size=2"}).tp, Sizes{2});
}

TEST(Options, ValuesStandBehindBlankOrEquals) {
  EXPECT_EQ(parsed({"check", "--tp", "4"}).tp, Sizes{4});
  EXPECT_EQ(parsed({"check", "--tp=4"}).tp, Sizes{4});
  EXPECT_EQ(parsed({"check", "--set", "a.b=c=d"}).settings[0],
            (std::pair<std::string, std::string>{"a.b", "c=d"}));
}

TEST(Options, StandBeforeOrAfterTheCommand) {
  const Options before = parsed({"--tp", "2", "roundtrip", "--model", "x"});
  const Options after = parsed({"roundtrip", "--model", "x", "--tp", "2"});
  EXPECT_EQ(before.command, "roundtrip");
  EXPECT_EQ(before.tp, after.tp);
  EXPECT_EQ(before.model, after.model);
}

TEST(Options, MegatronNamesAreAliases) {
  const Options options = parsed({"check",
                                  "--model",
                                  "x",
                                  "--tensor-parallel-size",
                                  "2",
                                  "--pipeline-model-parallel-size",
                                  "3",
                                  "--expert-model-parallel-size",
                                  "4",
                                  "--expert-tensor-parallel-size",
                                  "1",
                                  "--num-virtual-stages-per-pipeline-rank",
                                  "2",
                                  "--context-parallel-size",
                                  "8",
                                  "--decoder-first-pipeline-num-layers",
                                  "5",
                                  "--decoder-last-pipeline-num-layers",
                                  "6",
                                  "--make-vocab-size-divisible-by",
                                  "128",
                                  "--account-for-embedding-in-pipeline-split",
                                  "--account-for-loss-in-pipeline-split",
                                  "--transformer-impl",
                                  "local",
                                  "--no-moe-grouped-gemm",
                                  "--pipeline-model-parallel-layout",
                                  "Et*3|(tt|)*29,m|L"});
  EXPECT_EQ(options.tp, Sizes{2});
  EXPECT_EQ(options.pp, Sizes{3});
  EXPECT_EQ(options.ep, Sizes{4});
  EXPECT_EQ(options.etp, Sizes{1});
  EXPECT_EQ(options.vpp, Sizes{2});
  EXPECT_EQ(options.cp, Sizes{8});
  EXPECT_EQ(options.first_stage_layers, 5);
  EXPECT_EQ(options.last_stage_layers, 6);
  EXPECT_EQ(options.vocab_divisor, 128);
  EXPECT_TRUE(options.account_for_embedding && options.account_for_loss &&
              options.sequential_experts);
  EXPECT_EQ(options.transformer_impl, "local");
  EXPECT_EQ(options.pipeline_layout, "Et*3|(tt|)*29,m|L");
}

TEST(Options, SizesAreListsOrRangesOfPowersOfTwo) {
  EXPECT_EQ(parsed({"check", "--tp", "1,2,4"}).tp, (Sizes{1, 2, 4}));
  EXPECT_EQ(parsed({"check", "--tp", "1..8"}).tp, (Sizes{1, 2, 4, 8}));
  EXPECT_EQ(parsed({"check", "--tp", "3..8,3,4"}).tp, (Sizes{4, 8, 3}));
  EXPECT_EQ(refused({"check", "--tp", "5..7"}).message,
            "--tp 5..7 does not contain a power of two");
  EXPECT_EQ(refused({"check", "--tp", "1,,2"}).code, Code::BadValue);
  EXPECT_EQ(refused({"check", "--tp", "99999999999999999999"}).code, Code::BadValue);
  EXPECT_EQ(refused({"check", "--tp", "1..99999999999"}).message,
            "--tp 1..99999999999 is above 1,048,576");
}

TEST(Options, BadInputOneUnknownOptionSuggestsTheNearest) {
  const Error error = refused({"--modle", "x"});
  EXPECT_EQ(error.code, Code::UnknownOption);
  EXPECT_EQ(error.message, "unknown option --modle");
  EXPECT_EQ(error.help, "did you mean --model?");
  EXPECT_EQ(refused({"--modle=x"}).message, "unknown option --modle");
  EXPECT_EQ(refused({"--xyzzyxyzzy"}).help, "bridge-verify help options lists them");
  EXPECT_EQ(refused({"--cq"}).help, "bridge-verify help options lists them");  // not --cp
  EXPECT_EQ(refused({"-x"}).message, "unknown option -x");
}

TEST(Options, TheFirstErrorOfALineIsTheOneThatIsTold) {
  for (const char* behind : {"x", "--xyzzyxyzzy", "--json", "--tp=0"}) {
    const Error error = refused({"--modle", behind, "-q"});
    EXPECT_EQ(error.message, "unknown option --modle") << behind;
    EXPECT_EQ(error.help, "did you mean --model?") << behind;
  }
}

TEST(Options, BadInputTwoZeroIsNoParallelSize) {
  const Error error = refused({"--model", "x", "--tp", "0"});
  EXPECT_EQ(error.code, Code::BadValue);
  EXPECT_EQ(error.message, "--tp 0 is not a positive number");
  EXPECT_EQ(error.help, "write --tp 1 for no tensor parallelism");
  EXPECT_EQ(refused({"--model", "x", "--tp", "-1"}).message, "--tp -1 is not a positive number");
  EXPECT_EQ(refused({"--model", "x", "--tp=two"}).message, "--tp=two is not a positive number");
}

TEST(Options, AbbreviationsAreNotTaken) {
  EXPECT_EQ(refused({"--mode", "x"}).help, "did you mean --model?");
  const Error three = refused({"--mod", "x"});  // too short for a guess
  EXPECT_EQ(three.message, "unknown option --mod");
  EXPECT_EQ(three.help, "bridge-verify help options lists them");
  EXPECT_EQ(refused({"chec", "--model", "x"}).help, "did you mean bridge-verify check?");
}

TEST(Options, RepeatedSingleValuedOptionShowsBoth) {
  const Error error = refused({"check", "--tp", "1", "--tensor-model-parallel-size=2"});
  EXPECT_EQ(error.code, Code::Conflict);
  EXPECT_EQ(error.message, "--tp is given twice: --tp 1 and --tensor-model-parallel-size=2");
  EXPECT_EQ(parsed({"check", "--layout", "tp1", "--layout", "tp2"}).layout,
            (std::vector<std::string>{"tp1", "tp2"}));
}

TEST(Options, DoubleDashEndsOptions) {
  EXPECT_EQ(parsed({"trace", "--", "--odd-name"}).operands, std::vector<std::string>{"--odd-name"});
  EXPECT_EQ(refused({"trace", "--odd-name"}).code, Code::UnknownOption);
}

TEST(Options, OptionOfAnotherCommandNamesWhereItBelongs) {
  const Error error = refused({"check", "--model", "x", "--resume"});
  EXPECT_EQ(error.code, Code::UnknownOption);
  EXPECT_EQ(error.message, "check cannot use --resume");
  EXPECT_EQ(error.wanted, "one of convert, lora merge");
  EXPECT_FALSE(error.help.empty());
}

TEST(Options, MissingValueIsNotTakenFromTheNextOption) {
  EXPECT_EQ(refused({"check", "--tp", "--pp", "2"}).message, "--tp has no value");
  EXPECT_EQ(refused({"check", "--tp"}).found, "the end of the command line");
  EXPECT_EQ(refused({"check", "-m", "-q"}).message, "-m has no value");
  EXPECT_EQ(refused({"check", "--json=1"}).message, "--json=1 takes no value");
  EXPECT_EQ(refused({"check", "--model="}).message, "--model= is empty");
}

TEST(Options, UnknownCommandSuggestsCommandOrModel) {
  EXPECT_EQ(refused({"explian", "BV2006"}).help, "did you mean bridge-verify explain?");
  EXPECT_EQ(refused({"./models/x"}).help, "did you mean --model ./models/x?");
  EXPECT_EQ(refused({"check", "m/llama"}).help, "did you mean --model m/llama?");
  EXPECT_EQ(refused({"check", "."}).help, "did you mean --model .?");
  EXPECT_EQ(refused({"check", "m/my model"}).help, "did you mean --model 'm/my model'?");
  EXPECT_EQ(refused({"doctor", "m/llama"}).help, "bridge-verify help doctor");
  EXPECT_EQ(refused({"check", "stray"}).message, "check does not take an argument: \"stray\"");
}

TEST(Options, OptionsWithoutModelAskForOne) {
  EXPECT_EQ(refused({"--tp", "2"}).help, "bridge-verify --model DIR");
}

TEST(Options, ImportAndExportPresetTheDirection) {
  EXPECT_EQ(parsed({"import", "--model", "x"}).to, "megatron");
  EXPECT_EQ(parsed({"export", "--model", "x"}).to, "hf");
  EXPECT_EQ(parsed({"export", "--model", "x"}).command, "convert");
  EXPECT_EQ(refused({"--to", "hf", "import"}).code, Code::Conflict);
  EXPECT_EQ(refused({"import", "--to", "hf"}).code, Code::Conflict);
}

TEST(Options, CountsOfQuietAndVerbose) {
  EXPECT_EQ(parsed({"check", "-q"}).verbosity(), -1);
  EXPECT_EQ(parsed({"check", "-qq"}).verbosity(), -2);
  EXPECT_EQ(parsed({"check", "-v", "-v"}).verbosity(), 2);
  EXPECT_EQ(refused({"check", "-q", "-v"}).message, "-q and -v contradict each other");
}

TEST(Options, ContradictionsShowBoth) {
  EXPECT_EQ(refused({"check", "--json", "--format", "text"}).message,
            "--json and --format text contradict each other");
  EXPECT_EQ(parsed({"check", "--json", "--format", "json"}).format, "json");
  EXPECT_EQ(refused({"check", "--moe-grouped-gemm", "--no-moe-grouped-gemm"}).code, Code::Conflict);
  EXPECT_EQ(refused({"check", "--layout", "tp2", "--tp", "2"}).code, Code::Conflict);
  EXPECT_EQ(refused({"convert", "--overwrite", "--resume"}).code, Code::Conflict);
}

TEST(Options, ChoicesListTheirValues) {
  const Error error = refused({"check", "--level", "deta"});
  EXPECT_EQ(error.message, "--level deta is not one of headers, data, full");
  EXPECT_EQ(error.help, "write --level data");
  EXPECT_EQ(parsed({"convert", "--dtype", "bfloat16"}).dtype, "bfloat16");
}

TEST(Options, WhatIsNotBuiltIsRefusedWithAWayOut) {
  for (const OptionSpec& spec : option_specs()) {
    if (spec.not_built.empty()) {
      continue;
    }
    EXPECT_FALSE(spec.listed) << spec.name;
    const Error error = refused({"check", "--model", "x", "--" + std::string(spec.name), "9"});
    EXPECT_EQ(error.code, Code::UnknownOption) << spec.name;
    EXPECT_EQ(error.message, "--" + std::string(spec.name) + " 9 is not built into this version");
    EXPECT_EQ(error.help, spec.not_built);
  }
  EXPECT_EQ(refused({"fuzz", "--timeout=1s"}).code, Code::UnknownOption);
}

TEST(Options, SeedTakesAllSixtyFourBits) {
  EXPECT_EQ(parsed({"check", "--seed", "18446744073709551615"}).seed, 18446744073709551615U);
  EXPECT_EQ(refused({"check", "--seed", "18446744073709551616"}).code, Code::BadValue);
  EXPECT_EQ(refused({"check", "--seed", "-1"}).code, Code::BadValue);
}

TEST(Options, ClaimsAreSplitAtCommas) {
  EXPECT_EQ(parsed({"check", "--only", "names,shapes"}).only,
            (std::vector<std::string>{"names", "shapes"}));
  EXPECT_EQ(refused({"check", "--only", "names,"}).code, Code::BadValue);
}

TEST(Options, HelpAndVersionBeatEverything) {
  EXPECT_TRUE(parsed({"--modle", "x", "--help"}).help);
  EXPECT_TRUE(parsed({"check", "--tp", "0", "-V"}).version);
  EXPECT_EQ(parsed({"--nonsense", "explain", "-h"}).command, "explain");
  EXPECT_FALSE(parsed({"trace", "--", "--help"}).help);
}

TEST(OptionTable, NamesAliasesAndLettersAreUniqueAndTyped) {
  std::set<std::string> names;
  std::set<char> letters;
  for (const OptionSpec& spec : option_specs()) {
    EXPECT_TRUE(names.insert(std::string(spec.name)).second) << spec.name;
    for (const std::string& alias : words_of(spec.aliases)) {
      EXPECT_TRUE(names.insert(alias).second) << alias;
    }
    EXPECT_TRUE(spec.letter == 0 || letters.insert(spec.letter).second) << spec.letter;
    EXPECT_FALSE(spec.help.empty()) << spec.name;
    EXPECT_EQ(spec.name.find('_'), std::string_view::npos) << spec.name;
    const bool flag = spec.form == Form::Flag || spec.form == Form::Count;
    EXPECT_EQ(flag, spec.value.empty()) << spec.name;
  }
}

/// Every row is given one value of its form: a member of another type would end the process.
TEST(OptionTable, EveryRowTakesAValueOfItsForm) {
  std::size_t tried = 0;
  for (const OptionSpec& spec : option_specs()) {
    if (spec.name == "help" || spec.name == "version") {
      continue;
    }
    const auto value = [&]() -> std::string {
      switch (spec.form) {
        case Form::Flag:
          return "";
        case Form::Count:
          return "";
        case Form::Choice:
          return std::string(spec.value.substr(0, spec.value.find('|')));
        case Form::Positive:
        case Form::Unsigned:
        case Form::Sizes:
          return "=2";
        case Form::Pair:
          return "=a=b";
        case Form::Text:
        case Form::Names:
        case Form::Repeat:
          return "=x";
      }
      return "";
    }();
    const std::string argument =
        "--" + std::string(spec.name) + (spec.form == Form::Choice ? "=" + value : value);
    if (!spec.not_built.empty()) {
      ++tried;
      continue;
    }
    std::size_t taken = 0;
    for (const CommandName& command : names()) {
      std::vector<std::string> verbs = words_of(command.verbs);
      verbs.resize(std::max<std::size_t>(verbs.size(), 1));
      for (const std::string& verb : verbs) {
        std::vector<std::string> arguments = {std::string(command.name)};
        if (!verb.empty()) {
          arguments.push_back(verb);
        }
        const std::string key = command_key(command, {arguments.data() + 1, arguments.size() - 1});
        arguments.push_back(argument);
        const auto result = parse(arguments);
        EXPECT_EQ(result.has_value(), usable_by(spec, key))
            << key << " " << argument << ": " << (result ? "" : result.error().message);
        taken += result ? 1U : 0U;
      }
    }
    EXPECT_GT(taken, 0U) << spec.name;
    ++tried;
  }
  EXPECT_EQ(tried + 2, option_specs().size());
}

/// Random lines from a fixed seed: the parser ends, and each refusal names a remedy.
TEST(Options, EveryRefusalSaysWhatToDo) {
  const std::vector<std::string> words = {
      "--tp",      "--tp=",   "0",           "1..8",   "-q",       "-qv",   "--",    "-",
      "check",     "import",  "trace",       "--json", "--format", "plain", "--set", "a=b",
      "--timeout", "\x1b[2J", "--\xff",      "-m",     "x/y",      "",      "--=",   "-=",
      "-j4",       "--skip",  "--mem-limit", "rules",  "..",       "-o=",   "lint",  "--strict"};
  std::uint32_t state = 1;
  std::size_t accepted = 0;
  std::size_t refusals = 0;
  for (int i = 0; i < 20000; ++i) {
    std::vector<std::string> arguments;
    for (int length = i % 7; length >= 0; --length) {
      state = state * 1664525U + 1013904223U;
      arguments.push_back(words[(state >> 8U) % words.size()]);
    }
    const auto result = parse(arguments);
    if (result) {
      ++accepted;
      continue;
    }
    ++refusals;
    ASSERT_FALSE(result.error().message.empty());
    ASSERT_FALSE(result.error().help.empty()) << result.error().message;
    ASSERT_EQ(result.error().message.find('\x1b'), std::string::npos);
  }
  EXPECT_GT(accepted, 100U);
  EXPECT_GT(refusals, 1000U);
}

}  // namespace
}  // namespace bv::cli
