#pragma once
// The command line as data: one row an option, one typed struct as result.

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/base/result.hpp"

namespace bv::cli {

/// Where a value was said. Stronger layers stand later.
enum class Origin { Default, File, Environment, CommandLine };

/// One value of one option. An option that may be repeated has one of these for each value.
struct Setting {
  std::string name;  // without dashes: "tp"
  std::string text;  // the value as text: "1,2,4"; "" for a flag
  Origin origin = Origin::CommandLine;
  std::string
      written;  // for messages: "--tp 2", "BRIDGE_VERIFY_TP=2", "tp in bridge-verify.toml:3:1"
};

/// What the user asked for. Defaults are those of a command line without options.
struct Options {
  std::string command;  // canonical name: "check"
  std::vector<std::string>
      operands;  // words after the command: the code of `explain`, the name of `trace`
  bool help = false;
  bool version = false;

  // model
  std::string model, revision, rules, family, headers, like, megatron;
  std::vector<std::string> families;                          // --families DIR, repeatable
  std::vector<std::pair<std::string, std::string>> settings;  // --set PATH=VALUE
  // layout: empty lists mean "not given"
  std::vector<std::int64_t> tp, pp, ep, etp, vpp, cp;
  std::optional<std::int64_t> first_stage_layers, last_stage_layers, vocab_divisor, world_size,
      max_ranks;
  std::string pipeline_layout;
  bool account_for_embedding = false, account_for_loss = false;
  std::vector<std::string> layout;  // --layout tp2pp1ep8etp1, repeatable
  std::string layouts = "auto";     // auto, quick, all or a file
  std::string transformer_impl = "transformer_engine";
  bool sequential_experts = false,
       grouped_experts = false;  // --no-moe-grouped-gemm, --moe-grouped-gemm
  // adapter
  std::string adapter;                   // a folder of PEFT, or of Megatron's adapter parameters
  std::optional<std::int64_t> alpha;     // of an adapter whose folder does not say it
  bool canonical = false;                // to Megatron: one pair a projection
  std::string against;                   // the adapter that it was made from or to
  std::string merged;                    // a checkpoint that somebody merged
  std::string slices;                    // what lora slice wrote, or somebody else
  std::optional<std::int64_t> max_rank;  // rows of a server's buffers
  bool untie = false, fully_sharded = false;
  // selection
  std::string level = "headers";
  std::vector<std::string> only, skip;      // claims, commas split
  std::vector<std::string> match, exclude;  // globs
  bool allow_partial = false, strict = false, drop_mtp = false;
  std::string expert_orientation;  // "", out_in, in_out
  std::string dtype = "preserve";
  bool as_rules = false;              // rules show: a rules file to start from
  std::string tensor;                 // layout: which shards hold it
  std::optional<std::uint64_t> rank;  // layout: what this rank holds
  std::string from, to;               // hf, megatron or torch_dist
  std::string quantised = "restore";  // convert --to hf: or plain
  // gate
  std::string fail_on = "inconclusive";
  std::string waivers;
  std::string baseline;      // report: an earlier verdicts.json
  bool fail_on_new = false;  // report diff
  bool exit_zero = false;
  // output
  std::string dump_headers;
  bool plain = false;
  std::string out, format = "text", color = "auto", progress = "auto", ci = "auto";
  std::vector<std::string> reports;  // --report FORMAT[=FILE]
  bool json = false, ascii = false, overwrite = false, resume = false, no_verify = false,
       accept_changed = false, follow_links = false;
  int quiet = 0, verbose = 0;
  // engine
  std::optional<std::uint64_t> seed;
  std::optional<std::int64_t> jobs;
  std::string device = "cpu", collectives = "sockets";
  std::optional<std::int64_t> patience;
  std::optional<std::int64_t> seconds;  // fuzz: how long
  std::string replay;                   // fuzz: a saved world
  std::vector<std::string> operators;   // mutate: which, commas split
  std::string survivors;                // mutate: file for those that no claim sees

  bool alone = false;   // one process does the command: known once a world was looked for
  std::string unbuilt;  // the value of an option that only refuses (OptionSpec::not_built)

  /// Everything that was said and holds: weaker layers that a stronger one overrides are not here,
  /// nor are defaults. Replay lines and `config show` are printed from it.
  std::vector<Setting> given;

