// Many wrong names with one cause: a field of the config asks for them or rules them out, and the
// checkpoint shows the opposite.

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/base/text.hpp"
#include "core/family/symbols.hpp"
#include "core/model/conditions.hpp"
#include "core/model/label_head.hpp"
#include "core/model/name_gaps.hpp"

namespace bv::model {
namespace {

using Kind = NameGap::Kind;

std::string_view base_of(std::string_view word) {
  return word.starts_with('!') ? word.substr(1) : word;
}

bool speaks_of(const family::Rule* rule, std::string_view condition) {
  return rule != nullptr &&
         std::any_of(rule->when.begin(), rule->when.end(),
                     [&](const auto& word) { return base_of(word) == condition; });
}

class ConditionGaps {
 public:
  ConditionGaps(const Model& model, std::vector<NameGap>& gaps) : model_(model), gaps_(gaps) {}

  std::vector<NameFault> run() {
    std::set<std::string> failing;
    for (const NameGap& gap : gaps_) {
      if (gap.kind == Kind::Unused) {
        failing.insert(failing_condition(gap.spot));
      }
    }
    failing.erase("");
    for (const std::string& condition : failing) {
      ruled_out(condition);
    }
    for (const auto& [condition, wanted] : asked_for()) {
      all_missing(condition, wanted);
    }
    return std::move(faults_);
  }

 private:
  /// The condition that keeps the rule of this name out; "" when the rule is in use.
  [[nodiscard]] std::string failing_condition(const NameSpot& spot) const {
    if (spot.rule == nullptr || !in_range(spot)) {
      return "";
    }
    const auto flags = section_flags(*spot.section, model_.geometry, spot.index);
    for (const std::string& word : spot.rule->when) {
      if (!family::holds(*model_.family, {word}, {&model_.geometry.symbols, &flags})) {
        return std::string(base_of(word));
      }
    }
    return "";
  }

  [[nodiscard]] bool in_range(const NameSpot& spot) const {
    return !spot.section->layered ||
           (spot.index >= 0 &&
            spot.index < static_cast<std::int64_t>(model_.geometry.layer_flags.size()));
  }

  [[nodiscard]] std::string fields_of(const std::string& condition) const {
    if (model_.family->is_layer_flag(condition)) {
      const auto origin = model_.geometry.origin.find(condition);
      return origin == model_.geometry.origin.end() ? condition : origin->second;
    }
    return join(fields_behind(*model_.family, model_.geometry, condition), ", ");
  }

  [[nodiscard]] std::string help_for(const std::string& condition) const {
    const family::SymbolRule* symbol = model_.family->symbol(condition);
    if (symbol == nullptr || model_.family->is_layer_flag(condition)) {
      return "use the config.json that belongs to these files";
    }
    const std::string field = field_of(*model_.family, model_.geometry, condition);
    const bool on = model_.geometry.get(condition).value_or(0) != 0;
    return fmt::format("if config.json is wrong, overrule it with --set {}={}", field,
                       !symbol->flag ? (on ? "0" : "N")
                       : on          ? "false"
                                     : "true");
  }

  /// Names are there that the config rules out; what it asks for in their place is missing.
  void ruled_out(const std::string& condition) {
    std::set<std::pair<const family::Section*, std::int64_t>> places;
    const auto unused = take_names(gaps_, [&](const NameGap& gap) {
      const bool mine = gap.kind == Kind::Unused && failing_condition(gap.spot) == condition;
      if (mine) {
        places.insert({gap.spot.section, gap.spot.index});
      }
      return mine;
    });
    const auto missing = take_names(gaps_, [&](const NameGap& gap) {
      return gap.kind == Kind::Missing && speaks_of(gap.spot.rule, condition) &&
             places.contains({gap.spot.section, gap.spot.index});
    });
    NameFault fault;
    fault.code = Code::HfTensorUnused;
    fault.subject = escaped(unused.front());
    fault.subjects = unused;
    fault.subjects.insert(fault.subjects.end(), missing.begin(), missing.end());
    fault.message = fmt::format("{} {} there, but config.json rules {} out ({})",
                                tensors_text(unused), unused.size() == 1 ? "is" : "are",
                                unused.size() == 1 ? "it" : "them", fields_of(condition));
    fault.found = escaped(unused.front());
    fault.wanted = missing.empty()
                       ? fmt::format("no such tensor, by {}", fields_of(condition))
                       : fmt::format("{} in their place, which are missing", tensors_text(missing));
    fault.help = help_for(condition);
    faults_.push_back(std::move(fault));
  }

  /// Conditions on fields, with the number of HF names that stand under them.
  [[nodiscard]] std::map<std::string, std::size_t> asked_for() const {
    std::map<std::string, std::size_t> out;
    for (const Mapping& mapping : model_.mappings) {
      for (const std::string& word : mapping.rule->when) {
        const std::string condition(base_of(word));
        const family::SymbolRule* symbol = model_.family->symbol(condition);
        if (symbol != nullptr && !symbol->fields.empty()) {
          out[condition] += mapping.hf.size();
        }
      }
    }
    return out;
  }

  /// The config asks for names of which not one is there.
  void all_missing(const std::string& condition, std::size_t wanted) {
    const auto mine = [&](const NameGap& gap) {
      return gap.kind == Kind::Missing && speaks_of(gap.spot.rule, condition);
    };
    const auto first = std::find_if(gaps_.begin(), gaps_.end(), mine);
    const auto count = static_cast<std::size_t>(std::count_if(gaps_.begin(), gaps_.end(), mine));
    if (count == 0 || count < wanted) {
      return;
    }
    const std::string parameter = model_.megatron_name(model_.mappings[first->mapping]);
    const bool head =
        condition == family::symbols::kTied && first->spot.section->stage == family::Stage::Output;
    const auto names = take_names(gaps_, mine);
    NameFault fault;
    fault.code = Code::HfTensorMissing;
    fault.subject = names.front();
    fault.subjects = names;
    fault.message = fmt::format(
        "{} {} missing, and config.json asks for {} ({}): Megatron parameter{} {} would keep {} "
        "initial values",
        tensors_text(names), names.size() == 1 ? "is" : "are", names.size() == 1 ? "it" : "them",
        fields_of(condition), names.size() == 1 ? "" : "s such as", parameter,
        names.size() == 1 ? "its" : "their");
    fault.found = fmt::format("no tensor {}", common_start(names));
    fault.wanted = names.size() == 1 ? names.front() : names.front() + " to " + names.back();
    const std::string of_head = head ? missing_head_help(model_) : "";
    fault.help = of_head.empty() ? help_for(condition) : of_head;
    faults_.push_back(std::move(fault));
  }

  const Model& model_;
  std::vector<NameGap>& gaps_;
  std::vector<NameFault> faults_;
};

}  // namespace

std::vector<NameFault> explain_conditions(const Model& wanted, std::vector<NameGap>& gaps) {
  return ConditionGaps(wanted, gaps).run();
}

}  // namespace bv::model
