#pragma once
// From a config and a key set to the list of mappings: which HF tensors make which Megatron
// parameter, by which kind, with which axis sizes, in which place. Layout-independent; core/exec
// binds it to a parallel layout.

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"
#include "core/base/tensor_spec.hpp"

namespace bv::model {

/// Named integers of one model: every geometry symbol that the family file defines (hidden_size,
/// num_attention_heads, ...). Flags are symbols with value 0 or 1.
struct Geometry {
  std::map<std::string, std::int64_t, std::less<>> symbols;
  /// Per decoder layer: the flags that hold there ("linear", "dense", ...), from the family's
  /// layer_flags.
  std::vector<std::set<std::string, std::less<>>> layer_flags;
  /// symbol -> the config path it came from ("text_config.num_attention_heads"), or "default 4
  /// (family file)".
  std::map<std::string, std::string, std::less<>> origin;

  [[nodiscard]] std::optional<std::int64_t> get(std::string_view symbol) const;
  [[nodiscard]] std::int64_t at(std::string_view symbol) const;  // asserts
};

/// Integer expressions over symbols: + - * / ( ); `/` is exact division.
/// Errors: IndivisibleDim naming both operands with their expression text; RulesInvalid for unknown
/// symbols and syntax.
[[nodiscard]] Result<std::int64_t> evaluate(
    std::string_view expression, const std::map<std::string, std::int64_t, std::less<>>& symbols);

/// Where a mapping lives on the pipeline (mapping-semantics 7.2).
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
  std::string value;        // "" or the value-changing map, e.g. "minus_one"
  bool keep_float32 =
      false;  // stored as F32 whatever params_dtype is (router.expert_bias, the vision tower)
  std::string source;               // "qwen3_5_moe.json: decoder rule 3"
  std::string megatron_local;       // without Transformer Engine; "" when it is `megatron`
  std::string megatron_sequential;  // without grouped experts; "" when it is `megatron`
  std::vector<std::string> when;    // flags and symbols that must hold, "!x" for must not
  bool per_expert = false;          // one mapping for each value of {e}
  std::string experts;              // expression: how many values {e} takes, "" without {e}
  std::string form_group;           // storage alternatives: "experts", "" for none
  std::string form;                 // this rule's alternative: "packed"
  std::string orientation;          // of a packed stack: "out_in", "in_out" or ""
  std::map<std::string, std::vector<std::string>, std::less<>>
      shapes;               // source name -> extents that tell forms apart
  std::size_t section = 0;  // which section of the family it belongs to
};

/// The template that `spelling` chooses.
[[nodiscard]] const std::string& megatron_template(const Rule& rule, const Spelling& spelling);

/// One rule applied at one place.
struct Mapping {
  const Rule* rule = nullptr;
  Stage stage = Stage::Decoder;
  std::int64_t index = -1;      // layer i, MTP layer k, vision block j; -1 without
  std::int64_t expert = -1;     // global expert of a per-expert rule; -1 otherwise
  std::vector<std::string> hf;  // full names, in the order of rule->hf
};

struct Detected {
  std::string what;
  std::string value;
  std::string because;
};

/// A fault in the names, found while resolving (becomes a refuted verdict).
struct NameFault {
  Code code = Code::UnknownOption;
  std::string subject;  // tensor or parameter
  std::string message;
  std::string found;
  std::string wanted;
  std::string help;
};

struct Constraint {
  std::string code;         // "E010": condition of mapping-semantics section 11
  std::string divisor;      // "tp", "etp", "ep", "cp*tp"
  std::string dividend;     // expression over symbols
  bool either_way = false;  // dividend % divisor == 0 or divisor % dividend == 0
  std::string of;           // what it cuts: "self_attention.linear_qkv"
  std::string noun;         // "query groups"
};

class Family;
using FamilyPtr = std::shared_ptr<const Family>;

struct Model {
  FamilyPtr family;
  Geometry geometry;
  Spelling spelling;
  std::map<std::string, std::string, std::less<>>
      prefixes;  // "M" -> "language_model.", "HF" -> "model.language_model."
  std::vector<Mapping>
      mappings;  // every HF tensor of a well-formed checkpoint stands in exactly one
  std::vector<Detected> detected;
  std::vector<NameFault>
      faults;  // missing, unused, mixed storage, ... ; empty when the names are right
  std::vector<std::string> dropped;  // HF tensors left out by an explicit option (--drop-mtp)
  std::vector<std::string>
      ignored;  // HF tensors that the family file allows to stay unused (buffers, shared copies)
  std::vector<std::pair<std::string, std::string>>
      must_equal;  // a stored copy -> the tensor whose bytes it repeats
  std::vector<Constraint> constraints;
  bool tied = false;
  std::int64_t mtp_layers = 0;

  /// Every parameter is made and every HF tensor used, though perhaps for another module than its
  /// own (OtherSource): sizes and places can still be judged.
  [[nodiscard]] bool names_are_whole() const;
  /// Global Megatron name of a mapping; `expert` fills {e} for kinds with the grid axis E.
  [[nodiscard]] std::string megatron_name(const Mapping& mapping, std::int64_t expert = -1) const;
  /// Name inside one stage and expert-parallel rank: layer and expert numbers are local.
  [[nodiscard]] std::string local_name(const Mapping& mapping, std::int64_t local_index,
                                       std::int64_t local_expert) const;
};

struct ResolveOptions {
  Spelling spelling;
  bool drop_mtp = false;
  std::string expert_orientation;  // "", "out_in" or "in_out": decides square stacks
  bool config_only = false;        // there are no headers: take first choices and check no names
  /// With config_only: storage to take instead of the first choice, by the name that
  /// Model::detected gives it: "decoder_experts" -> "packed", "prefix_HF" ->
  /// "model.language_model.". Errors: RulesInvalid for a form that is none.
  std::map<std::string, std::string, std::less<>> forms = {};
};

/// Every family built in: one JSON file each under core/models (compiled in from the folder's
/// listing). Errors: RulesInvalid naming file and place.
[[nodiscard]] Result<std::vector<FamilyPtr>> builtin_families();
/// One family file. It may use the built-in tables and tables of its own.
/// Errors: RulesInvalid naming file and place.
[[nodiscard]] Result<FamilyPtr> parse_family(std::string_view json_text, std::string_view file);

[[nodiscard]] const std::string& name(const Family& family);
[[nodiscard]] const std::string& doc(const Family& family);
[[nodiscard]] const std::vector<std::string>& architectures(const Family& family);
[[nodiscard]] const std::vector<std::string>& model_types(const Family& family);
[[nodiscard]] const std::vector<Rule>& rules(const Family& family);
/// The stage of a rule's section: "decoder", "mtp", ...
[[nodiscard]] std::string_view stage_name(const Family& family, const Rule& rule);

/// Chooses by `architectures` then `model_type`; never by the model's name.
/// Errors: ArchitectureUnknown with the nearest families.
[[nodiscard]] Result<FamilyPtr> choose_family(const nlohmann::json& config,
                                              const std::vector<FamilyPtr>& families);

/// Config -> numbers. Errors: ConfigField with the field's path; IndivisibleDim for derived sizes
/// that are no integers.
[[nodiscard]] Result<Geometry> read_geometry(const Family& family, const nlohmann::json& config);

/// Config and headers -> mappings, detections and name faults. Storage forms (packed or per expert,
/// prefixes, MTP) are decided from the names and shapes present, each section for itself.
[[nodiscard]] Result<Model> resolve(FamilyPtr family, const nlohmann::json& config,
                                    const Headers& headers, const ResolveOptions& options);

}  // namespace bv::model
