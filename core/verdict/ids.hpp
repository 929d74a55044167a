#pragma once
// Names of verdicts that outlive a run: deep links, fingerprints, the keys of a comparison.

#include <string>
#include <string_view>
#include <vector>

#include "core/verdict/verdict.hpp"

namespace bv {

/// 16 hex digits of XXH3-64 over the parts, each with its length: equal contents, equal digits.
[[nodiscard]] std::string fingerprint(const std::vector<std::string_view>& parts);

/// The fault that a verdict is about, whatever the layout, the line of the rule and the numbers of
/// the run: code, claim, kind and names.
[[nodiscard]] std::string fault_fingerprint(const Verdict& verdict);

/// One id a verdict, in the run's order, none twice: Verdict::id(), followed by "~" and digits of
/// the contents where several have that id. Equal contents give equal ids in every run.
[[nodiscard]] std::vector<std::string> unique_ids(const std::vector<Verdict>& verdicts);

}  // namespace bv
