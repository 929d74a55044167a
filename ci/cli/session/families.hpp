#pragma once
// The families of a run: the built-in ones, and those of --families.

#include <string>
#include <vector>

#include "ci/cli/options/options.hpp"
#include "core/family/families.hpp"
#include "core/kinds/catalogue.hpp"

namespace bv::cli {

/// Every *.json of each folder is a family, every one of its folder tables/ a table, in the order
/// of their names. Errors: ReadFailed for a folder that cannot be read or holds no family; those of
/// family::families_with.
[[nodiscard]] Result<std::vector<family::FamilyPtr>> load_families(const Options& options);
/// A fingerprint of the names and texts of these files, "" without --families. Errors: ReadFailed.
[[nodiscard]] Result<std::string> families_digest(const Options& options);

/// Every kind that their rules name is in the catalogue, and no statement is misspelt. Errors:
/// RulesInvalid with the nearest name.
[[nodiscard]] Status check_families(const std::vector<family::FamilyPtr>& families,
                                    const kinds::Catalogue& lines);

}  // namespace bv::cli
