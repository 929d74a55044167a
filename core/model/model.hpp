#pragma once
// From a config and a key set to the list of mappings: which HF tensors make which Megatron
// parameter, by which kind, with which axis sizes, in which place. Layout-independent; core/plan
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
#include "core/family/families.hpp"

namespace bv::model {

/// Named integers of one model: every geometry symbol that the family file defines (hidden_size,
/// num_attention_heads, ...). Flags are symbols with value 0 or 1.
struct Geometry {
  std::map<std::string, std::int64_t, std::less<>> symbols;
  /// Per decoder layer: the flags that hold there ("linear", "dense", ...), from the family's
  /// layer_flags.
  std::vector<std::set<std::string, std::less<>>> layer_flags;
  /// The same per MTP layer, where a list has entries for them.
  std::vector<std::set<std::string, std::less<>>> mtp_flags;
  /// Per decoder layer: numbers that it has in place of those in `symbols`, from the family's
  /// layer_sizes and what is computed from them.
  std::vector<std::map<std::string, std::int64_t, std::less<>>> layer_sizes;
  /// symbol -> the config path it came from ("text_config.num_attention_heads"), or "default 4
  /// (family file)".
  std::map<std::string, std::string, std::less<>> origin;

  /// nullopt when the family does not define the symbol.
  [[nodiscard]] std::optional<std::int64_t> get(std::string_view symbol) const;
  /// Asserts that the family defines the symbol.
  [[nodiscard]] std::int64_t at(std::string_view symbol) const;

  /// Decoder layers, without MTP; 0 for a family without a decoder.
  [[nodiscard]] std::int64_t layers() const;
  /// Routed experts of an MoE layer; 0 for a dense model.
  [[nodiscard]] std::int64_t experts() const;
  /// Rows of the vocabulary, without padding; 0 when the family does not say.
  [[nodiscard]] std::int64_t vocabulary() const;
  /// Size of a hidden state of the text model; nullopt when the family does not say.
  [[nodiscard]] std::optional<std::int64_t> hidden() const;
  /// The output layer has the tensor of the embedding.
  [[nodiscard]] bool ties_embeddings() const;
  /// The numbers for what a rule or condition is about, `sizes` being its own.
  [[nodiscard]] std::map<std::string, std::int64_t, std::less<>> with(
      const std::map<std::string, std::int64_t, std::less<>>& sizes) const;
};

/// One rule applied at one place.
struct Mapping {
  const family::Rule* rule = nullptr;
  family::Stage stage = family::Stage::Decoder;
  std::int64_t index = -1;      // layer i, MTP layer k, vision block j; -1 without
  std::int64_t expert = -1;     // global expert of a per-expert rule; -1 otherwise
  std::vector<std::string> hf;  // full names, in the order of rule->hf

  /// One HF stack makes the parameters of all experts.
  [[nodiscard]] bool is_stack() const {
    return expert < 0 && (rule->expert || !rule->experts.empty());
  }
};

struct Detected {
  std::string what;
  std::string value;
  std::string because;
};

/// A fault in the names, found while resolving (becomes a refuted verdict).
struct NameFault {
  Code code = Code::Assertion;  // set by whoever finds the fault
  std::string subject;          // tensor or parameter
  std::string message;
  std::string found;
  std::string wanted;
  std::string help;
  std::vector<std::string> subjects{};  // every one, where the fault is of several
};

struct Model {
  family::FamilyPtr family;
  Geometry geometry;
  std::string class_name;  // of config.json; "" when it names none
  family::Spelling spelling;
  std::map<std::string, std::string, std::less<>>
      prefixes;  // "M" -> "language_model.", "HF" -> "model.language_model.", "" -> "module."
  std::vector<Mapping>
      mappings;  // every HF tensor of a well-formed checkpoint stands in exactly one
  std::vector<Detected> detected;
  std::vector<NameFault>
      faults;  // missing, unused, mixed storage, ... ; empty when the names are right
  std::vector<std::string> dropped;  // HF tensors left out by an explicit option (--drop-mtp)
  std::vector<std::string>
      ignored;  // HF tensors that the family file allows to stay unused (buffers, shared copies)
  std::map<std::string, std::vector<std::string>> ignored_because;  // what those are, copies apart
  std::vector<std::pair<std::string, std::string>>
      must_equal;  // a stored copy -> the tensor whose bytes it repeats
  std::vector<family::Constraint> constraints;
  std::int64_t unasked = 0;  // parameters that the rules make of tensors in left_out alone
  bool tied = false;
  std::int64_t mtp_layers = 0;

