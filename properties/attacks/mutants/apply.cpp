// Applies a mutant: to the text of a line, or to the moves of the program that it became.

#include <algorithm>
#include <deque>

#include "core/base/text.hpp"
#include "core/layout/notation.hpp"
#include "properties/attacks/mutants/move_changes.hpp"

namespace bv::mutants {
namespace {

constexpr std::string_view kLine = "mutated_line";

/// The program with another line for the rules that are hit. Errors: RulesInvalid and what the plan
/// says.
Result<Program> with_line(const Case& one, const Program& right, const Mutant& mutant) {
  BV_TRY(line, layout::parse_rule(mutant.parameters.find("line")->second, "mutant"));
  line.name = kLine;
  BV_TRY(kinds,
         kinds::Catalogue::parse(
             std::string(kinds::builtin_text()) + "\n" + layout::print(line) + "\n", "mutant"));
  model::Model model = one.model;
  std::map<const family::Rule*, const family::Rule*> changed;
  std::deque<family::Rule> rules;
  for (const Move& move : right.moves) {
    const family::Rule* rule = model.mappings[move.mapping].rule;
    const bool ours =
        std::any_of(rules.begin(), rules.end(), [&](const auto& r) { return &r == rule; });
    if (!hits(mutant, move) || changed.contains(rule) || ours) {
      continue;
    }
    family::Rule copy = *rule;
    copy.kind = kLine;
    for (const auto& [key, value] : mutant.parameters) {
      if (key.starts_with("axis ")) {
        copy.axes[key.substr(5)] = value;
      }
    }
    if (mutant.parameters.contains("drops_rest")) {
      copy.rest.clear();
    }
    rules.push_back(std::move(copy));
    changed.emplace(rule, &rules.back());
  }
  for (model::Mapping& mapping : model.mappings) {
    if (const auto found = changed.find(mapping.rule); found != changed.end()) {
      mapping.rule = found->second;
    }
  }
  return compile(model, kinds, right.layout);
}

Program with_moves(const Program& right, const Mutant& mutant) {
  Program out = right;
  out.moves.clear();
  for (const Move& original : right.moves) {
    Move move = original;
    if (!hits(mutant, move) || change_move(right, mutant, move)) {
      out.moves.push_back(std::move(move));
    }
  }
  return out;
}

}  // namespace

Result<Attack> apply(const Library&, const Case& one, const Program& right, const Mutant& mutant) {
  if (std::none_of(right.moves.begin(), right.moves.end(),
                   [&](const Move& move) { return hits(mutant, move); })) {
    return fail(Code::BadValue, "no Megatron parameter matches " + escaped(mutant.parameter))
        .pair(escaped(mutant.parameter), "a glob over global names, as decoder.layers.*.mlp.*")
        .advise("bridge-verify rules show FAMILY lists the parameters");
  }
  Attack out;
  Program changed;
  if (mutant.parameters.contains("line")) {
    auto program = with_line(one, right, mutant);
    if (!program) {
      out.refused = std::move(program).error();
      out.way_there = out.way_back = right;
      return out;
    }
    changed = std::move(*program);
  } else {
    changed = with_moves(right, mutant);
  }
  switch (side(mutant)) {
    case Side::There:
      out.way_there = std::move(changed);
      out.way_back = right;
      break;
    case Side::Both:
      out.way_there = changed;
      out.way_back = std::move(changed);
      break;
    case Side::Back:
      out.way_there = right;
      out.way_back = std::move(changed);
      break;
  }
  return out;
}

}  // namespace bv::mutants
