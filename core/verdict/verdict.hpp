#pragma once
// Verdicts: what was claimed of which subject, how it ended, and how that is known.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/code.hpp"
#include "core/base/result.hpp"

namespace bv {

enum class Outcome { Proved, Held, Refuted, Inconclusive, Unsupported, Waived, Broken };
[[nodiscard]] std::string_view name(Outcome outcome);
/// Orders the outcomes of one subject or of one row: the larger is worse. Proved is 0.
[[nodiscard]] int badness(Outcome outcome);

/// Evidence letters of docs/reference/messages.md#evidence-letters, in printing order P B O U G S
/// W.
struct Evidence {
  bool proved = false;    // P: from headers, for every value
  bool bytes = false;     // B: moved and compared
  bool oracle = false;    // O: independent oracle agreed
  bool upstream = false;  // U: upstream's own code, traced, agreed
  bool gpu = false;       // G
  bool sampled = false;   // S
  bool waived = false;    // W
  bool operator==(const Evidence&) const = default;
};
/// "P-O----": one column a letter.
[[nodiscard]] std::string letters(const Evidence& evidence);
[[nodiscard]] Evidence operator|(const Evidence& a, const Evidence& b);

/// What stands in the place of a tensor where an element has no source.
inline constexpr std::string_view kZeroPadding = "zero padding";

/// One element on each side of a mapping. Without a tensor: nobody knows, or no element is meant.
struct ElementRef {
  std::string tensor;
  std::vector<std::int64_t> index;
  bool operator==(const ElementRef&) const = default;
};

/// The first wrong element.
struct Counterexample {
  std::string tensor;  // the tensor in which it was seen
  std::string rank;    // "tp0 pp0 ep0", "" when not on a rank
  std::vector<std::int64_t> index;
  ElementRef wanted;
  ElementRef found;
  std::string wanted_bits;  // hex, "" when the positions say it all
  std::string found_bits;
};

struct Verdict {
  std::string claim;  // "placement"
  std::string rule;   // rule id, "" for the whole model
  std::string kind;
  std::string rule_source;  // "qwen3_5_moe.json: decoder rule 3"
  std::string rule_class;   // of the bridge under test: "GatedMLPMapping"; "" for a family's rule
  std::string layout;       // layout id, "" when the claim has none
  Outcome outcome = Outcome::Inconclusive;
  Code code = Code::Assertion;  // meaningful unless Proved or Held
  Evidence evidence;
  std::string megatron;  // subject pattern or name
  std::vector<std::string> hf;
  std::vector<std::string> subjects{};  // every one, where this is of several that have one cause
  std::int64_t cases = 0;               // subjects looked at
  std::int64_t refuted_cases = 0;
  std::string title;               // one sentence: what is wrong, with names and numbers
  std::vector<std::string> facts;  // lines below the arrow
  std::string found;
  std::string wanted;
  std::string extent;
  std::string why;
  std::string help;
  std::string replay;
  std::vector<Counterexample> counterexamples;  // at most one, minimal first
  std::string waiver;  // where it is waived: "waivers.toml:3:1"; "" unless Waived

