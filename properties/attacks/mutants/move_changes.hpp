#pragma once
// What each operator does to one move of a program.

#include "properties/attacks/mutants/mutant.hpp"

namespace bv::mutants {

/// The mutant is about this move's parameter.
[[nodiscard]] bool hits(const Mutant& mutant, const Move& move);
/// Changes a move that the mutant hits; `right` is the program as it was. False when the move is to
/// be left out.
[[nodiscard]] bool change_move(const Program& right, const Mutant& mutant, Move& move);

}  // namespace bv::mutants
