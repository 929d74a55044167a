#pragma once
// The working parts of apply_rules: wanted parameters, and the rules put on them.

#include <map>
#include <memory>
#include <set>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

#include "core/family/family.hpp"
#include "core/foreign/name_faults.hpp"
#include "core/foreign/pattern_index.hpp"
#include "core/foreign/rules_apply.hpp"

namespace bv::foreign {

/// Puts rules on a list of parameters, one after the other.
class Applier {
 public:
  /// `base`: family, geometry and lists that the result starts from; its mappings are left out.
  Applier(const model::Model& base, const ForeignRules& rules, const ForeignKinds& kinds,
          const Headers& headers, const model::ResolveOptions& options);

  /// Tensors that may stay unread; stored copies of others.
  void allow(const std::vector<std::string>& names);
  /// `guessed`: nothing but the rules and the tensors says which parameters there are.
  AppliedRules run(const std::vector<WantedParameter>& wanted, bool guessed = false);

 private:
  void report_rule_faults(bool guessed);
  void report_unsolved();
  void report_hook(bool guessed);
  void report_export_hook();
  void report_row_facts();
  void report_provider_sizes();
  void report_provider_flags();
  void report_provider_mtp();
  void report_provider_built();
  void report_provider_widths();
  void report_provider_attention();
  void report_provider_parts();
  void report_provider_layers();
  void report_turning_rows();
  void contradicts(const std::string& fact, const ForeignRule& rule, const TensorSpec& tensor,
                   std::int64_t wanted, std::int64_t stored);
  void told_of(const ForeignRule& rule, bool standard, model::NameFault fault);
  [[nodiscard]] std::optional<std::int64_t> built(std::string_view fact) const;
  [[nodiscard]] bool is_built(std::string_view fact, bool value) const;
  [[nodiscard]] const TensorSpec* read_as(const ForeignRule& rule, std::string_view role) const;
  [[nodiscard]] bool has_attention() const;
  void report_trouble();
  void report_base();
  [[nodiscard]] bool never_fires(const ForeignRule& rule, const RuleFault& fault) const;
  [[nodiscard]] std::vector<std::string> excuse(const ForeignRule& rule);
  void make(const WantedParameter& parameter);
  void add(const WantedParameter& parameter, const ForeignRule& rule, const ForeignKind& kind,
           std::vector<std::string> hf);
  /// What this rule makes of tensors of these shapes, as a rule of a family.
  [[nodiscard]] Result<family::Rule> rule_for(const WantedParameter& parameter,
                                              const ForeignRule& foreign, const ForeignKind& kind,
                                              const std::vector<Shape>& shapes);
  [[nodiscard]] Status line_for(const WantedParameter& parameter, const ForeignRule& foreign,
                                const ForeignKind& kind, const std::vector<Shape>& shapes,
                                std::size_t& at);
  [[nodiscard]] Status check_listed_shape(const WantedParameter& parameter,
                                          const ForeignRule& foreign,
                                          const family::Rule& rule) const;
  /// A parameter whose tensors are not all there, when the rule says that they may be absent.
  [[nodiscard]] bool may_be_absent(const WantedParameter& parameter, const ForeignRule& rule,
                                   const ForeignKind& kind, const std::vector<std::string>& hf);
  void slice_of(const WantedParameter& parameter, const ForeignRule& rule, const std::string& hf);
  /// Tensors of which every slice has a rule become one mapping, as a stack of experts is one.
  void make_slices();
  void report_unread_slices(const std::string& hf, std::int64_t count);
  [[nodiscard]] Status move_slices(const std::string& hf);
  [[nodiscard]] Result<family::Rule> rule_of_slices(const std::string& hf);
  void leave_out(const WantedParameter& parameter, const ForeignRule& rule, const Error& error,
                 const std::vector<std::string>& hf);
  void report_twins(const std::vector<WantedParameter>& wanted);
  void place_mappings();
  void settle_unmoved();
  void settle();
  [[nodiscard]] std::size_t section_for(family::Stage stage);

  const ForeignRules& rules_;
  const ForeignKinds& kinds_;
  const Headers& headers_;
  const model::ResolveOptions& options_;
  PatternIndex index_;
  NameIndex names_;
  AppliedRules out_;
  NameFaults faults_;
  std::shared_ptr<family::Family> family_;
  std::vector<bool> used_rules_;
  std::vector<bool> faulty_;
  std::vector<bool> takes_;  // by rule: it is the first to take a wanted name
  bool certain_ = false;     // model.parameters lists all that there are
  /// Parallel to the mappings: place of the parameter in the wanted list, place of the rule.
  std::vector<std::pair<std::size_t, std::size_t>> made_of_;
  std::vector<std::string> undone_;  // HF tensors of parameters in doubt
  std::size_t now_ = 0;              // place of the parameter that is being made
  std::map<family::Stage, std::size_t> sections_;
  std::set<std::tuple<family::Stage, std::int64_t, std::string>> stacks_;
  using MadeKey = std::tuple<const family::Rule*, std::size_t, std::string, std::vector<Shape>>;
  std::map<MadeKey, std::size_t> made_;
  std::map<std::size_t, int> variants_;
  struct SliceReader {
    const WantedParameter* parameter = nullptr;
    const ForeignRule* rule = nullptr;
    std::size_t place = 0;  // of the parameter in the wanted list
  };
  std::map<std::string, std::map<std::int64_t, SliceReader>> slices_;  // HF name -> index
  std::map<std::pair<std::size_t, Code>, std::size_t> left_out_;       // -> place in out_.open
};

/// A model without words (diffusion) has layers and heads under the same fields, counted otherwise.
[[nodiscard]] bool is_of_text(const ForeignRules& rules);

/// The question that an error of one rule leaves.
[[nodiscard]] OpenQuestion question_of(const Error& error, OpenQuestion::Answer answer);

}  // namespace bv::foreign
