#pragma once
// What the kind and class names of a rules file stand for.

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/foreign/rules_file.hpp"
#include "core/kinds/catalogue.hpp"
#include "core/model/model.hpp"

namespace bv::foreign {

inline constexpr std::size_t kNoRest = static_cast<std::size_t>(-1);

using Sizes = std::map<std::string, std::string, std::less<>>;  // axis -> expression

/// A line of notation with the sizes that it takes from the shapes of its tensors and the config.
struct Line {
  std::string kind;
  Sizes axes;
  std::size_t rest = kNoRest;  // trailing dimensions are those of the first tensor from here on
};

struct ForeignKind {
  std::vector<std::string> names;
  Line line;
  bool is_auto = false;
  bool packed = false;
  bool planted = false;                           // a fault that tests plant: never offered
  std::vector<std::vector<std::string>> sources;  // the roles that each source of the line may have
  family::ValueRule value;
  Sizes when;                      // flag of the config -> the kind that holds then
  std::vector<Sizes> vision;       // sizes outside the text model, in the order of preference
  std::optional<Line> transposed;  // of a stack stored [E, in, out]
  std::size_t hidden = 0;          // then: the dimension of [E, out, in] that has hidden_size
  std::optional<Line> pair;        // of a stack with gate and up as a dimension of its own
  std::optional<Line> bias;        // of a tensor with one dimension less
  std::optional<Line> column;  // of a parameter whose module is cut by rows, stored [E, out, in]
  std::optional<Line> column_transposed;  // the same, stored [E, in, out]
  std::string text;  // a line of notation of its own, "" when the catalogue has it
};

/// Data: core/families/tables/upstream_classes.json.
struct ForeignKinds {
  std::vector<ForeignKind> kinds;
  std::vector<ForeignKind> permuted;  // lines for permute_dims [1, 0]; names[0] is the plain kind
  std::vector<ForeignKind> sliced;    // of tensors whose slices are parameters of the kind names[0]
  // Globs on Megatron names.
  struct Difference {
    std::string family, number;
    std::int64_t value = 0;
    std::string note;
  };
  std::vector<Difference> differences;
  std::vector<std::string> neighbours_rotated;  // families: HF rotates rows 2i and 2i + 1 of a head
  /// Norms under names that no family has: (start of the end of the Megatron name, HF name).
  std::vector<std::pair<std::string, std::string>> spellings;
  std::vector<std::string> auto_replicated, auto_row, auto_row_bias, auto_column;
  kinds::Catalogue lines;  // the built-in lines and those that only foreign rules use

  [[nodiscard]] const ForeignKind* find(std::string_view name) const;
  /// The kind of an "auto" rule for this parameter; "" for a module that the table does not know.
  [[nodiscard]] std::string_view parallelism(std::string_view megatron) const;
  /// The names that a message may offer.
  [[nodiscard]] std::vector<std::string> offered() const;
};
/// Errors: Assertion, when our own table is wrong.
[[nodiscard]] Result<ForeignKinds> foreign_kinds();
/// Those, and the lines that the rules bring with them.
/// Errors: RulesInvalid at the rule whose line or sizes are wrong.
[[nodiscard]] Result<ForeignKinds> foreign_kinds(const ForeignRules& rules);

/// What the released upstream builds otherwise than the family states, for this model; data of
/// upstream_classes.json. Empty when nothing is known.
[[nodiscard]] std::vector<std::string> upstream_differences(const model::Model& model);

/// What is wrong with one rule by itself, and whether that refutes it.
struct RuleFault {
  Error error;
  bool refutes = true;  // false: the rule may be right, but it cannot be judged here
};
/// Empty when the rule can be applied. Unknown kind (RuleKindUnknown) and an auto rule on a module
/// that the table does not know (RuleModuleUnknown) leave it unjudged; a missing or superfluous
/// part, a permutation that does not undo itself (RuleMalformed), wildcards that do not pair up or
/// mix * and ** (WildcardCount) refute it. `parallelism_is_listed`: model.parameters says how
/// modules are cut.
[[nodiscard]] std::vector<RuleFault> rule_faults(const ForeignKinds& kinds, const ForeignRule& rule,
                                                 bool parallelism_is_listed = false);
/// An "auto" rule on a parameter whose module the table does not know.
[[nodiscard]] Error unknown_module(const ForeignRule& rule, std::string_view megatron);

/// The HF pattern of a rule for one part of its kind, nullptr without one.
[[nodiscard]] const std::string* pattern_for(const ForeignRule& rule,
                                             const std::vector<std::string>& roles);

}  // namespace bv::foreign
