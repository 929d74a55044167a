#pragma once
// A foreign rule set (schema bridge-rules/1, docs/howto/check-your-own-rules.md) and the
// model::Model that it makes of a checkpoint, so that every claim about our own rules can be made
// about it.

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/foreign/pattern.hpp"
#include "core/model/model.hpp"

namespace bv::foreign {

struct ForeignRule {
  std::string id;        // "r31": its own, or "r" + position
  std::string kind;      // as written: a kind name, else the class name
  std::string megatron;  // pattern: `*` is digits, `**` anything
  std::vector<std::pair<std::string, std::string>> hf;  // role ("" when there is one) -> pattern
  std::optional<bool> transposed;                       // packed experts stored [E, in, out]
  std::string value;                                    // value rule beside that of the kind
  std::vector<std::int64_t> permutation;                // permute_dims; empty when it moves nothing
  std::string source;        // "bridge.py:257", else "my.rules.json: rule 31"
  std::size_t position = 0;  // from 0
};

struct ForeignRules {
  std::string file;
  std::string commit;
  std::string bridge_class;
  std::vector<std::string> architectures;
  std::vector<ForeignRule> rules;
};

/// Bounds of a rule set.
inline constexpr std::size_t kForeignRulesMax = 10000;
inline constexpr std::size_t kRulesFileBytesMax = std::size_t{64} << 20;

/// Errors: RulesInvalid naming file, rule and key.
[[nodiscard]] Result<ForeignRules> parse_rules_file(std::string_view text, const std::string& file);

inline constexpr std::size_t kNoRest = static_cast<std::size_t>(-1);

/// What a kind or class name stands for.
struct ForeignKind {
  std::vector<std::string> names;
  std::string kind;  // our notation line
  bool is_auto = false;
  bool packed = false;
  std::vector<std::vector<std::string>> sources;  // the roles that each source of the line may have
  std::map<std::string, std::string, std::less<>> axes;
  std::size_t rest = kNoRest;  // trailing dimensions are those of the first tensor from here on
  std::string value;
  std::map<std::string, std::string, std::less<>>
      when;  // flag of the config -> the line that holds then
  std::string transposed_kind;
  std::map<std::string, std::string, std::less<>> transposed_axes;
  std::string line;  // a line of notation of its own, "" when the catalogue has it
};
/// Data: core/families/tables/upstream_classes.json. Errors: RulesInvalid (a fault of the build).
struct ForeignKinds {
  std::vector<ForeignKind> kinds;
  std::vector<ForeignKind> permuted;  // lines for permute_dims [1, 0]; names[0] is the plain kind
  // Globs on Megatron names.
  std::vector<std::string> auto_replicated, auto_row, auto_row_bias, auto_column;
  [[nodiscard]] const ForeignKind* find(std::string_view name) const;
  /// The kind of an "auto" rule for this parameter; "" for a module that the table does not know.
  [[nodiscard]] std::string_view parallelism(std::string_view megatron) const;
};
[[nodiscard]] Result<ForeignKinds> foreign_kinds();
/// Lines of notation that only foreign rules use, one a line.
[[nodiscard]] std::string foreign_lines(const ForeignKinds& kinds);
/// Errors: RulesInvalid naming the rule, its kind and the nearest known one.
[[nodiscard]] Result<const ForeignKind*> kind_of(const ForeignKinds& kinds,
                                                 const ForeignRules& rules,
                                                 const ForeignRule& rule);

/// What is wrong with one rule by itself; empty when it can be applied: unknown kind, missing or
/// superfluous part, permutation that is not its own inverse (E071), module without a parallelism
/// (E070): RulesInvalid; wildcards that do not pair up (E065) or mix * and ** (E066):
/// WildcardCount.
[[nodiscard]] std::vector<Error> rule_faults(const ForeignKinds& kinds, const ForeignRules& rules,
                                             const ForeignRule& rule);
/// The fault of an "auto" rule on a parameter whose module the table does not know (E070).
[[nodiscard]] Error unknown_module(const ForeignRule& rule, std::string_view megatron);

/// The HF pattern of a rule for one part of its kind, nullptr without one.
[[nodiscard]] const std::string* pattern_for(const ForeignRule& rule,
                                             const std::vector<std::string>& roles);

/// Writes line of notation, axes and trailing dimensions of a foreign rule into `rule`, which is
/// the rule of `wanted` at that place with the HF names of the foreign one.
/// Errors: RulesInvalid (E070, a permutation without a line), ShapeMismatch.
[[nodiscard]] Status choose_line(const model::Model& wanted, const family::Rule& ours,
                                 const ForeignRule& foreign, const ForeignKinds& kinds,
                                 const std::vector<Shape>& shapes, family::Rule& rule);

/// The parameters of `wanted` (a resolved built-in model of the same config and headers), each made
/// by the first rule that takes its name. Name faults are those of the foreign rules: parameters
/// without a rule, HF tensors that a rule reads and that are not there, HF tensors that no rule
/// reads or that two parameters are made of, Megatron names that two rules make, parameters made of
/// other tensors than the built-in model makes them of.
/// Errors: the first of rule_faults; those of choose_line.
[[nodiscard]] Result<model::Model> apply_rules(const model::Model& wanted,
                                               const ForeignRules& rules, const ForeignKinds& kinds,
                                               const Headers& headers);

/// What only a family can say of a model: a claim about it stays open.
using OpenQuestion = model::NameFault;

struct AloneModel {
  model::Model model;
  std::vector<OpenQuestion> open;
};
/// The parameters that the rules make of the headers, for an architecture that no family knows.
/// `usual` is resolved with usual_family(): sizes from the usual fields of config.json. Extents are
/// those of the Megatron modules where the config gives them, else those of the headers. Name
/// faults: HF tensors that no rule or two rules read, parameters with a part missing, modules of
/// which a parameter is missing that every such module has.
/// Errors: RulesInvalid (unknown kind, missing role, wrong wildcard count).
[[nodiscard]] Result<AloneModel> apply_rules_alone(const model::Model& usual,
                                                   const ForeignRules& rules,
                                                   const ForeignKinds& kinds,
                                                   const Headers& headers);

/// A family without rules whose numbers are the usual fields of a HF config.
[[nodiscard]] Result<family::FamilyPtr> usual_family();
[[nodiscard]] bool is_usual(const model::Model& model);

/// A foreign rule set in place of a family's own, with what it is held against.
struct RulesUnderTest {
  ForeignRules rules;
  ForeignKinds kinds;
  model::Model wanted;  // resolved with the family's own rules: which parameters there are
  bool alone = false;   // no family knows the architecture
  std::vector<OpenQuestion> open;  // then: what nobody could say
};

}  // namespace bv::foreign
