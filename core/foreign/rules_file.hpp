#pragma once
// A foreign rule set (schema bridge-rules/1, docs/howto/check-your-own-rules.md) as it stands in
// its file.

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/result.hpp"
#include "core/base/tensor_spec.hpp"
#include "core/family/words.hpp"

namespace bv::foreign {

struct ForeignRule {
  std::string id;              // its own, or "r" + position
  std::string kind;            // as written: a kind name, else the class name
  std::string upstream_class;  // "" when the row gives its kind alone
  std::string differs;         // what its class was seen to do otherwise than the kind of that name
  std::string megatron;        // pattern: `*` is digits, `**` anything
  std::vector<std::pair<std::string, std::string>> hf;  // role ("" when there is one) -> pattern
  family::Orientation orientation = family::Orientation::ByShape;
  family::ValueRule value;                // beside that of the kind
  std::vector<std::int64_t> permutation;  // permute_dims; empty when it moves nothing
  /// A line of notation of its own, without a name, and the sizes of its axes; `kind` then stands
  /// for it. "" for a rule of a known kind.
  std::string layout;
  std::vector<std::pair<std::string, std::string>> axes;
  /// Roles whose tensor may be absent, and what stands for it: "skip", "zero" or "copy:ROLE".
  std::vector<std::pair<std::string, std::string>> optional;
  std::optional<std::int64_t> slice;  // the rule reads this index of dimension 0 of its tensor
  std::string when;    // the setting that it is for: "mtp", "sequential", "unfused"; "" for all
  std::string source;  // "bridge.py:257", else "my.rules.json:88:5"
  std::size_t position = 0;  // from 0
};

/// One parameter of the Megatron model that was built, as the exporter lists it.
struct ListedParameter {
  std::string name;
  std::optional<Shape> shape;  // at TP 1
  std::string module;          // class of the module, "" when it is not said
  std::string parallelism;     // column, row, replicated; "" when it is not said
};

/// How the norm weights of a pattern are kept: as they are, or as their offset from one.
struct NormStorage {
  std::string pattern;
  bool offset = false;
};

/// What the library's own modules were seen to do with norm weights (facts.norms); in each list the
/// first pattern that takes a name counts.
struct MeasuredNorms {
  std::vector<NormStorage> hf, megatron;
};

/// The bridge changes tensors before its rules read them (hooks.maybe_modify_loaded_hf_weight).
struct LoadHook {
  std::string owner;  // the class that has it
  /// Ids of the rules that it changes something for; nullopt when it was not tried.
  std::optional<std::vector<std::string>> changes;
  /// Patterns of tensors that it reads to make those that the rules name.
  std::vector<std::string> reads;
};

/// The bridge changes tensors that its rules have written (hooks.maybe_modify_converted_hf_weight).
struct ExportHook {
  std::string owner;
  std::optional<std::vector<std::string>> changes;  // as of LoadHook; hooks.exports
};

/// A part of the library below the bridge that is not the one that the exporter takes for granted
/// (hooks.base): what the bridge does with its rules is then not known.
struct BaseChange {
  std::string name;    // "MegatronModelBridge.load_weights_hf_to_megatron"
  std::string source;  // "model_bridge.py:1018"
  std::string what;    // "is not that of megatron-bridge 0.6.2"
};

/// Settings of the provider that say how the rows of a weight are read.
struct RowFacts {
  std::optional<bool> rotary_interleaved;
  /// facts.rotary, as both sides' functions were seen to rotate: neighbouring rows, or halves?
  std::optional<bool> hf_neighbours, megatron_neighbours;
  /// facts.rotary_rows: how many rows of a head each side turns.
  std::optional<std::int64_t> hf_rows, megatron_rows;
  double rotary_part = 1;           // rotary_percent: of the rows of a head
  bool latent_attention = false;    // multi_latent_attention: rows of its own
  std::string glu_interleave_size;  // moe_mlp_glu_interleave_size as written; "" when it is not set
};

/// Fields of the provider that a checkpoint is held against; those that the file does not have are
/// not there.
struct ProviderFacts {
  std::map<std::string, std::int64_t, std::less<>> sizes;
  std::map<std::string, bool, std::less<>> flags;
  std::vector<std::int64_t> expert_layers;  // moe_layer_freq, where it is a list: 1 with experts
  std::string normalization;                // "LayerNorm" has biases, "RMSNorm" none
  std::string positions;                    // position_embedding_type
  std::string layer_spec;  // the function that names the modules of a layer, with its module
};

struct ForeignRules {
  std::string file;
  std::string repository;
  std::string commit;
  std::string bridge_class;
  std::vector<std::string> architectures;
  std::vector<ForeignRule> rules;
  /// facts.layernorm_zero_centered_gamma: does Megatron keep norm weights as offsets from one?
  std::optional<bool> zero_centered_norms;
  MeasuredNorms norms;
  RowFacts row_facts;
  ProviderFacts provider;
  std::optional<LoadHook> load_hook;
  std::optional<ExportHook> export_hook;
  /// Methods of the bridge that load or write all tensors, "NAME of CLASS", of which nobody knows
  /// what they do.
  std::vector<std::string> own_methods;
  std::vector<BaseChange> base_changes;
  std::vector<std::string> trouble;  // what the exporter could not do
  /// model.parameters: all parameters of the Megatron model, and no others.
  std::optional<std::vector<ListedParameter>> parameters;
  std::vector<Error> warnings;  // keys that nobody reads: RulesKeyUnknown
};

/// In rule order; the texts are those of `rules`.
[[nodiscard]] std::vector<std::string_view> megatron_patterns(const ForeignRules& rules);

/// Bounds of a rule set.
inline constexpr std::size_t kForeignRulesMax = 10000;
inline constexpr std::size_t kDoubleStarRulesMax = 256;  // each is tried on every name
inline constexpr std::size_t kListedParametersMax = 500000;
inline constexpr std::size_t kRulesFileBytesMax = std::size_t{64} << 20;

/// Errors: RulesInvalid naming the file with line and column, the rule and the key.
[[nodiscard]] Result<ForeignRules> parse_rules_file(std::string_view text, const std::string& file);

}  // namespace bv::foreign
