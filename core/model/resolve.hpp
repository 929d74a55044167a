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

/// Every header name and the mapping that uses it.
class Ledger {
 public:
  explicit Ledger(const Headers& headers);
  static constexpr std::int64_t kUnused = -1;
  static constexpr std::int64_t kExplained = -2;  // accounted for without a mapping

  [[nodiscard]] const TensorSpec* find(std::string_view name) const;
  /// Notes the user of a name that is there; returns the earlier one, or kUnused.
  std::int64_t claim(std::string_view name, std::int64_t mapping);
  void explain(std::string_view name);
  [[nodiscard]] const std::vector<const TensorSpec*>& tensors() const { return tensors_; }
  [[nodiscard]] bool unused(std::size_t position) const { return users_[position] == kUnused; }

 private:
  std::unordered_map<std::string_view, std::size_t> positions_;
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

/// Missing HF names, grouped by (rule, source).
class MissingNames {
 public:
  void add(const Mapping& mapping, std::size_t slot, const std::string& name,
           const std::string& pattern);
  /// One fault a group. `unused` are names that may be renamed ones.
  void report(Model& model, std::size_t header_count, const std::vector<std::string>& unused) const;

 private:
  struct Group {
    std::int64_t count = 0;
    std::string first, last, pattern;
    Mapping mapping;  // the first
    std::set<std::int64_t> indices, experts;
  };
  [[nodiscard]] static NameFault fault(const Group& group, const Model& model,
                                       std::size_t header_count);
  std::map<std::pair<const family::Rule*, std::size_t>, Group>
      groups_;  // rules stand in one vector: family order
};

/// Sorts the names that no mapping uses into ignored, dropped, unsupported and unused; the last two
/// become faults. Returns one name of each unused pattern.
[[nodiscard]] std::vector<std::string> settle_leftovers(const Ledger& ledger,
                                                        const ResolveOptions& options,
                                                        Model& model);

/// Prefixes of HF names that only MTP tensors have, each with k = 0, 1, ... filled in. Errors:
/// RulesInvalid.
[[nodiscard]] Result<std::vector<std::string>> mtp_prefixes(const family::Section& section,
                                                            const Model& model);

}  // namespace bv::model
