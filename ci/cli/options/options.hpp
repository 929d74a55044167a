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

/// What the user asked for. Defaults are those of a command line without options.
struct Options {
  std::string command;  // canonical name: "check"
  std::vector<std::string>
      operands;  // words after the command: the code of `explain`, the name of `trace`
  bool help = false;
  bool version = false;

  // model
  std::string model, revision, rules, family, headers;
  std::vector<std::string> families;                          // --families DIR, repeatable
  std::vector<std::pair<std::string, std::string>> settings;  // --set PATH=VALUE
  // adapter
  std::string adapter;
  // layout: empty lists mean "not given"
  std::vector<std::int64_t> tp, pp, ep, etp, vpp, cp;
  std::optional<std::int64_t> layers_per_virtual_stage, first_stage_layers, last_stage_layers,
      vocab_divisor, world_size;
  std::optional<std::int64_t> max_ranks;
  std::string pipeline_layout;
  bool account_for_embedding = false, account_for_loss = false;
  std::vector<std::string> layout;  // --layout tp2pp1ep8etp1, repeatable
  std::string layouts = "auto";     // auto, quick, all or a file
  std::string transformer_impl = "transformer_engine";
  bool sequential_experts = false,
       grouped_experts = false;  // --no-moe-grouped-gemm, --moe-grouped-gemm
  // selection
  std::string level = "headers";
  std::vector<std::string> only, skip;      // claims, commas split
  std::vector<std::string> match, exclude;  // globs
  bool allow_partial = false, strict = false, drop_mtp = false;
  std::string expert_orientation;  // "", out_in, in_out
  std::string dtype = "preserve";
  std::string tensor;    // layout: which shards hold it
  std::string from, to;  // hf or megatron
  std::string fail_on = "inconclusive";
  bool exit_zero = false;
  // output
  std::string dump_headers;
  bool plain = false;
  std::string out, format = "text", color = "auto", progress = "auto";
  bool json = false, ascii = false, overwrite = false, resume = false, no_verify = false,
       no_input = false, accept_changed = false, follow_links = false;
  int quiet = 0, verbose = 0;
  // engine
  std::optional<std::uint64_t> seed;
  std::optional<std::int64_t> jobs;
  std::string device = "cpu";
  std::optional<std::uint64_t> mem_limit_bytes;
  std::optional<double> timeout_seconds;
  std::optional<std::int64_t> seconds;  // fuzz: how long
  std::string replay;                   // fuzz: a saved world
  std::vector<std::string> operators;   // mutate: which, commas split
  std::string survivors;                // mutate: file for those that no claim sees

  /// Canonical option name -> how it was given: "--tp 2" or "BRIDGE_VERIFY_TP=2".
  std::map<std::string, std::string, std::less<>> given;

  [[nodiscard]] bool has(std::string_view option) const { return given.contains(option); }
  /// -qq is -2, -q is -1, -v is 1, -vv is 2.
  [[nodiscard]] int verbosity() const { return verbose - quiet; }
};

/// How the text of a value becomes a value.
enum class Form {
  Flag,
  Count,
  Text,
  Choice,
  Positive,
  Unsigned,
  Sizes,
  Names,
  Repeat,
  Pair,
  Duration,
  Bytes
};

using Member =
    std::variant<bool Options::*, int Options::*, std::string Options::*,
                 std::optional<std::int64_t> Options::*, std::optional<std::uint64_t> Options::*,
                 std::optional<double> Options::*, std::vector<std::int64_t> Options::*,
                 std::vector<std::string> Options::*,
                 std::vector<std::pair<std::string, std::string>> Options::*>;

struct OptionSpec {
  std::string_view name;     // without dashes, '-' between words
  char letter;               // 0 without a short form
  std::string_view aliases;  // blank-separated
  Form form;
  Member member;
  std::string_view value;     // placeholder, or the choices with '|'
  std::string_view group;     // common, model, layout, selection, output, engine
  std::string_view commands;  // blank-separated commands that use it; "*" for all
  std::string_view help;
  std::string_view remedy;  // what to write instead of a bad value, "" for the general advice
};
[[nodiscard]] std::span<const OptionSpec> option_specs();

/// What the parser must know of a command.
struct CommandName {
  std::string_view name;
  std::string_view aliases;  // blank-separated; "import" and "export" preset --to
  bool operands = false;     // words after it belong to it
};

using Environment = std::map<std::string, std::string, std::less<>>;

struct Parsed {
  Options options;
  std::vector<std::string>
      notes;  // things seen and not used, such as an unknown BRIDGE_VERIFY_ variable
};

/// Rules (docs/reference/cli.md): `_` equals `-` in long names; `--x v` and `--x=v`; options stand
/// before or after the command; no abbreviations; `--` ends options; --help and --version beat
/// everything. Without a command, --model or
/// --headers means `check`. Flags beat the environment.
/// Errors: UnknownOption, BadValue, Conflict.
[[nodiscard]] Result<Parsed> parse_options(std::span<const std::string> arguments,
                                           const Environment& environment,
                                           std::span<const CommandName> commands);

/// "--tensor-model-parallel-size" and "--tensor_model_parallel_size" -> the row of `tp`; nullptr
/// when unknown.
[[nodiscard]] const OptionSpec* find_option(std::string_view long_name);
[[nodiscard]] bool usable_by(const OptionSpec& spec, std::string_view command);
[[nodiscard]] std::vector<std::string> words_of(std::string_view blank_separated);

}  // namespace bv::cli
