#pragma once
// The kill matrix as text: operators and what kills them, beside the upstream-style gate.

#include <string>

#include "core/verdict/verdict.hpp"

namespace bv::reports {

/// Three tables for a terminal: operators with the gate, operators by claim, reasons of
/// equivalence. ASCII; the widest line has 99 columns.
[[nodiscard]] std::string mutation_table(const Mutation& mutation);
/// The same as Markdown.
[[nodiscard]] std::string mutation_markdown(const Mutation& mutation);

}  // namespace bv::reports
