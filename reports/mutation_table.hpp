#pragma once
// The kill matrix as text: operators and what kills them, beside the upstream-style gate.

#include <string>

#include "core/verdict/verdict.hpp"

namespace bv::reports {

/// Three tables for a terminal: operators with the gate, operators by claim, reasons of
/// equivalence. ASCII; what does not fit `width` goes below, behind the first column once more.
[[nodiscard]] std::string mutation_table(const Mutation& mutation, std::size_t width = 100);
/// The same as Markdown.
[[nodiscard]] std::string mutation_markdown(const Mutation& mutation);

}  // namespace bv::reports
