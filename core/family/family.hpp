#pragma once
// A family file as a value: symbols, layer flags, sections of rules, constraints, allow-lists.
// Only core/family and core/model see this header; the others use families.hpp.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/family/families.hpp"
#include "core/family/stage_start.hpp"

namespace bv::family {

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
  /// Meaning of an explicit null: an expression, or "" for the same as absent. Unset: null is
  /// refused, as transformers refuses it.
  std::optional<std::string> null_value;
  /// Meaning of a negative number, as "-1: the last layer": an expression. Unset: such a number is
  /// held against `min`.
  std::optional<std::string> negative_value;
  std::string probe;                // HF name with {k}: absent fields are counted in the headers
  std::string often;                // symbol that this one usually equals, for the help line
  bool flag = false;                // true or false in the config, 1 or 0 here
  std::vector<std::string> equals;  // a word in the config: 1 for one of these, else 0
  std::int64_t min = 1;
  std::int64_t max = std::int64_t{1} << 40;
  std::string file;
};

/// Layers from a distance: those where max(number - after + 1, 0) is a multiple of `every`.
struct LayerSchedule {
  FieldPath every;  // absent: 1, every layer
  FieldPath after;
  std::int64_t after_default = 0;
  std::int64_t after_least = 0;  // what a smaller distance counts as
};

/// One property of decoder layers. Exactly one way to state it: `lists` (a word a layer), `indices`
/// (numbers of layers), or edges: layers `below` one number and `from` another one on, and beside
/// these those that `interval` names; or a schedule alone.
struct LayerFlag {
  std::string name;
  /// The first one present wins: a list of one word a layer, or a string of one letter a layer.
  std::vector<FieldPath> lists;
  std::vector<std::string> equals;  // the words that mean yes
  std::vector<std::string> others;  // the words that mean no
  // Without any of the lists, one of these three:
  FieldPath interval;  // layers whose number + 1 it does not divide are yes
  std::int64_t interval_default = 0;
  std::string below;  // expression; stands without lists too
  std::optional<LayerSchedule> schedule;
  FieldPath indices;
  FieldPath step;  // layers whose number + 1 it does not divide are yes as well
  /// Where the word stands in an entry of the list that is an object: "attention.no_op".
  std::string entry;
  std::string behind;  // symbol: so many more entries, one an MTP layer, may stand in the list
  std::string from;    // expression: without indices, the layers from this number on; none below 0
  bool not_last = false;           // the last decoder layer is never one
  std::vector<std::string> words;  // what holds without a list, one a layer
};

/// A symbol that layers have a number of their own for. A later one overrules an earlier one.
struct LayerSize {
  std::string symbol;
  FieldPath list;     // one entry a layer; without it, one value for all layers where `when` holds
  std::string entry;  // where the number stands in an entry that is an object
  bool millionths = false;  // the entry is a decimal: `entry` is its whole millionths
  std::string value;        // expression over symbols and `entry`
  std::vector<std::string> when;
  std::string source;  // "deci.json: layer size num_query_groups"
};

/// Rules that repeat inside each repetition of a section, once for each word of a list: {j} in
/// names. The layer flags of the family say what the words mean.
struct Inner {
  std::string variable;  // "" without
  std::vector<FieldPath> lists;
  std::vector<std::string> words;  // without any of the lists
};
/// Conditions on the first and the last inner repetition.
inline constexpr std::string_view kFirstInner = "inner_first";
inline constexpr std::string_view kLastInner = "inner_last";