  /// Every parameter is made and every HF tensor used, though perhaps for another module than its
  /// own (OtherSource): sizes and places can still be judged.
  [[nodiscard]] bool names_are_whole() const;
  /// Why an HF tensor makes no parameter; "" for one that does, or that is not there.
  [[nodiscard]] std::string why_unused(std::string_view hf) const;
  /// Megatron parameters that a mapping makes: one, or one for each expert of a stack.
  [[nodiscard]] std::int64_t parameters_of(const Mapping& mapping) const;
  /// Global Megatron name of a mapping; `expert` fills {e} for kinds with the grid axis E.
  [[nodiscard]] std::string megatron_name(const Mapping& mapping, std::int64_t expert = -1) const;
  /// Name inside one stage and expert-parallel rank: layer and expert numbers are local.
  [[nodiscard]] std::string local_name(const Mapping& mapping, std::int64_t local_index,
                                       std::int64_t local_expert) const;
};

struct ResolveOptions {
  family::Spelling spelling;
  bool drop_mtp = false;
  /// Decides stacks that are square.
  family::Orientation expert_orientation = family::Orientation::ByShape;
  bool config_only = false;  // there are no headers: take first choices and check no names
  /// With config_only: storage to take instead of the first choice, by the name that
  /// Model::detected gives it: "decoder_experts" -> "packed"; a prefix by prefix_form: "prefix_HF"
  /// -> "model.language_model.". Errors: RulesInvalid for an unknown form.
  std::map<std::string, std::string, std::less<>> forms = {};
  /// Globs on HF names: only parameters made of a tensor that one of them takes. Empty: all.
  std::vector<std::string> match = {};
  /// HF tensors that were taken out of the headers on purpose (NameFilter): a parameter that would
  /// be made of these alone is not wanted.
  std::set<std::string, std::less<>> left_out = {};
};
/// The key of ResolveOptions::forms for a prefix of Model::prefixes.
[[nodiscard]] std::string prefix_form(std::string_view prefix);

/// A family and why it was taken: "architectures", "model_type", "both agree".
struct FamilyChoice {
  family::FamilyPtr family;
  Detected reason;
};
/// By `model_type` and `architectures`, which usually agree. `model_type` decides where they do not
/// and where no family knows the class (a classifier, a bare model): it is what transformers takes
/// the config class from. Never by the model's name. Errors: ArchitectureUnknown with the nearest
/// families; ConfigField.
[[nodiscard]] Result<FamilyChoice> choose(const nlohmann::json& config,
                                          const std::vector<family::FamilyPtr>& families);
[[nodiscard]] Result<family::FamilyPtr> choose_family(
    const nlohmann::json& config, const std::vector<family::FamilyPtr>& families);

/// The class of config.json, and whether it has a language head: a class of the family, a
/// "...ForCausalLM" or "...ForConditionalGeneration", or none at all.
struct HeadClass {
  std::string name;
  bool language = true;
};
[[nodiscard]] HeadClass head_class(const family::Family& family, const nlohmann::json& config);

/// The config fields behind an expression over symbols, with their numbers, each once, in its
/// order: "num_key_value_heads=4", "head_dim=6 (default 6: config.json has no head_dim)".
[[nodiscard]] std::vector<std::string> fields_behind(const family::Family& family,
                                                     const Geometry& geometry,
                                                     std::string_view expression);
/// The first of them as --set writes it: "text_config.num_key_value_heads".
[[nodiscard]] std::string field_of(const family::Family& family, const Geometry& geometry,
                                   std::string_view expression);

/// Config -> numbers. Errors: ConfigField with the field's path; IndivisibleDim for derived sizes
/// that are no integers.
[[nodiscard]] Result<Geometry> read_geometry(const family::Family& family,
                                             const nlohmann::json& config);

/// Config and headers -> mappings, detections and name faults. Storage forms (packed or per expert,
/// prefixes, MTP) are decided from the names and shapes present, each section for itself.
[[nodiscard]] Result<Model> resolve(family::FamilyPtr family, const nlohmann::json& config,
                                    const Headers& headers, const ResolveOptions& options);

}  // namespace bv::model
