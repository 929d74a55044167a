#pragma once
// The claims about an adapter on its base: the same words as for a model, one subject a key, a pair
// or a factor on a layout.

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/lora/adapter.hpp"
#include "core/parallel/parallel.hpp"
#include "core/verdict/verdict.hpp"

namespace bv::claims {

struct AdapterSubject {
  const lora::Adapter* adapter = nullptr;
  const checkpoint::HfModel* base = nullptr;
  const kinds::Catalogue* kinds = nullptr;
  std::vector<parallel::Layout> layouts;
  /// Something else is asked of the adapter, which needs no ranks of Megatron (a merge, slices for
  /// serving): where Megatron has no form for it, claims about ranks are not asked, with the reason
  /// in their row.
  bool ranks_optional = false;
};

/// Every key of the file is read once, and belongs to a tensor of the base.
[[nodiscard]] std::vector<Verdict> check_adapter_names(const AdapterSubject& subject);
/// Every factor, bias and trained tensor has the sizes of the tensor that it changes.
[[nodiscard]] std::vector<Verdict> check_adapter_shapes(const AdapterSubject& subject);
/// The modules that the config makes PEFT wrap are those that have pairs.
[[nodiscard]] std::vector<Verdict> check_adapter_targets(const AdapterSubject& subject);
/// No factor holds a number that is not finite, and some product is not zero.
[[nodiscard]] std::vector<Verdict> check_adapter_values(const AdapterSubject& subject);
/// Every element of every local factor has one source, on each layout.
[[nodiscard]] std::vector<Verdict> check_adapter_coverage(const AdapterSubject& subject);
/// Every element of every local factor is where the formulas of the wrapped layer put it, on each
/// layout.
[[nodiscard]] std::vector<Verdict> check_adapter_placement(const AdapterSubject& subject);
/// The factors moved to poisoned shards and back are the bytes that they were, on each layout.
[[nodiscard]] std::vector<Verdict> check_adapter_bytes(const AdapterSubject& subject);

/// The layouts on which the adapter of some layer does not divide: IndivisibleDim, for each layout
/// of the subject or nothing.
[[nodiscard]] std::vector<std::optional<Error>> indivisible_layouts(const AdapterSubject& subject);

/// One thing that can be said of an adapter on its base.
struct AdapterClaim {
  std::string_view id;
  std::string_view title;      // in the table: at most 35 columns
  std::string_view statement;  // one sentence, for explain and docs
  std::string_view known_by;   // how it is known: evidence letters and words
  std::string_view noun;       // what is counted
  std::string_view asked;      // "with --adapter"
  bool after_names = false;    // judged only of an adapter whose keys are right
  bool on_layouts = false;     // judged on each layout, and only of an adapter without faults
  std::vector<Verdict> (*judge)(const AdapterSubject&) = nullptr;  // null: asked of two folders
};

/// In the order in which they are judged; the command, explain and the page of claims read it.
inline constexpr std::array kAdapterCatalogue = {
    AdapterClaim{.id = "adapter-names",
                 .title = "adapter keys name tensors",
                 .statement = "every key of the adapter is read once and belongs to a tensor of "
                              "the base",
                 .known_by = "P: the keys against the base's class",
                 .noun = "keys",
                 .asked = "with --adapter",
                 .judge = check_adapter_names},
    AdapterClaim{.id = "adapter-shapes",
                 .title = "factors fit their tensors",
                 .statement = "every factor, bias and trained tensor has the sizes of the tensor "
                              "that it changes",
                 .known_by = "P",
                 .noun = "pairs",
                 .asked = "with --adapter",
                 .judge = check_adapter_shapes},
    AdapterClaim{.id = "adapter-targets",
                 .title = "config wraps the adapted modules",
                 .statement = "the modules that PEFT wraps by the config are those that have pairs",
                 .known_by = "P: target_modules, exclude_modules and target_parameters as PEFT "
                             "matches them",
                 .noun = "pairs",
                 .asked = "with --adapter",
                 .after_names = true,
                 .judge = check_adapter_targets},
    AdapterClaim{.id = "adapter-values",
                 .title = "factors are finite numbers",
                 .statement = "no factor holds an infinity or a NaN",
                 .known_by = "B: every element",
                 .noun = "factors",
                 .asked = "with --adapter",
                 .judge = check_adapter_values},
    AdapterClaim{.id = "adapter-coverage",
                 .title = "no gap and no overlap in any factor",
                 .statement = "every element of every local factor has one source, on each layout",
                 .known_by = "P: swept on these sizes",
                 .noun = "factors x layouts",
                 .asked = "with --adapter",
                 .on_layouts = true,
                 .judge = check_adapter_coverage},
    AdapterClaim{.id = "adapter-placement",
                 .title = "factors lie as their layers do",
                 .statement = "every element of every local factor is where the formulas of the "
                              "wrapped layer put it, on each layout",
                 .known_by = "O: an oracle written from the formulas of the layers and of "
                             "Megatron's adapter classes",
                 .noun = "factors x layouts",
                 .asked = "with --adapter",
                 .on_layouts = true,
                 .judge = check_adapter_placement},
    AdapterClaim{.id = "adapter-bytes",
                 .title = "factors there and back, every byte",
                 .statement = "the factors moved to poisoned shards and back are the bytes that "
                              "they were",
                 .known_by = "B",
                 .noun = "factors x layouts",
                 .asked = "with --adapter",
                 .on_layouts = true,
                 .judge = check_adapter_bytes},
    AdapterClaim{.id = "adapter-same",
                 .title = "adds what the other adapter adds",
                 .statement = "two adapters of one base add the same to every tensor",
                 .known_by = "B: factors bit for bit, else the two products in float64",
                 .noun = "tensors",
                 .asked = "by lora check --against"},
    AdapterClaim{.id = "adapter-written",
                 .title = "the written files read back equal",
                 .statement = "every file that was written holds, read back from the disk, the "
                              "bytes that were meant",
                 .known_by = "B",
                 .noun = "tensors",
                 .asked = "by lora convert and lora merge"},
    AdapterClaim{.id = "adapter-merge",
                 .title = "merged within the derived bound",
                 .statement = "every element of a merged checkpoint is within the roundings that "
                              "base + s * (B * A) can have, everything else is as in the base",
                 .known_by = "O: an oracle in float64 with its own error term, which shares no "
                             "code with the merge",
                 .noun = "tensors",
                 .asked = "by lora check --merged"},
    AdapterClaim{.id = "adapter-slices",
                 .title = "slices lie where the base's rows lie",
                 .statement = "every rank of a server holds the rows and columns of each factor "
                              "that its part of the layer has",
                 .known_by = "B: every slice against what slicing computes; O: the parts of all "
                             "ranks put together are the factors, and each has the rows that an "
                             "oracle of Megatron's modules gives to that rank",
                 .noun = "layers",
                 .asked = "by lora slice and lora check --slices"},
};
/// The row of this id, which must be one.
[[nodiscard]] const AdapterClaim& adapter_claim(std::string_view id);
/// A row of the run's table, without what was counted.
[[nodiscard]] ClaimSummary summary_of(const AdapterClaim& claim);

/// Those that are asked of one adapter, with a row of the table for each, appended to `run`.
void judge_adapter(const AdapterSubject& subject, Run& run);

}  // namespace bv::claims
