#pragma once
// The claims: the list is the product. One row a claim, in the order in which they are judged;
// check, roundtrip, convert, mutate, help, the README's table and the schema read it.

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "properties/claims/subject.hpp"

namespace bv::claims {

/// What a run looks at: headers alone, every byte, and models that are computed.
enum class Level { Headers, Data, Full };
[[nodiscard]] std::string_view name(Level level);
/// Errors: BadValue for a word that is not a level.
[[nodiscard]] Result<Level> level_named(std::string_view word);

/// One thing that can be said of a bridge.
struct Claim {
  std::string_view id;
  std::string_view title;      // in the table: at most 33 columns
  std::string_view statement;  // one sentence, for help and docs
  std::string_view known_by;   // how it is known: evidence letters and words, for docs
  std::string_view noun;       // what is counted: "HF tensors"
  Level level = Level::Headers;
  bool needs_bytes = false;       // with headers alone it is judged only when asked for by name
  bool needs_shapes = false;      // nothing moves while a header has a wrong shape
  bool needs_forward = false;     // asks the forward oracles
  bool by_rule = false;           // says something of a rule while the names of others are wrong
  bool needs_device = false;      // of a run with a device, or asked for by name; else not listed
  std::string_view vacuous = "";  // why a model may have no subject; "" when every model has one
  std::int64_t (*count)(const Subject&) = nullptr;
  std::vector<Verdict> (*judge)(const Subject&) = nullptr;
};

// The judges: each a function from a subject to verdicts. Nothing here prints. One verdict for
// (claim, rule, layout); the counterexample is the first wrong element. `count_` functions say how
// many subjects a claim has before it is judged: the cases of its verdicts must add up to that
// number.

/// Every HF tensor is used exactly once, or left out for a stated reason, and every Megatron
/// parameter is filled (from the model's name faults).
[[nodiscard]] std::vector<Verdict> check_names(const Subject& subject);
[[nodiscard]] std::int64_t count_names(const Subject& subject);

/// Header shapes equal the rules' extents, uncut and on every layout; the message names the config
/// fields they come from. Also the dtypes of tensors that are fused into one.
[[nodiscard]] std::vector<Verdict> check_shapes(const Subject& subject);
[[nodiscard]] std::int64_t count_shapes(const Subject& subject);

/// Every element of every shard comes from exactly one element of the checkpoint (pads and replicas
/// declared): proved on the text for all sizes, swept on this layout's sizes, and every layer has
/// its stage.
[[nodiscard]] std::vector<Verdict> check_coverage(const Subject& subject);
[[nodiscard]] std::int64_t count_coverage(const Subject& subject);

/// The way back reaches every HF element exactly once: proved on the text, swept on this layout's
/// sizes.
[[nodiscard]] std::vector<Verdict> check_inverse(const Subject& subject);
[[nodiscard]] std::int64_t count_inverse(const Subject& subject);

/// The same rows on the same ranks as the oracle's independent statement; elements carry their own
/// coordinates.
[[nodiscard]] std::vector<Verdict> check_placement(const Subject& subject);
[[nodiscard]] std::int64_t count_placement(const Subject& subject);

/// Each rule adds what the module wants: Megatron keeps some norm weights as their offset from one.
[[nodiscard]] std::vector<Verdict> check_offsets(const Subject& subject);
[[nodiscard]] std::int64_t count_offsets(const Subject& subject);

/// Rules that compute (norm minus one, casts) lose no bit of these tensors, and tensors that are
/// stored twice hold the same bytes. Tensors that nobody can compute with are Unsupported; without
/// bytes: Inconclusive.
[[nodiscard]] std::vector<Verdict> check_values(const Subject& subject);
[[nodiscard]] std::int64_t count_values(const Subject& subject);

/// Every byte is moved to poisoned shards and back and compared.
[[nodiscard]] std::vector<Verdict> check_bytes(const Subject& subject);
[[nodiscard]] std::int64_t count_bytes(const Subject& subject);

/// What a device makes of the same boxes has the bits that the processor makes: every parameter,
/// cast and summed as it is converted, over poisoned targets.
[[nodiscard]] std::vector<Verdict> check_gpu(const Subject& subject);
[[nodiscard]] std::int64_t count_gpu(const Subject& subject);

/// The HF module and the sharded Megatron module compute the same outputs: on small random models
/// of the same structure, in float64, with the weights moved by the rules under test.
[[nodiscard]] std::vector<Verdict> check_forward(const Subject& subject);
[[nodiscard]] std::int64_t count_forward(const Subject& subject);

/// Tensors that the checkpoint holds twice (tied embeddings, shared copies) hold the same bytes.
[[nodiscard]] std::vector<Verdict> check_copies(const Subject& subject);

inline constexpr std::array kCatalogue = {
    Claim{.id = "names",
          .title = "HF tensors used, parameters filled",
          .statement = "every HF tensor is used once or left out for a reason, every Megatron "
                       "parameter is filled",
          .known_by = "P: the rules against the headers",
          .noun = "HF tensors",
          .count = count_names,
          .judge = check_names},
    Claim{.id = "shapes",
          .title = "header shapes are the rules' extents",
          .statement = "header shapes equal the rules' extents; a mismatch names the config fields",
          .known_by = "P",
          .noun = "HF tensors",
          .count = count_shapes,
          .judge = check_shapes},
    Claim{.id = "coverage",
          .title = "no gap and no overlap in any shard",
          .statement = "every element of every shard has one source, pads and replicas declared; "
                       "every layer has one stage",
          .known_by = "P: proved on the text of each kind for all sizes, swept on these",
          .noun = "parameters and layers x layouts",
          .count = count_coverage,
          .judge = check_coverage},
    Claim{.id = "inverse",
          .title = "HF to Megatron to HF is the identity",
          .statement = "the way back reaches every HF element",
          .known_by = "P: proved and swept likewise",
          .noun = "HF tensors x layouts",
          .count = count_inverse,
          .judge = check_inverse},
    Claim{.id = "placement",
          .title = "same elements as the oracle",
          .statement = "the same elements on the same ranks",
          .known_by =
              "O: an oracle written from the formulas, which shares no code with the engine "
              "and is tested against LibTorch",
          .noun = "parameters x layouts",
          .by_rule = true,
          .count = count_placement,
          .judge = check_placement},
    Claim{.id = "offsets",
          .title = "norms stored as modules read them",
          .statement = "norm weights are stored as the module reads them: w, or w - 1",
          .known_by = "O: the norm classes of transformers and Megatron-Core",
          .noun = "parameters",
          .by_rule = true,
          .count = count_offsets,
          .judge = check_offsets},
    Claim{.id = "values",
          .title = "value-changing rules keep every bit",
          .statement = "rules that compute (norm minus 1, casts) lose no bit of these tensors; "
                       "tensors stored twice are equal",
          .known_by = "B: every element converted and converted back",
          .noun = "HF tensors",
          .needs_bytes = true,
          .vacuous = "no rule of this model computes",
          .count = count_values,
          .judge = check_values},
    Claim{.id = "bytes",
          .title = "every byte there and back",
          .statement = "every byte there and back, targets poisoned",
          .known_by = "B",
          .noun = "HF tensors x layouts",
          .level = Level::Data,
          .needs_bytes = true,
          .needs_shapes = true,
          .count = count_bytes,
          .judge = check_bytes},
    Claim{.id = "gpu",
          .title = "the GPU gives the same bits",
          .statement =
              "a GPU produces the same bits for every parameter as the processor, casts and "
              "sums with it, targets poisoned",
          .known_by = "G: `--device cuda`",
          .noun = "parameters x layouts",
          .level = Level::Data,
          .needs_bytes = true,
          .needs_shapes = true,
          .needs_device = true,
          .count = count_gpu,
          .judge = check_gpu},
    Claim{.id = "forward",
          .title = "small random models compute the same",
          .statement = "small random models of the same structure compute the same in float64, as "
                       "transformers and as sharded Megatron do",
          .known_by = "O, sampled: `--level full`",
          .noun = "models x layouts",
          .level = Level::Full,
          .needs_forward = true,
          .count = count_forward,
          .judge = check_forward},
};
[[nodiscard]] constexpr std::span<const Claim> catalogue() {
  return kCatalogue;
}
/// nullptr for a word that names none.
[[nodiscard]] const Claim* find_claim(std::string_view id);
/// Errors: BadValue naming the nearest; `option` is "--only" or "--skip".
[[nodiscard]] Status known_claims(const std::vector<std::string>& names, std::string_view option);

/// Which claims a run asks.
struct Wanted {
  Level level = Level::Headers;
  std::vector<std::string> only = {};  // ids; empty for all of the level
  std::vector<std::string> skip = {};
  std::vector<std::string> also = {};      // beyond the level
  bool asked(const Claim& claim) const;    // named in `only`
  bool skipped(const Claim& claim) const;  // named in `skip`
  /// True when it is to be judged on this subject.
  bool includes(const Claim& claim, const Subject& subject) const;
};

/// The verdicts of one claim, held against the number of its subjects: a judge that passes over one
/// is a fault of ours, and the claim is Broken.
[[nodiscard]] std::vector<Verdict> judged(const Claim& claim, const Subject& subject);

/// Judges claims into a run: their verdicts, and a row of the table for each.
class Panel {
 public:
  Panel(Wanted wanted, Run& run) : wanted_(std::move(wanted)), run_(run) {}

  /// The first claim. Wrong names are shown whatever was asked for: little below can be trusted
  /// with them. True when every other claim can be judged.
  bool judge_names(const Subject& subject);
  /// All others, in order. `unreached` is why they cannot be judged; "" when they can. Where names
  /// are wrong, what is refuted of the rules whose tensors are all there is said all the same.
  void judge_rest(const Subject& subject, const std::string& unreached);

 private:
  void add(const Claim& claim, const Subject& subject, std::vector<Verdict> verdicts);
  void add_unreached(const Claim& claim, const std::string& why);
  void judge_beside(const Subject& subject, const Claim& claim, const std::string& why);
  [[nodiscard]] bool shapes_are_wrong(const Subject& subject);

  Wanted wanted_;
  Run& run_;
  bool shapes_known_ = false;
  bool shapes_wrong_ = false;
};

}  // namespace bv::claims
