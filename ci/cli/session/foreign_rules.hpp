#pragma once
// --rules FILE: the rules under test in place of the built-in ones.

#include "ci/cli/command.hpp"
#include "ci/cli/session/session.hpp"
#include "core/foreign/rules_apply.hpp"

namespace bv::cli {

/// A rules file, or stdin for "-".
struct RulesText {
  foreign::ForeignRules rules;
  std::string digest;  // of its bytes
};
/// Errors: RulesInvalid, ReadFailed.
[[nodiscard]] Result<RulesText> read_rules(const std::string& path);

/// Puts the rules of --rules in place of those of the family that `opened` was resolved with. Does
/// nothing without --rules.
[[nodiscard]] Status use_foreign_rules(const Options& options, OpenedModel& opened);

/// Notes on what released bridges build otherwise; with --rules: where the rules come from and what
/// they are held against, in place of the facts about the family.
void describe_rules(const OpenedModel& opened, Run& run);

/// The catalogue, with the lines of notation that only foreign rules use and those that the rules
/// of a file bring with them; of stdin, which is read once, UnderTest::kinds has them.
[[nodiscard]] Result<kinds::Catalogue> catalogue_for_rules(const std::string& rules_file);

/// `rules lint FILE...`: exit 0 without errors, 1 with one (--strict: or a warning), 3 when a rule
/// cannot be judged, 5 for a file that is not a rules file. With a model: what `check --level
/// headers --rules FILE` says.
int run_rules_lint(Context& context, const Options& options);

}  // namespace bv::cli
