#pragma once
// --rules FILE: the rules under test in place of the built-in ones.

#include "ci/cli/command.hpp"
#include "ci/cli/session/session.hpp"
#include "core/foreign/rules_file.hpp"

namespace bv::cli {

/// Reads and parses a rules file. Errors: RulesInvalid, ReadFailed.
[[nodiscard]] Result<foreign::ForeignRules> read_rules(const std::string& path);

/// Puts the rules of --rules in place of those of the family that `opened` was resolved with. Does
/// nothing without --rules.
[[nodiscard]] Status use_foreign_rules(const Options& options, OpenedModel& opened);

/// The catalogue, with the lines of notation that only foreign rules use.
[[nodiscard]] Result<kinds::Catalogue> catalogue_for_rules();

/// `rules lint FILE`: exit 0 without errors, 1 with one (--strict: or a warning), 5 for a file that
/// is not a rules file.
int run_rules_lint(Context& context, const Options& options);

}  // namespace bv::cli
