#pragma once
// What --match and --exclude take of the HF tensors of a checkpoint.

#include <set>
#include <string>
#include <vector>

#include "core/base/result.hpp"
#include "core/base/tensor_spec.hpp"

namespace bv::model {

/// Globs on HF names: `*` is any run of characters, dots included.
struct NameFilter {
  std::vector<std::string> match;    // only these are subjects: a run in part
  std::vector<std::string> exclude;  // these are not part of the model: known extras
};

/// The names that --exclude takes. Errors: BadValue for a pattern of either list that takes no name
/// of the headers, with the name nearest to it; Conflict when nothing is left.
[[nodiscard]] Result<std::set<std::string, std::less<>>> excluded_names(const NameFilter& filter,
                                                                        const Headers& headers);

}  // namespace bv::model
