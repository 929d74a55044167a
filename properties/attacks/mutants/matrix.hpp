#pragma once
// The kill matrix: operator x claim, beside what the upstream-style gate kills of the same mutants.

#include <array>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "properties/attacks/mutants/equivalence.hpp"
#include "properties/attacks/mutants/gate.hpp"

namespace bv::mutants {

inline constexpr std::array kGateStds = {0.006, 0.02, 0.03};
inline constexpr std::array<std::string_view, 3> kLevels = {"text", "headers", "data"};

/// A sample on one of its layouts: where mutants are planted.
struct Place {
  Sample sample;
  std::string layout;  // as padded_layout takes it
};
/// Every sample on every layout that it lists. `names` are samples or families, empty for all;
/// `layouts` replace those of the samples.
/// Errors: BadValue for a name that is none, with the nearest.
[[nodiscard]] Result<std::vector<Place>> places_of(const std::vector<Sample>& samples,
                                                   const std::vector<std::string>& names,
                                                   const std::vector<std::string>& layouts);

struct Fate {
  Mutant mutant;
  std::string family;
  std::string sample;
  std::string layout;
  std::vector<Finding> findings;  // empty: survived, or equivalent
  std::optional<Equivalence> equivalence;
  bool forward_asked = false;
  std::array<bool, kGateStds.size()> gate_red{};
};

/// One row of the matrix. Of an equivalent mutant only the number is kept: no gate can be blamed
/// for it.
struct Row {
  Operator op = Operator::Drop;
  Side side = Side::There;
  std::int64_t mutants = 0;
  std::int64_t equivalent = 0;
  std::int64_t killed = 0;
  std::int64_t forward_asked = 0;                       // planted into a model with a forward form
  std::array<std::int64_t, kClaims.size()> by_claim{};  // one mutant may be killed by several
  std::array<std::int64_t, kLevels.size()> by_level{};  // the cheapest level that kills it
  std::array<std::int64_t, kGateStds.size()> by_gate{};
};

struct Matrix {
  std::vector<Row> rows;        // in the order of Operator, then Side; empty rows left out
  std::vector<Fate> survivors;  // neither killed nor equivalent
  std::vector<Fate> equivalents;
  std::set<std::pair<std::string, std::string>> killed_somewhere;  // family, text of the mutant
  std::int64_t mutants = 0;
  std::int64_t killed = 0;
  std::int64_t places = 0;
};

struct MatrixOptions {
  bool gate = true;
  std::uint64_t seed = 1;
  int jobs = 1;
  /// Which mutants to judge; unset: all. Called on several threads.
  std::function<bool(const Place&, const Mutant&)> wanted;
  /// Called for each place that is done; false stops the run. Called on several threads.
  std::function<bool(const Place&)> progress;
  /// Asked before each mutant: true stops the run. Called on several threads.
  std::function<bool()> stopped;
};

/// Judges one mutant. Errors: those of apply.
[[nodiscard]] Result<Fate> judge_mutant(const Library& library, const Reference& reference,
                                        const Mutant& mutant, std::span<const Gate> gates);

/// Judges every mutant of every place. A mutant is judged in a world of the parameters that it
/// touches: the others are those of the right bridge. The result does not depend on `jobs`.
/// Errors: those of the plan and the oracle; a right bridge that a claim refutes; a stopped run.
[[nodiscard]] Result<Matrix> run_matrix(const Library& library, const std::vector<Place>& places,
                                        const oracle::Entry& entry, const MatrixOptions& options);
/// Adds `more` to `matrix`.
void merge(Matrix&& more, Matrix& matrix);

/// Equivalent mutants that no other layout or sample of their family kills although their reason is
/// not one of the rule: either the samples lack a size, or the claims are blind. A run over all
/// layouts has none.
[[nodiscard]] std::vector<Fate> never_killed(const Matrix& matrix);

/// One verdict an operator: Held when every mutant is killed or equivalent, else Refuted
/// (MutantSurvived) naming the first survivor. With `whole`, never_killed count as survivors.
[[nodiscard]] std::vector<Verdict> verdicts_of(const Matrix& matrix, bool whole,
                                               const std::string& replay);
/// The matrix as every report takes it.
[[nodiscard]] Mutation mutation_of(const Matrix& matrix, bool whole);
/// One survivor a line, as JSON that mutant_from_json reads, with sample and layout.
[[nodiscard]] std::string survivors_text(const Matrix& matrix, bool whole);

}  // namespace bv::mutants
