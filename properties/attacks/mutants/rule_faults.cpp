#include "properties/attacks/mutants/rule_faults.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/checkpoint/open_model.hpp"
#include "core/family/changed_family.hpp"
#include "core/layout/notation.hpp"
#include "properties/attacks/mutants/move_changes.hpp"
#include "properties/claims/catalogue.hpp"

namespace bv::mutants {
namespace {

constexpr std::string_view kLine = "line_with_fault";

/// Ids of the rules all of whose moves the mutant hits; nullopt when it hits a part of one.
std::optional<std::set<std::string>> whole_rules(const Program& right, const Mutant& mutant) {
  std::set<std::string> hit;
  for (const Move& move : right.moves) {
    if (!move.copy && hits(mutant, move)) {
      hit.insert(move.rule);
    }
  }
  for (const Move& move : right.moves) {
    if (!move.copy && hit.contains(move.rule) && !hits(mutant, move)) {
      return std::nullopt;
    }
  }
  return hit;
}

bool is_of_rules(const Mutant& mutant) {
  return !mutant.export_only && (mutant.parameters.contains("line") ||
                                 mutant.op == Operator::Drop || mutant.parameters.contains("hf"));
}

void change(const Mutant& mutant, family::Rule& rule) {
  if (mutant.op == Operator::Drop) {
    rule.when.emplace_back("dropped_by_a_fault");  // a flag that no model has
    return;
  }
  if (mutant.parameters.contains("line")) {
    rule.kind = kLine;
    for (const auto& [key, value] : mutant.parameters) {
      if (key.starts_with("axis ")) {
        rule.axes[key.substr(5)] = value;
      }
    }
    if (mutant.parameters.contains("drops_rest")) {
      rule.rest.clear();
    }
    return;
  }
  const auto replaced = mutant.parameters.find("replace");
  const std::string from = replaced == mutant.parameters.end() ? "" : replaced->second;
  for (auto& [source, name] : rule.hf) {
    name = renamed(name, from, mutant.parameters.find("hf")->second);
  }
}

Result<kinds::Catalogue> catalogue_of(const Mutant& mutant) {
  const auto changed = mutant.parameters.find("line");
  if (changed == mutant.parameters.end()) {
    return kinds::load_catalogue();
  }
  BV_TRY(line, layout::parse_rule(changed->second, "mutant"));
  line.name = kLine;
  return kinds::Catalogue::parse(
      std::string(kinds::builtin_text()) + "\n" + layout::print(line) + "\n", "mutant");
}

std::vector<Verdict> refuted(const claims::Subject& subject) {
  std::vector<Verdict> out;
  for (const claims::Claim& claim : claims::catalogue()) {
    const bool from_headers = claim.level == claims::Level::Headers && claim.id != "values";
    if (!from_headers || !out.empty()) {
      break;  // as the command: nothing below can be trusted with wrong names or shapes
    }
    auto verdicts = claim.judge(subject);
    std::copy_if(verdicts.begin(), verdicts.end(), std::back_inserter(out),
                 [](const Verdict& one) { return one.outcome == Outcome::Refuted; });
  }
  return out;
}

}  // namespace

Result<std::optional<std::vector<Verdict>>> refuted_by_user_claims(const Case& one,
                                                                   const Program& right,
                                                                   const Mutant& mutant,
                                                                   const oracle::Entry& entry) {
  const auto hit = whole_rules(right, mutant);
  if (!hit || !is_of_rules(mutant)) {
    return std::optional<std::vector<Verdict>>{};
  }
  std::vector<family::Rule> rules = family::rules(*one.model.family);
  for (family::Rule& rule : rules) {
    if (hit->contains(rule.id)) {
      change(mutant, rule);
    }
  }
  const auto family = family::with_rules(*one.model.family, std::move(rules));
  BV_TRY(kinds, catalogue_of(mutant));
  BV_TRY(config, checkpoint::parse_config(one.sample.config, one.sample.name));
  checkpoint::HfModel source;
  BV_TRY(resolved, model::resolve(family, config, one.headers, one.resolve));
  source.model = std::move(resolved);
  source.headers = one.headers;
  source.model_type = one.model_type;
  claims::Subject subject;
  subject.parts = {{&source}};
  subject.kinds = &kinds;
  subject.layouts = {right.layout};
  subject.budget.oracle = entry;
  return std::optional(refuted(subject));
}

}  // namespace bv::mutants
