#pragma once
// A family file as a value: symbols, layer flags, sections of rules, constraints, allow-lists.
// Only core/model sees this header; the others use model.hpp.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/model/model.hpp"

namespace bv::model {

/// Where a symbol's number may stand in config.json. A path with a leading '/' counts from the top,
/// others from the family's config level. `count`: the number of entries of the list or object
/// there.
struct FieldPath {
  std::string path;
  bool count = false;
};

/// One named number of the family.
struct SymbolRule {
  std::string name;
  std::vector<FieldPath> fields;             // the first one present wins
  std::optional<std::string> default_value;  // expression used when no field is present
  std::optional<std::string> value;          // expression; then there are no fields
  std::optional<std::int64_t> null_value;    // meaning of an explicit null; unset: as if absent
  std::string probe;  // HF name with {k}: absent fields are counted in the headers
  std::string often;  // symbol that this one usually equals, for the help line
  bool flag = false;  // true or false in the config, 1 or 0 here
  std::int64_t min = 1;
  std::int64_t max = std::int64_t{1} << 40;
  std::string file;
};

/// One property of decoder layers. Exactly one way to state it:
/// `list` (names per layer), `below` (layers with a lower number), `indices` (numbers of layers).
struct LayerFlag {
  std::string name;
  FieldPath list;
  std::string equals;               // the entry of `list` that means yes
  std::vector<std::string> others;  // the entries that mean no
  FieldPath interval;  // without the list: layers whose number + 1 it does not divide are yes
  std::int64_t interval_default = 0;
  std::string below;  // expression
  FieldPath indices;
  FieldPath step;  // layers whose number + 1 it does not divide are yes as well
};

/// A condition that the config must meet (E003, E012, E021).
struct MustRule {
  FieldPath field;  // must be `equals` when present
  std::optional<bool> equals;
  std::string symbol;  // must be at most `at_most`
  std::optional<std::int64_t> at_most;
  std::vector<std::string> equal;    // two symbols that must be equal
  std::vector<std::string> divides;  // [0] must divide [1]
  std::string because;
};

struct ConstraintRule {
  Constraint constraint;
  std::vector<std::string> when;
};

/// An HF tensor that may be stored although another holds its bytes.
struct Copy {
  std::string copy;
  std::string of;
  std::string of_tied;  // used instead of `of` when embeddings are tied; "" for none
  std::vector<std::string> when;
};

/// An HF tensor that shows a storage this family cannot take, with the reason.
struct Unsupported {
  std::string glob;
  std::string because;
  std::string help;
};

/// Rules that repeat over one variable.
struct Section {
  Stage stage = Stage::Decoder;
  std::string title;               // "decoder", "mtp"
  std::string variable;            // "i", "k", "j"; "" for rules that stand once
  std::string over;                // expression: how often
  std::vector<std::string> flags;  // layer flags that hold in each repetition (not for the decoder)
  bool layered = false;            // repeats over decoder layers: flags come from the config
  std::map<std::string, std::vector<std::string>>
      forms;                      // storage alternatives allowed here, first is the default
  std::vector<std::string> owns;  // prefixes of HF names, with {k}: what --drop-mtp takes away
  std::vector<Copy> copies;
  std::vector<ConstraintRule> constraints;
  std::size_t first_rule = 0;
  std::size_t end_rule = 0;
};

struct PrefixRule {
  std::vector<std::string> choices;
  std::string probe;  // HF name that only the right choice has; "" when there is one choice
};

class Family {
 public:
  std::string name;
  std::string doc;
  std::string file;
  std::vector<std::string> architectures;
  std::vector<std::string> model_types;
  std::string level;                // "text_config" or ""
  std::vector<SymbolRule> symbols;  // later ones may use earlier and later ones, without circles
  std::vector<LayerFlag> layer_flags;
  std::vector<MustRule> musts;
  std::map<std::string, PrefixRule, std::less<>> prefixes;
  std::vector<std::string> ignore_hf;  // globs
  std::vector<Unsupported> unsupported;
  std::vector<Section> sections;
  std::vector<Rule> rules;

  [[nodiscard]] const SymbolRule* symbol(std::string_view name) const;
  [[nodiscard]] bool is_layer_flag(std::string_view name) const;
};

/// What conditions look at: numbers, and the flags of the place.
struct Conditions {
  const std::map<std::string, std::int64_t, std::less<>>* symbols = nullptr;
  const std::set<std::string, std::less<>>* flags = nullptr;
};
/// True when every word of `when` holds; a symbol holds when it is there and not 0.
[[nodiscard]] bool holds(const Family& family, const std::vector<std::string>& when,
                         const Conditions& at);

/// The flags of repetition `index` of a section.
[[nodiscard]] std::set<std::string, std::less<>> section_flags(const Section& section,
                                                               const Geometry& geometry,
                                                               std::int64_t index);

/// Full path in the config, as messages and --set write it: "text_config.hidden_size".
[[nodiscard]] std::string dotted(const Family& family, const FieldPath& field);

/// The names of a checkpoint and the prefixes found in them.
struct NamesThere {
  const Headers* headers = nullptr;
  const std::map<std::string, std::string, std::less<>>* prefixes = nullptr;
};
/// read_geometry with names at hand for symbols that have a probe; `there` may be null.
[[nodiscard]] Result<Geometry> read_geometry_with(const Family& family,
                                                  const nlohmann::json& config,
                                                  const NamesThere* there);

/// How often a section repeats: 1 without a variable. Errors: as evaluate; ConfigField above
/// kRepeatsMax.
[[nodiscard]] Result<std::int64_t> repeats(const Section& section, const Geometry& geometry);
inline constexpr std::int64_t kRepeatsMax = 65536;

/// True when the conditions hold in at least one repetition of the section.
[[nodiscard]] bool occurs(const Family& family, const Section& section,
                          const std::vector<std::string>& when, const Geometry& geometry,
                          std::int64_t count);

/// Expands the braces of a template: a prefix by its text, `index` and `expert` for their
/// variables, expressions by their value. Errors: RulesInvalid.
struct NameValues {
  const std::map<std::string, std::string, std::less<>>* prefixes = nullptr;
  const std::map<std::string, std::int64_t, std::less<>>* symbols = nullptr;
  std::string_view variable;
  std::int64_t index = -1;
  std::int64_t expert = -1;
};
[[nodiscard]] Result<std::string> expand(std::string_view text, const NameValues& values);

}  // namespace bv::model
