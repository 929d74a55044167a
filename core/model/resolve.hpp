#pragma once
// The working parts of resolve(): names of a section, the ledger of header names, storage forms,
// name faults.

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/family/expression.hpp"
#include "core/model/conditions.hpp"
#include "core/model/name_gaps.hpp"

namespace bv::model {

/// A template with prefixes filled in: only the variable, {e} and expressions are left.
class BoundName {
 public:
  /// Errors: RulesInvalid.
  static Result<BoundName> bind(const std::string& text, const family::Section& section,
                                const Model& model);
  /// Errors: as evaluate, for an expression in braces.
  [[nodiscard]] Result<std::string> at(std::int64_t index, std::int64_t expert) const;
  /// "model.layers.{i}.mlp.experts.{e}.gate_proj.weight"
  [[nodiscard]] const std::string& pattern() const { return pattern_; }

 private:
  enum class Part { Text, Index, Expert, Expression };
  std::vector<std::pair<Part, std::string>> parts_;
  std::string pattern_;
  std::string variable_;
  const std::map<std::string, std::int64_t, std::less<>>* symbols_ = nullptr;
};

/// Every header name and the mapping that uses it. Up to a hundred thousand names are asked for
/// several times: an open table of their positions.
class Ledger {
 public:
  explicit Ledger(const Headers& headers);
  static constexpr std::int64_t kUnused = -1;
  static constexpr std::int64_t kExplained = -2;  // accounted for without a mapping

  [[nodiscard]] const TensorSpec* find(std::string_view name) const;
  /// Notes the user of a name that is there; returns the earlier one, or kUnused.
  std::int64_t claim(std::string_view name, std::int64_t mapping);
  void explain(std::string_view name);
  /// From now on `wanted` finds the tensor `there`, which is in the headers.
  void let_stand(const std::string& wanted, const std::string& there);
  [[nodiscard]] const std::vector<const TensorSpec*>& tensors() const { return tensors_; }
  [[nodiscard]] bool unused(std::size_t position) const { return users_[position] == kUnused; }

 private:
  struct Slot {
    std::uint32_t hash = 0;
    std::uint32_t position = 0;  // from 1 on; 0 for an empty slot
  };
  [[nodiscard]] std::optional<std::size_t> position_of(std::string_view name) const;

  std::vector<Slot> slots_;  // a power of two, at most half full; the next one when one is taken
  std::map<std::string, std::size_t, std::less<>> aliases_;  // names that stand for positions
  std::vector<const TensorSpec*> tensors_;
  std::vector<std::int64_t> users_;
};

/// The rules of one section that occur, with bound names.
struct BoundRow {
  const family::Rule* rule = nullptr;
  std::vector<BoundName> hf;  // order of rule->hf
  std::int64_t experts = 1;   // values of {e} that the HF names run over
};
struct BoundSection {
  const family::Section* section = nullptr;
  std::int64_t count = 0;
  std::vector<BoundRow> rows;
};

/// One HF name of a row: repetition, expert (0 without {e}), source number.
struct NamePlace {
  std::int64_t index = 0;
  std::int64_t expert = 0;
  std::size_t slot = 0;
};
/// Calls `use(row, place, name)` for every HF name of `rows` that `pick` admits, at every place
/// where its conditions hold. Errors: those of BoundName::at.
[[nodiscard]] Status for_each_name(
    const Model& model, const BoundSection& bound, const std::function<bool(const BoundRow&)>& pick,
    const std::function<void(const BoundRow&, const NamePlace&, std::string&&)>& use);

/// Storage alternatives of one section: group -> the form in use.
struct FormChoice {
  std::map<std::string, std::string, std::less<>> chosen;
  std::set<std::string, std::less<>>
      mixed;  // groups stored in several forms: their gaps are not reported again
};
/// What ResolveOptions::forms states for `what`, nullptr when nothing. Errors: RulesInvalid unless
/// it is in `choices`.
[[nodiscard]] Result<const std::string*> stated_form(const ResolveOptions& options,
                                                     const std::string& what,
                                                     const std::vector<std::string>& choices);
/// Decides every group of a section from names and shapes; appends to model.detected and
/// model.faults.
[[nodiscard]] Result<FormChoice> choose_forms(const BoundSection& bound, Ledger& ledger,
                                              const ResolveOptions& options, Model& model);

/// Numbers as ranges: "0-3, 7". At most eight ranges are shown.
[[nodiscard]] std::string ranges_text(const std::set<std::int64_t>& numbers);

// Entries of Model::detected.
void describe_config(Model& model);
void describe_defaults(Model& model);  // sizes that a rule in use takes from a default
void describe_lists(const ResolveOptions& options, Model& model);

/// True when --match is not given, or one of its globs takes the name.
[[nodiscard]] bool is_asked_for(const ResolveOptions& options, std::string_view name);

/// Notes an HF tensor that stays unused, and why.
void leave_out(const std::string& name, const std::string& because, Model& model);
/// Sorts the names that no mapping uses into ignored ones and gaps.
void add_leftovers(const Ledger& ledger, const NameSpots& spots, const ResolveOptions& options,
                   Model& model, std::vector<NameGap>& gaps);
/// One fault for each cause of the gaps, appended to model.faults.
void report_gaps(Model& model, const NameSpots& spots, const Headers& headers,
                 std::vector<NameGap> gaps);

}  // namespace bv::model
