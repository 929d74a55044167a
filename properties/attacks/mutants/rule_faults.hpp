#pragma once
// A mutant as rules: the fault that a family file would have, put before the claims that
// `bridge-verify check` asks of every model.

#include <optional>
#include <vector>

#include "core/verdict/verdict.hpp"
#include "oracles/oracle.hpp"
#include "properties/attacks/mutants/mutant.hpp"

namespace bv::mutants {

/// The verdicts of names, shapes, coverage, inverse and placement on rules with this fault, the
/// refuted ones; empty when the claims see nothing. nullopt when the fault is none of rules: it
/// lies in a step of the engine, in the export alone, in values, or in some layers of a rule only.
/// Errors: those of the family and of the line.
[[nodiscard]] Result<std::optional<std::vector<Verdict>>> refuted_by_user_claims(
    const Case& one, const Program& right, const Mutant& mutant, const oracle::Entry& entry);

}  // namespace bv::mutants
