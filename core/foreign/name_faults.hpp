#pragma once
// Faults in the names that foreign rules make: collected tensor by tensor, told once a cause.

#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/foreign/foreign_kinds.hpp"
#include "core/foreign/pattern_index.hpp"
#include "core/model/model.hpp"

namespace bv::foreign {

/// One Megatron parameter that the model has.
struct WantedParameter {
  std::string name;
  family::Stage stage = family::Stage::Decoder;
  std::int64_t index = -1;
  std::int64_t expert = -1;
  const family::Rule* row = nullptr;        // the family's rule, or that of the table of modules
  const model::Mapping* wanted = nullptr;   // the family's mapping
  const ListedParameter* listed = nullptr;  // as model.parameters has it
  std::string name_template;                // "" takes that of `row`
  bool row_sizes = true;
  bool text = true;
  bool vocabulary = false;
  bool is_expert = false;
  bool certain = true;           // false: nothing but the rules says that the model has it
  const Error* unfit = nullptr;  // why its sizes are not known
};

/// Names that share a fault.
struct FaultGroup {
  std::int64_t count = 0;
  std::string first, last;
  std::vector<std::string> all;
  std::string wants;
  std::string reads;
  std::vector<std::string> absent;  // of the wanted tensors of the first name
  std::vector<std::string> unread;  // the others: stored, and read by nothing else
  const ForeignRule* rule = nullptr;
  void add(const std::string& name);
  [[nodiscard]] std::string names() const;
};

class NameFaults {
 public:
  NameFaults(const ForeignRules& rules, const Headers& headers)
      : rules_(rules), headers_(headers) {}

  /// Nothing but the rules says which parameters there are: two that are made of one tensor may be
  /// one that was built and one that was not.
  void guess_parameters(bool guessed) { guessed_ = guessed; }
  void wants(const WantedParameter& parameter);  // of every parameter, first of all
  void without_rule(const WantedParameter& parameter);
  void unfilled(const WantedParameter& parameter, const ForeignRule& rule,
                const std::vector<std::string>& hf);
  /// The family makes the parameter of other tensors.
  void other_source(const WantedParameter& parameter, const ForeignRule& rule,
                    const std::vector<std::string>& hf);
  /// False when another parameter has the tensor already and one of the two is in doubt: then this
  /// one is not to be made.
  bool reads(const WantedParameter& parameter, const ForeignRule& rule, const std::string& hf);
  void allow(const std::string& hf) { used_.insert(hf); }

  /// Appends one fault a cause.
  void report(const std::vector<bool>& used_rules, model::Model& model);
  /// Two certain parameters made of one tensor are a fault; pairs of which one is not are these.
  [[nodiscard]] const std::vector<std::string>& doubtful_pairs() const { return doubtful_; }

 private:
  struct Layer {
    std::int64_t wanted = 0, without = 0, unfilled = 0;
    std::vector<const WantedParameter*> parameters;
  };
  using LayerKey = std::pair<family::Stage, std::int64_t>;

  void find_unused();
  void doubt_guessed_pairs();
  void report_layers_without_rules(model::Model& model);
  void report_layers_not_stored(model::Model& model);
  void report_unused(const std::vector<bool>& used_rules, model::Model& model) const;
  void report_groups(model::Model& model) const;
  [[nodiscard]] bool told_by_layer(const WantedParameter& parameter) const;
  [[nodiscard]] const ForeignRule* makes_before(const ForeignRule& rule) const;
  [[nodiscard]] std::string dead_hint(const std::vector<bool>& used_rules,
                                      const std::string& name) const;
  [[nodiscard]] std::string found_unfilled(const FaultGroup& group) const;
  [[nodiscard]] std::string nearest_unused(const std::string& wanted) const;

  const ForeignRules& rules_;
  const Headers& headers_;
  std::map<LayerKey, Layer> layers_;
  std::vector<const WantedParameter*> without_rule_;
  struct Unfilled {
    const WantedParameter* parameter;
    const ForeignRule* rule;
    std::vector<std::string> wants;
  };
  std::vector<Unfilled> unfilled_;
  std::map<std::pair<std::size_t, std::string>, FaultGroup> other_source_;
  // HF name -> the first parameter made of it, and that parameter's rule.
  struct Reader {
    const WantedParameter* parameter;
    const ForeignRule* rule;
  };
  std::unordered_map<std::string, Reader> readers_;
  std::map<std::pair<std::size_t, std::size_t>, model::NameFault> second_readers_;
  std::vector<std::string> doubtful_;
  std::set<std::pair<std::size_t, std::size_t>> doubtful_pairs_;
  bool guessed_ = false;
  std::vector<std::string> guessed_pairs_;  // of second_readers_, as questions
  std::unordered_set<std::string> used_;
  std::vector<std::string> unused_;
  std::map<std::string, FaultGroup> unused_groups_;
};

}  // namespace bv::foreign
