#pragma once
// config.json of two HF checkpoints: equal tensors are another model under other head counts.

#include <filesystem>
#include <string>
#include <vector>

#include "core/family/families.hpp"
#include "core/verdict/verdict.hpp"

namespace bv::cli {

struct ConfigDifference {
  /// Claim "shapes": one refuted verdict for each size that the rules read and the two configs
  /// state differently, else one proved verdict whose cases are the sizes. None when a folder has
  /// no config.json, or no family knows the wanted model.
  std::vector<Verdict> verdicts;
  std::vector<std::string> notes;  // what differs and no rule reads; why nothing was compared
};
/// `wanted` and `found` are the folders of the two models. Errors: those of reading and parsing
/// config.json of the wanted model; one of B that cannot be read is refuted.
[[nodiscard]] Result<ConfigDifference> diff_configs(const std::filesystem::path& wanted,
                                                    const std::filesystem::path& found,
                                                    const std::vector<family::FamilyPtr>& families);

}  // namespace bv::cli