/// A condition that the config must meet (E003, E012, E021).
struct MustRule {
  FieldPath field;  // must be `equals` when present
  std::optional<bool> equals;
  bool null = false;   // an explicit null is as good as no field
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

inline constexpr std::string_view kComputedAgain = "buffers that every loader computes again";

/// HF tensors that may stay unused, and what they are.
struct Ignored {
  std::string glob;
  std::int64_t ndim = -1;  // only tensors with so many axes; -1: any
  std::string because;
  std::string mtp =
      "";  // symbol that counts the MTP layers that these are of: --drop-mtp is about them
};
/// The first that fits; nullptr when none does.
[[nodiscard]] const Ignored* find_ignored(const std::vector<Ignored>& ignored,
                                          std::string_view name, std::size_t ndim);
[[nodiscard]] bool is_ignored(const std::vector<Ignored>& ignored, std::string_view name,
                              std::size_t ndim);

/// An extent that only the checkpoint says.
inline constexpr std::string_view kAnyExtent = "*";

/// Tensors of a carried tower: its class builds them all, and no others beside the other parts.
struct CarriedPart {
  std::string over;  // expression: {k} in the names runs to here; "": names without {k}
  std::vector<std::string> when;  // symbols
  bool optional = false;          // a checkpoint has all of them or none
  /// The name behind the prefix, and its extents: expressions, or kAnyExtent.
  std::vector<std::pair<std::string, std::vector<std::string>>> tensors;
};

/// Everything under a prefix of HF names goes as it is, under another prefix: towers that Megatron
/// takes from HF as they are. Without parts, which tensors there are is read off the checkpoint.
struct Carried {
  std::vector<std::string> hf;  // the first one that a name starts with
  std::string megatron;
  std::vector<std::string> when;  // symbols; without them the model has no such part
  std::vector<CarriedPart> parts = {};
};

inline constexpr std::string_view kUnread = "unread";

/// What one side alone has, and why: an HF tensor that Megatron has no parameter for where `rule`
/// has no Megatron name, else a parameter that HF has no tensor for. It makes nothing. Of kind
/// `unread`: an HF tensor that files may hold and that the class of the model itself does not read.
struct OneSided {
  Rule rule;
  std::string because;
};

/// A module of a layer that a checkpoint calls otherwise where the conditions hold: layers that
/// call it alike are counted for themselves.
struct StoredModule {
  std::string module;               // "self_attention"
  std::string stored;               // "self_attention_sliding"
  std::vector<std::string> when{};  // flags of the layer, and symbols
};

/// Rules that repeat over one variable.
struct Section {
  Stage stage = Stage::Decoder;
  std::string title;               // "decoder", "mtp"
  std::string variable;            // "i", "k", "j"; "" for rules that stand once
  std::string over;                // expression: how often
  std::vector<std::string> flags;  // layer flags that hold in each repetition (not for the decoder)
  bool layered = false;            // repeats over decoder layers: flags come from the config
  Inner inner;
  std::map<std::string, std::vector<std::string>>
      forms;                      // storage alternatives allowed here, first is the default
  std::vector<std::string> owns;  // prefixes of HF names, with {k}: what --drop-mtp takes away
  std::vector<Copy> copies;
  std::vector<ConstraintRule> constraints;
  std::vector<StageStart> stage_starts;
  /// Of a torch_dist checkpoint: each layer has keys of its own, though all may be alike. With
  /// conditions: exactly where they hold; elsewhere all layers share keys.
  bool own_keys = false;
  std::vector<std::string> own_keys_when;  // symbols
  std::vector<StoredModule> stored_modules;
  std::vector<OneSided> one_sided;
  std::size_t first_rule = 0;
  std::size_t end_rule = 0;
  bool of_class = false;  // the head that the class of a config has in place of the language head
};

class Family {
 public:
  std::string name;
  std::string doc;
  std::string file;
  std::vector<std::string> architectures;
  std::vector<std::string> model_types;
  /// Model types of other families under which a class of this one may stand as well.
  std::vector<std::string> class_of;
  /// PEFT takes the names of single experts in target_modules for the class's packed parameters.
  bool peft_moves_experts = false;
  /// The class keeps stacks [E, in, out] without the attribute is_transposed, so that PEFT takes
  /// them for [E, out, in].
  bool stacks_unmarked = false;
  /// Modules that files name otherwise than the class does, as components: (file, class).
  std::vector<std::pair<std::string, std::string>> class_modules;
  std::string level;                // "text_config" or ""
  std::vector<SymbolRule> symbols;  // later ones may use earlier and later ones, without circles
  std::vector<LayerFlag> layer_flags;
  std::vector<LayerSize> layer_sizes;
  bool fitted = false;  // rules were made for the layers of one config (model/fitted.hpp)
  std::shared_ptr<const Family> unfitted;  // what it was before, for another config
  std::shared_ptr<const Family> headless;  // likewise, before a class's head was added
  std::vector<MustRule> musts;
  /// Text for {M} in Megatron names, and for {HF}, {V} in HF names as transformers writes them. A
  /// checkpoint may have other HF prefixes: they come from its names (model/prefixes.hpp).
  std::map<std::string, std::string, std::less<>> prefixes;
  /// Prefixes that some version of transformers writes as well, though they repeat a part.
  std::vector<std::string> also_prefixes;
  std::vector<Ignored> ignore_hf;
  std::vector<Unsupported> unsupported;
  StatedFacts stated;
  std::vector<Carried> carried;
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

/// The prefix that an HF template starts with: "HF" of "{HF}norm.weight", "" of "lm_head.weight".
[[nodiscard]] std::string_view root_of(const Family& family, std::string_view hf_template);

/// Full path in the config, as messages and --set write it: "text_config.hidden_size".
[[nodiscard]] std::string dotted(const Family& family, const FieldPath& field);

}  // namespace bv::family
