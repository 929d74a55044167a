#pragma once
// The kill matrix: operator x claim, beside what the upstream-style gate kills of the same mutants.

#include <array>
#include <functional>
#include <string>
#include <vector>

#include "properties/mutants/judge.hpp"

namespace bv::mutants {

inline constexpr std::array kGateStds = {0.006, 0.02, 0.03};

struct Fate {
  Mutant mutant;
  std::string sample;
  std::string layout;
  std::vector<Finding> findings;  // empty: survived, or equivalent
  bool equivalent = false;
  std::string reason;  // why it is equivalent
  std::array<bool, kGateStds.size()> gate_red{};
};

/// One row of the matrix.
struct Row {
  Operator op = Operator::Drop;
  bool two_sided = false;
  std::int64_t mutants = 0;
  std::int64_t equivalent = 0;
  std::int64_t killed = 0;
  std::array<std::int64_t, kClaims.size()> by_claim{};  // one mutant may be killed by several
  std::array<std::int64_t, kGateStds.size()> by_gate{};
};

struct Matrix {
  std::vector<Row> rows;        // in the order of Operator, one-sided first; empty rows left out
  std::vector<Fate> survivors;  // neither killed nor equivalent
  std::vector<Fate> equivalents;
  std::int64_t mutants = 0;
  std::int64_t killed = 0;
};

struct MatrixOptions {
  bool gate = true;
  std::uint64_t seed = 1;
  /// Called for each mutant; false stops the run.
  std::function<bool(const Fate&)> progress;
};

/// Judges one mutant. Errors: those of apply.
[[nodiscard]] Result<Fate> judge_mutant(const Library& library, const Reference& reference,
                                        const Mutant& mutant, const MatrixOptions& options);
/// Judges every mutant of the reference and adds it to the matrix.
[[nodiscard]] Status add_mutants(const Library& library, const Reference& reference,
                                 const MatrixOptions& options, Matrix& matrix);

/// One verdict an operator: Held when every mutant is killed or equivalent, else Refuted
/// (MutantSurvived) naming the first survivor. The facts are the rows of the matrix.
[[nodiscard]] std::vector<Verdict> verdicts_of(const Matrix& matrix, const std::string& replay);

}  // namespace bv::mutants
