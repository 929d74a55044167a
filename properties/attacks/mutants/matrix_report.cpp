// The matrix as verdicts, as the numbers of a report, and as a file of survivors.

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/json_text.hpp"
#include "properties/attacks/mutants/matrix.hpp"

namespace bv::mutants {
namespace {

std::string of(const Fate& fate) {
  return fmt::format("{} on {} {}", text(fate.mutant), fate.sample, fate.layout);
}

std::vector<Fate> all_survivors(const Matrix& matrix, bool whole) {
  std::vector<Fate> out = matrix.survivors;
  if (whole) {
    for (Fate& fate : never_killed(matrix)) {
      out.push_back(std::move(fate));
    }
  }
  return out;
}

bool same_row(const Fate& fate, const Row& row) {
  return fate.mutant.op == row.op && side(fate.mutant) == row.side;
}

std::string row_text(const Row& row) {
  std::string out = fmt::format("{} mutants, {} killed, {} equivalent; by claim", row.mutants,
                                row.killed, row.equivalent);
  for (std::size_t i = 0; i < kClaims.size(); ++i) {
    if (row.by_claim[i] > 0) {
      out += fmt::format(" {} {}", kClaims[i].claim, row.by_claim[i]);
    }
  }
  out += "; upstream-style gate";
  for (std::size_t i = 0; i < kGateStds.size(); ++i) {
    out += fmt::format("{} {} at std {}", i > 0 ? "," : "", row.by_gate[i], kGateStds[i]);
  }
  return out;
}

/// The last claim is asked only of references that can run the modules.
std::ptrdiff_t claims_asked(const Matrix& matrix) {
  static_assert(kClaims.back().claim == "forward");
  const bool forward = std::any_of(matrix.rows.begin(), matrix.rows.end(),
                                   [](const Row& row) { return row.forward_asked > 0; });
  return static_cast<std::ptrdiff_t>(kClaims.size()) - (forward ? 0 : 1);
}

void refute(const Fate& fate, Verdict& verdict) {
  if (verdict.refuted_cases++ > 0) {
    return;
  }
  verdict.outcome = Outcome::Refuted;
  verdict.evidence = {};
  verdict.code = Code::MutantSurvived;
  verdict.found = "every claim holds";
  if (fate.equivalence) {
    verdict.title = of(fate) + " is equivalent here and killed on no other layout of the family";
    verdict.facts.push_back(fate.equivalence->proof);
    verdict.wanted = "a layout or a sample of the family on which it is a fault";
    verdict.help =
        "add a sample in which the axis is longer to properties/attacks/mutants/samples.json";
  } else {
    verdict.title = of(fate) + " is seen by no claim";
    verdict.wanted = "at least one claim refuted, or a proof that the mutant changes nothing";
    verdict.help = "add the case to the tests of the claim that ought to see it";
  }
}

}  // namespace

std::vector<Verdict> verdicts_of(const Matrix& matrix, bool whole, const std::string& replay) {
  const std::vector<Fate> survivors = all_survivors(matrix, whole);
  std::vector<Verdict> out;
  for (const Row& row : matrix.rows) {
    Verdict verdict;
    verdict.claim = "mutants";
    verdict.rule = std::string(name(row.op)) + (row.side == Side::Both   ? "_two_sided"
                                                : row.side == Side::Back ? "_export_only"
                                                                         : "");
    verdict.kind = "mutation";
    verdict.megatron = verdict.rule;
    verdict.outcome = Outcome::Held;
    verdict.evidence.oracle = true;
    verdict.evidence.bytes = true;
    verdict.cases = row.mutants;
    verdict.facts = {row_text(row)};
    verdict.replay = replay;
    for (const Fate& fate : survivors) {
      if (same_row(fate, row)) {
        refute(fate, verdict);
      }
    }
    out.push_back(std::move(verdict));
  }
  return out;
}

Mutation mutation_of(const Matrix& matrix, bool whole) {
  const std::vector<Fate> survivors = all_survivors(matrix, whole);
  Mutation out;
  const std::ptrdiff_t asked = claims_asked(matrix);
  for (auto row = kClaims.begin(); row != std::next(kClaims.begin(), asked); ++row) {
    out.claims.emplace_back(row->claim, row->level);
  }
  out.levels.assign(kLevels.begin(), kLevels.end());
  out.gate_stds.assign(kGateStds.begin(), kGateStds.end());
  out.places = matrix.places;
  for (const Row& row : matrix.rows) {
    MutationRow one;
    one.op = name(row.op);
    one.side = mark(row.side);
    one.mutants = row.mutants;
    one.killed = row.killed;
    one.survived = std::count_if(survivors.begin(), survivors.end(),
                                 [&](const Fate& fate) { return same_row(fate, row); });
    one.forward_asked = row.forward_asked;
    one.equivalent = one.mutants - one.killed - one.survived;
    one.by_claim.assign(row.by_claim.begin(), std::next(row.by_claim.begin(), asked));
    one.by_level.assign(row.by_level.begin(), row.by_level.end());
    one.by_gate.assign(row.by_gate.begin(), row.by_gate.end());
    out.rows.push_back(std::move(one));
  }
  for (int i = 0; i < kReasons; ++i) {
    Mutation::Reason reason{std::string(name(static_cast<Reason>(i))), 0, 0};
    for (const Fate& fate : matrix.equivalents) {
      if (fate.equivalence->reason == static_cast<Reason>(i)) {
        ++reason.mutants;
        reason.killed_elsewhere +=
            matrix.killed_somewhere.contains({fate.family, text(fate.mutant)}) ? 1 : 0;
      }
    }
    if (reason.mutants > 0) {
      out.reasons.push_back(std::move(reason));
    }
  }
  for (const Fate& fate : survivors) {
    out.survivors.push_back(of(fate));
  }
  return out;
}

std::string survivors_text(const Matrix& matrix, bool whole) {
  std::string out;
  for (const Fate& fate : all_survivors(matrix, whole)) {
    nlohmann::json line = to_json(fate.mutant);
    line["sample"] = fate.sample;
    line["layout"] = fate.layout;
    line["equivalent_here"] = fate.equivalence ? fate.equivalence->proof : "";
    out += json_text(line, -1) + "\n";
  }
  return out;
}

}  // namespace bv::mutants