  /// The first value of an option, nullptr when nobody said one.
  [[nodiscard]] const Setting* said(std::string_view option) const;
  [[nodiscard]] bool has(std::string_view option) const { return said(option) != nullptr; }
  /// -qq is -2, -q is -1, -v is 1, -vv is 2.
  [[nodiscard]] int verbosity() const { return verbose - quiet; }
};

/// How the text of a value becomes a value.
enum class Form { Flag, Count, Text, Choice, Positive, Unsigned, Sizes, Names, Repeat, Pair };
/// Flag and Count take none; Repeat and Pair may be given several times.
[[nodiscard]] bool takes_value(Form form);
[[nodiscard]] bool repeats(Form form);

using Member =
    std::variant<bool Options::*, int Options::*, std::string Options::*,
                 std::optional<std::int64_t> Options::*, std::optional<std::uint64_t> Options::*,
                 std::vector<std::int64_t> Options::*, std::vector<std::string> Options::*,
                 std::vector<std::pair<std::string, std::string>> Options::*>;

struct OptionSpec {
  std::string_view name;     // without dashes, '-' between words
  char letter;               // 0 without a short form
  std::string_view aliases;  // blank-separated
  Form form;
  Member member;
  std::string_view value;     // placeholder, or the choices with '|'
  std::string_view group;     // common, model, layout, selection, gate, output, engine
  std::string_view commands;  // blank-separated commands that use it, "rules:lint" for a verb of
                              // one; "*" for all
  std::string_view help;
  std::string_view remedy;  // what to write instead of a bad value, "" for the general advice
  std::string_view fallback = "";   // the value without it, "" when there is none to name
  std::string_view not_built = "";  // what to do instead; such options are refused, not listed
  bool listed = true;               // false: known, and only of use in another build
};
[[nodiscard]] std::span<const OptionSpec> option_specs();

/// What the parser must know of a command.
struct CommandName {
  std::string_view name;
  std::string_view aliases;     // blank-separated; "import" and "export" preset --to
  bool operands = false;        // words after it belong to it
  std::string_view verbs = "";  // blank-separated first operands; the first is the one without
};

using Environment = std::map<std::string, std::string, std::less<>>;

/// The text of one settings file (docs/reference/settings.md).
struct SettingsText {
  std::string path;  // as shown
  std::string text;
};

struct Parsed {
  Options options;
  std::vector<std::string>
      notes;  // things seen and not used, such as an unknown BRIDGE_VERIFY_ variable
};

/// Rules (docs/reference/cli.md): `_` equals `-` in long names; `--x v` and `--x=v`; options stand
/// before or after the command; no abbreviations; `--` ends options; --help and --version beat
/// everything. Without a command, --model or --headers means `check`. The command line beats the
/// environment, which beats the settings files, nearest first; a value of a weaker layer that
/// contradicts one of a stronger layer is left out.
/// Errors: UnknownOption, BadValue, Conflict; BadSettings with file, line and column.
[[nodiscard]] Result<Parsed> parse_options(std::span<const std::string> arguments,
                                           const Environment& environment,
                                           std::span<const CommandName> commands,
                                           std::span<const SettingsText> files = {});

/// The same for a caller that must answer mistakes too: reading goes on behind the first error, so
/// that `options` knows the command, --json and --out wherever they stand.
struct Reading {
  Options options;
  std::vector<std::string> notes;
  std::optional<Error> error;
};
[[nodiscard]] Reading read_options(std::span<const std::string> arguments,
                                   const Environment& environment,
                                   std::span<const CommandName> commands,
                                   std::span<const SettingsText> files = {});

/// "--tensor-model-parallel-size" and "--tensor_model_parallel_size" -> the row of `tp`; nullptr
/// when unknown.
[[nodiscard]] const OptionSpec* find_option(std::string_view long_name);
/// The row of a letter; nullptr when no option has it.
[[nodiscard]] const OptionSpec* find_letter(char letter);
/// The error of a word that looks like an option and names none, with the nearest name.
[[nodiscard]] Error unknown_option(std::string_view written);
/// `command` is "check" or, for a command with verbs, "rules:lint".
[[nodiscard]] bool usable_by(const OptionSpec& spec, std::string_view command);
/// "check", "rules:lint", "fixture:make": the command, and the verb where it has some.
[[nodiscard]] std::string command_key(const CommandName& command,
                                      std::span<const std::string> operands);
[[nodiscard]] std::vector<std::string> words_of(std::string_view blank_separated);

}  // namespace bv::cli
