#pragma once
// The parts of a family file, each parsed from its place. A part is taken by itself: whether the
// names that it uses are defined is checked when all parts are there (check_family). Errors of all:
// RulesInvalid naming file and place, for an unknown key, a missing one, a value of another type,
// and a word that does not exist (with those that do).
//
// Example: {"kind": "column", "megatron": "{D}linear_fc2.weight", "hf": "{L}mlp.down_proj.weight",
// "axes": {"o": "hidden_size / t"}} is a Rule with one HF template under the source name "" and one
// axis.

#include <string>
#include <utility>
#include <vector>

#include "core/family/family.hpp"
#include "core/family/json_place.hpp"

namespace bv::family {

/// An entry of "symbols": {"field": "num_experts", "default": "0"}.
[[nodiscard]] Result<SymbolRule> parse_symbol(const std::string& name, const JsonPlace& place);
/// The stage of a section, by its word.
[[nodiscard]] Result<Stage> parse_stage(const JsonPlace& place);
/// An entry of "layer_flags": exactly one of list, below and indices.
[[nodiscard]] Result<LayerFlag> parse_layer_flag(const std::string& name, const JsonPlace& place);
/// An entry of "layer_sizes": {"symbol", "list", "entry", "value"} or {"symbol", "when", "value"}.
[[nodiscard]] Result<LayerSize> parse_layer_size(const JsonPlace& place);
/// {"j": [path, ...], "words": [...]}: what repeats inside each repetition of a section.
[[nodiscard]] Result<Inner> parse_inner(const JsonPlace& place);
/// A condition on the config: a field and its value, or a relation of two symbols.
[[nodiscard]] Result<MustRule> parse_must(const JsonPlace& place);
/// A condition on layouts: {"code": "E010", "divisor": "tp", "dividend": "num_heads", "noun":
/// "heads"}.
[[nodiscard]] Result<ConstraintRule> parse_constraint(const JsonPlace& place);
/// {"flag", "noun", "because"}: what the layers are that pipeline stages may start on.
[[nodiscard]] Result<StageStart> parse_stage_start(const JsonPlace& place);
/// A stored copy of another tensor: {"copy": "lm_head.weight", "of": "{HF}embed_tokens.weight"}.
[[nodiscard]] Result<Copy> parse_copy(const JsonPlace& place);
/// {"glob", "because", "help"}: a storage that the family refuses.
[[nodiscard]] Result<Unsupported> parse_unsupported(const JsonPlace& place);
/// A glob, or {"glob", "ndim"}: HF tensors that may stay unused.
/// The entries of "ignore_hf" of a family or table, behind those in `out`; `usual` is the reason of
/// one that states none.
[[nodiscard]] Status add_ignored(const JsonPlace& place, std::string_view usual,
                                 std::vector<Ignored>& out);
/// {"hf": [prefix, ...], "megatron": prefix, "when": [symbol, ...]}: what goes as it is. A prefix
/// ends in a dot.
[[nodiscard]] Result<Carried> parse_carried(const JsonPlace& place);
/// What the file states for the oracles.
[[nodiscard]] Result<StatedFacts> parse_stated_facts(const JsonPlace& place);
/// One row. Names in braces are kept as they are written: they are expanded for a model.
[[nodiscard]] Result<Rule> parse_rule(const JsonPlace& place);
/// True for a row of kind no_place, no_source or unread, which says what one side alone has.
[[nodiscard]] bool is_one_sided(const JsonPlace& place);
/// Such a row: {"kind": "no_place", "hf", "when", "because"}, {"kind": "no_source", "megatron",
/// ...}.
[[nodiscard]] Result<OneSided> parse_one_sided(const JsonPlace& place);

/// What a checkpoint has otherwise than memory (core/families/README.md).
[[nodiscard]] Result<StoredModule> parse_stored_module(const JsonPlace& place);
[[nodiscard]] Status parse_own_keys(const JsonPlace& section, Section& out);

/// What a section or a rule repeats over: {"i": "num_hidden_layers"} is ("i", "num_hidden_layers").
[[nodiscard]] Result<std::pair<std::string, std::string>> parse_over(const JsonPlace& place);
/// The same of a rule, which repeats over experts or not at all.
[[nodiscard]] Status parse_experts(const JsonPlace& place, Rule& rule);

using TextsByName = std::vector<std::pair<std::string, std::string>>;
/// Replaces {D}, {L} and the like by their text; other braces stay. Errors: RulesInvalid at
/// `place` when the text grows beyond kTemplateMax, naming what it grew by.
[[nodiscard]] Result<std::string> with_names(const JsonPlace& place, std::string text,
                                             const TextsByName& names);
/// Where a rule stands: the conditions of the table that it comes from, and its section.
struct RulePlace {
  const std::vector<std::string>& when;
  const std::string& title;
  std::size_t section = 0;
};
/// The same in all templates of a rule, which gets its place. Errors: as with_names.
[[nodiscard]] Status settle(const JsonPlace& place, const TextsByName& names, const RulePlace& at,
                            Rule& rule);
/// The names of a section: each may use those before it. Errors: RulesInvalid for one that is made
/// of itself or grows without end.
[[nodiscard]] Result<TextsByName> parse_names(const JsonPlace& section);
/// Prefixes of names by their key, the first of each list, and the others. A prefix is plain text.
[[nodiscard]] Status parse_prefixes(const JsonPlace& top, Family& out);
/// The name of the family: letters, digits, _ and -.
[[nodiscard]] Result<std::string> parse_family_name(const JsonPlace& place);

/// Bounds of a family file, far above every real one: what it is expanded to stays small, whatever
/// it says.
inline constexpr std::size_t kTemplateMax = 1024;  // characters of a name before its prefixes
inline constexpr std::size_t kPrefixMax = 256;
inline constexpr std::size_t kNamesMax = 256;    // short names of a section
inline constexpr std::size_t kRulesMax = 20000;  // with those of tables, each time they are used
inline constexpr std::size_t kFactsMax = 2000;   // symbols, flags, conditions

}  // namespace bv::family
