#include "properties/mutants/matrix.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace bv::mutants {
namespace {

void count(const Fate& fate, Matrix& matrix) {
  auto row = std::find_if(matrix.rows.begin(), matrix.rows.end(), [&](const Row& one) {
    return one.op == fate.mutant.op && one.two_sided == fate.mutant.two_sided;
  });
  if (row == matrix.rows.end()) {
    Row fresh;
    fresh.op = fate.mutant.op;
    fresh.two_sided = fate.mutant.two_sided;
    const auto before = [&](const Row& one) {
      return std::pair(one.op, one.two_sided) > std::pair(fresh.op, fresh.two_sided);
    };
    row = matrix.rows.insert(std::find_if(matrix.rows.begin(), matrix.rows.end(), before), fresh);
  }
  ++row->mutants;
  ++matrix.mutants;
  row->equivalent += fate.equivalent ? 1 : 0;
  if (!fate.findings.empty()) {
    ++row->killed;
    ++matrix.killed;
  }
  for (std::size_t i = 0; i < kClaims.size(); ++i) {
    row->by_claim[i] +=
        std::any_of(fate.findings.begin(), fate.findings.end(),
                    [&](const Finding& one) { return one.claim == kClaims[i].claim; })
            ? 1
            : 0;
  }
  if (!fate.equivalent) {
    for (std::size_t i = 0; i < kGateStds.size(); ++i) {
      row->by_gate[i] += fate.gate_red[i] ? 1 : 0;
    }
  }
}

std::string row_text(const Row& row) {
  std::string out =
      fmt::format("{}{}: {} mutants, {} killed, {} equivalent; by claim", name(row.op),
                  row.two_sided ? " (2)" : "", row.mutants, row.killed, row.equivalent);
  for (std::size_t i = 0; i < kClaims.size(); ++i) {
    if (row.by_claim[i] > 0) {
      out += fmt::format(" {} {}", kClaims[i].claim, row.by_claim[i]);
    }
  }
  out += "; upstream-style gate";
  for (std::size_t i = 0; i < kGateStds.size(); ++i) {
    out += fmt::format(" {} at std {}{}", row.by_gate[i], kGateStds[i],
                       i + 1 < kGateStds.size() ? "," : "");
  }
  return out;
}

}  // namespace

Result<Fate> judge_mutant(const Library& library, const Reference& reference, const Mutant& mutant,
                          const MatrixOptions& options) {
  BV_TRY(attack, apply(library, reference.model(), reference.right(), mutant));
  Fate fate;
  fate.mutant = mutant;
  fate.sample = reference.model().sample.name;
  fate.layout = parallel::layout_id(reference.right().layout);
  fate.findings = reference.judge(attack);
  fate.equivalent = fate.findings.empty() && reference.is_equivalent(attack, fate.reason);
  for (std::size_t i = 0; options.gate && i < kGateStds.size(); ++i) {
    fate.gate_red[i] = run_gate(reference, attack, kGateStds[i], options.seed).red;
  }
  return fate;
}

Status add_mutants(const Library& library, const Reference& reference, const MatrixOptions& options,
                   Matrix& matrix) {
  for (const Mutant& mutant : enumerate(library, reference.model(), reference.right())) {
    BV_TRY(fate, judge_mutant(library, reference, mutant, options));
    count(fate, matrix);
    if (fate.equivalent) {
      matrix.equivalents.push_back(fate);
    } else if (fate.findings.empty()) {
      matrix.survivors.push_back(fate);
    }
    if (options.progress && !options.progress(fate)) {
      return fail(Code::Conflict, "stopped before every mutant was judged").advise("run it again");
    }
  }
  return Done{};
}

std::vector<Verdict> verdicts_of(const Matrix& matrix, const std::string& replay) {
  std::vector<Verdict> out;
  for (const Row& row : matrix.rows) {
    Verdict verdict;
    verdict.claim = "mutants";
    verdict.rule = fmt::format("{}{}", name(row.op), row.two_sided ? "_two_sided" : "");
    verdict.kind = "mutation";
    verdict.megatron = verdict.rule;
    verdict.outcome = Outcome::Held;
    verdict.evidence.oracle = true;
    verdict.evidence.bytes = true;
    verdict.cases = row.mutants;
    verdict.facts = {row_text(row)};
    verdict.replay = replay;
    for (const Fate& fate : matrix.survivors) {
      if (fate.mutant.op != row.op || fate.mutant.two_sided != row.two_sided) {
        continue;
      }
      if (verdict.refuted_cases++ == 0) {
        verdict.outcome = Outcome::Refuted;
        verdict.evidence = {};
        verdict.code = Code::MutantSurvived;
        verdict.title = fmt::format("{} on {} {} is seen by no claim", text(fate.mutant),
                                    fate.sample, fate.layout);
        verdict.found = "every claim holds";
        verdict.wanted = "at least one claim refuted, or a proof that the mutant changes nothing";
        verdict.help = "add the case to the tests of the claim that ought to see it";
      }
    }
    for (const Fate& fate : matrix.equivalents) {
      if (fate.mutant.op == row.op && fate.mutant.two_sided == row.two_sided) {
        verdict.facts.push_back(fmt::format("equivalent: {} on {} {}: {}", text(fate.mutant),
                                            fate.sample, fate.layout, fate.reason));
      }
    }
    out.push_back(std::move(verdict));
  }
  return out;
}

}  // namespace bv::mutants
