#pragma once
// The terminal report of a run, and its line-oriented forms.

#include <string>

#include "core/verdict/verdict.hpp"
#include "reports/style.hpp"

namespace bv::reports {

/// Model, rules, what was detected, layouts: what is known before the work begins.
[[nodiscard]] std::string render_header(const Run& run, const TextStyle& style);

/// The header (unless the style leaves it out), claim table with legend, one block a cause (at most
/// 20), what to do next, and the last line, which is always there except at verbosity -2.
/// Sentences are wrapped at words; only commands and single names are longer than the style's
/// width.
[[nodiscard]] std::string render_text(const Run& run, const TextStyle& style);

/// One tab-separated line a verdict: outcome, code or "-", claim, rule, layout, evidence, cases,
/// refuted cases, Megatron name, HF names joined by commas, title. No heading, no wrapping.
[[nodiscard]] std::string render_plain(const Run& run);

}  // namespace bv::reports