  /// claim.rule.layout: stable across runs. Without a rule its place takes the Megatron name, else
  /// the first HF name, else "model"; without a layout the id ends there.
  [[nodiscard]] std::string id() const;
};

/// What a claim covered in this run, for the table.
struct ClaimSummary {
  std::string claim{};
  std::string title{};
  std::int64_t subjects = 0;
  std::string note{};
  bool requested = true;  // false: the level does not include it; that never fails a run
  bool skipped = false;   // left out by the user (--skip): the run is undecided
  bool vacuous = false;   // looked for subjects and the model has none; `note` says why
  bool reached = true;    // false: an earlier claim stands in the way, `note` says which
  std::string noun{};     // what `subjects` counts: "HF tensors"
};

struct Fact {
  std::string what, value, because;
};

/// The program that made the verdicts.
struct Tool {
  std::string name = "bridge-verify";
  std::string version, commit, build, compiler;
};

struct LayoutRow {
  std::string id;
  std::int64_t tp = 1, pp = 1, ep = 1, etp = 1, vpp = 1, cp = 1, world = 1;
  std::string also{};  // what the id does not say, as options: "--make-vocab-size-divisible-by 64"
};

/// Planted faults of one operator on one side: how many the claims see.
struct MutationRow {
  std::string op;    // "SWAP"
  std::string side;  // "": the import, "(2)": both ways, "(back)": the export
  std::int64_t mutants = 0, killed = 0, equivalent = 0, survived = 0;
  std::int64_t forward_asked = 0;  // mutants that were computed by the forward oracles
  std::vector<std::int64_t> by_claim, by_level, by_gate;  // in the order of Mutation's lists
  bool operator==(const MutationRow&) const = default;
};

/// What `mutate` found.
struct Mutation {
  std::vector<std::pair<std::string, std::string>> claims;  // claim, level
  std::vector<std::string> levels;                          // cheapest first
  std::vector<double> gate_stds;  // weights that the upstream-style gate was run on
  std::int64_t places = 0;        // sample on layout
  std::vector<MutationRow> rows;
  struct Reason {
    std::string reason;
    std::int64_t mutants = 0;  // equivalent for this reason
    std::int64_t killed_elsewhere = 0;
    bool operator==(const Reason&) const = default;
  };
  std::vector<Reason> reasons;
  std::vector<std::string> survivors;
  bool operator==(const Mutation&) const = default;
};

/// One option that decides what is found, and where it was said.
struct SettingRow {
  std::string name, text;
  std::string origin;  // "file", "environment", "command line"
};

/// One waiver and what it did in this run.
struct WaiverRow {
  std::string code, subject, layouts, reason, issue, owner, expires, place;
  std::int64_t matched = 0;  // verdicts
  bool expired = false;
};

/// What makes a run fail (--fail-on), each with those before it.
enum class FailOn { Refuted, Inconclusive, Warning };
/// "refuted", "inconclusive", "warning".
[[nodiscard]] std::string_view name(FailOn fail_on);
/// The way back. nullopt for another word.
[[nodiscard]] std::optional<FailOn> fail_on_from(std::string_view word);
/// What changed since an earlier run.
struct BaselineRow {
  std::string change, id, before, after, title;
  bool operator==(const BaselineRow&) const = default;
};
struct Baseline {
  std::string ref;  // the file of the earlier run
  std::int64_t unchanged = 0;
  std::vector<BaselineRow> rows;
  bool operator==(const Baseline&) const = default;
};

/// Everything that one run found; the source of every report.
struct Run {
  Tool tool;
  std::string command;
  std::vector<SettingRow> settings;
  std::uint64_t seed = 0;
  std::string level;
  FailOn fail_on = FailOn::Inconclusive;
  // model
  std::string model_ref, model_source, architecture, model_type, family, family_reason,
      header_digest;
  std::string revision, rules_digest;
  std::string rules_repository, rules_commit;  // where the rules come from, "" when not known
  std::int64_t tensors = 0, elements = 0, shards = 0, rules = 0;
  std::uint64_t bytes = 0;
  std::vector<std::pair<std::string, std::int64_t>> dtypes;
  std::vector<Fact> detected;
  std::vector<LayoutRow> layouts;
  std::string layouts_note;  // "24 of 24 legal up to 8 ranks (auto)"
  std::vector<ClaimSummary> claims;
  std::vector<Verdict> verdicts;
  std::optional<Mutation> mutation;
  std::optional<Baseline> baseline;
  std::vector<std::string> notes;
  std::vector<Error>
      warnings;  // codes of severity Warning; they fail a run only with FailOn::Warning
  std::vector<Error> input_errors;  // why there are no verdicts, or not all: exit 2, 4 or 5
  std::vector<WaiverRow> waivers;
  std::string next, next_note;  // the command that would prove more, and what it does
  std::string report;           // folder that holds the written reports, "" when none
  bool partial = false;         // --match, --exclude, a time-out: some subjects were not checked
  bool allow_partial = false;   // the user accepts a partial run
  bool stopped = false;
  std::int64_t stop_signal = 2;  // of a stopped run; 1: SIGHUP, exit 129; 15: SIGTERM, exit 143
  // run: the only block that may differ between equal runs
  std::vector<std::string> argv;  // as typed
  double seconds = 0;
  std::string started, host;
  std::int64_t cpus = 0;
  std::uint64_t peak_rss = 0;
};

struct Counts {
  std::int64_t proved = 0, held = 0, refuted = 0, inconclusive = 0, unsupported = 0, waived = 0,
               broken = 0;
};
[[nodiscard]] Counts count(const Run& run);

/// The exit code of an error: 2 for usage, 3 for what this version cannot judge, 4 for a fault of
/// ours, 130 for a stop, else 5.
[[nodiscard]] int exit_code_of(Code code);
/// "USAGE", "BROKEN", "INPUT", ...: the word of an exit code (docs/reference/exit-codes.md).
[[nodiscard]] std::string_view word_of(int exit_code);

/// Broken (4), stopped (129, 130, 143), refuted (1), usage (2), unreadable input (5), undecided
/// (3), green (0): the first that applies. Zero verdicts, zero cases, a requested claim without a
/// verdict and a partial run are never green.
struct Conclusion {
  std::string word;  // PASS FAIL INCOMPLETE BROKEN INPUT STOPPED USAGE
  int exit_code = 4;
};
[[nodiscard]] Conclusion conclude(const Run& run);
/// "bridge-verify: PASS  proved 1507  held 118 ... layouts 24  0.9 s"
[[nodiscard]] std::string last_line(const Run& run);
/// The same for a person: counts of zero are left out.
[[nodiscard]] std::string short_last_line(const Run& run);

/// Why the conclusion is INCOMPLETE, one sentence each; empty when it is another word.
[[nodiscard]] std::vector<std::string> undecided_reasons(const Run& run);

/// The result of one claim of the table: the worst outcome of its verdicts, and the evidence that
/// all of its green verdicts share (`all`) or that some have (`some`).
struct ClaimResult {
  Outcome outcome = Outcome::Inconclusive;
  bool checked = false;  // at least one verdict
  Evidence all, some;
};
[[nodiscard]] ClaimResult result_of(const Run& run, std::string_view claim);

}  // namespace bv
