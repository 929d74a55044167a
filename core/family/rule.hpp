#pragma once
// One rule of a family: which HF tensors make one Megatron parameter, by which kind, with which
// sizes.

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/family/words.hpp"

namespace bv::family {

/// Where a mapping lives on the pipeline (docs/reference/semantics.md#what-lives-where).
enum class Stage { Embedding, Decoder, FinalNorm, Output, Mtp, Vision };

/// How this run spells Megatron names and cuts experts.
struct Spelling {
  bool transformer_engine =
      true;  // fused layer_norm_weight names; false: input_layernorm / pre_mlp_layernorm
  bool grouped_experts = true;  // linear_fc1.weight{e}; false: local_experts.{e}.linear_fc1.weight
};

/// One row of a family file.
struct Rule {
  std::string id;                                        // "r" + position in the family, stable
  std::string kind;                                      // name of a notation line
  std::string megatron;                                  // template with {M} {i} {e} {k} {j}
  std::vector<std::pair<std::string, std::string>> hf;   // notation source name -> template
  std::map<std::string, std::string, std::less<>> axes;  // axis -> expression over symbols and `t`
  std::vector<std::string> rest;                         // expressions bound to "..."
  bool expert = false;                                   // sharded by ETP and placed by EP
  bool vocabulary = false;  // rows may be padded; `pad` is bound by the layout
  ValueRule value;
  bool keep_float32 =
      false;  // stored as F32 whatever params_dtype is (router.expert_bias, the vision tower)
  bool as_in_hf = false;  // of a module that Megatron takes from HF as it is: no rank cuts it, or
                          // an adapter on it
  std::string source;               // "qwen3_5_moe.json: decoder rule 3"
  std::string upstream_class;       // of a rule of another bridge: "GatedMLPMapping"
  std::string megatron_local;       // without Transformer Engine; "" when it is `megatron`
  std::string megatron_sequential;  // without grouped experts; "" when it is `megatron`
  std::vector<std::string> when;    // flags and symbols that must hold, "!x" for must not
  bool per_expert = false;          // one mapping for each value of {e}
  std::string experts;              // expression: how many values {e} takes, "" without {e}
  std::string form_group;           // storage alternatives: "experts", "" for none
  std::string form;                 // this rule's alternative: "packed"
  Orientation orientation = Orientation::ByShape;  // of a packed stack
  std::map<std::string, std::vector<std::string>, std::less<>>
      shapes;               // source name -> extents that tell forms apart
  std::size_t section = 0;  // which section of the family it belongs to
  /// Of a rule that was fitted to a config: sizes that its layers have in place of the model's, and
  /// the layers (sorted), where it is not for all of its section.
  std::map<std::string, std::int64_t, std::less<>> sizes;
  std::vector<std::int64_t> layers;

  [[nodiscard]] bool is_for(std::int64_t layer) const;
};

/// The template that `spelling` chooses.
[[nodiscard]] const std::string& megatron_template(const Rule& rule, const Spelling& spelling);

struct Constraint {
  std::string code;         // "E010": condition (docs/reference/semantics.md#conditions)
  Divisor divisor;          // by what the layout divides it
  std::string dividend;     // expression over symbols
  bool either_way = false;  // dividend % divisor == 0 or divisor % dividend == 0
  std::string of;           // what it cuts: "self_attention.linear_qkv"
  std::string noun;         // "query groups"
  std::map<std::string, std::int64_t, std::less<>> sizes = {};  // of its layers, as Rule::sizes

  [[nodiscard]] bool operator==(const Constraint&) const = default;
};

}  // namespace bv::family
