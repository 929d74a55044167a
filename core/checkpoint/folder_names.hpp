#pragma once
// Names of the files of an HF folder, as they come from a folder or a manifest: nobody trusts them.

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"

namespace bv::checkpoint {

inline constexpr std::string_view kManifestName = "manifest.json";
inline constexpr std::string_view kCarriedFolder = "hf";
inline constexpr std::string_view kRulesName = "rules.json";
/// Beside the tensors of a torch_dist checkpoint of ours: what it was written with.
inline constexpr std::string_view kRecordName = "bridge-verify.json";
/// What the quantised form of the HF folder is made of beside the shards.
inline constexpr std::string_view kQuantisedFolder = "quantised";
inline constexpr std::string_view kCompanionsName = "quantised/companions.safetensors";

/// By its ending: weights of some framework. They are read or left, never carried along.
[[nodiscard]] bool is_weights_name(std::string_view name);

/// Why a relative name may not be that of a file: "" for plain components joined by '/', in UTF-8,
/// no longer than a path may be.
[[nodiscard]] std::string_view path_fault(std::string_view name);
/// The same for a file that is carried along: weights and names of ours (manifest.json, hf/...) are
/// refused as well.
[[nodiscard]] std::string_view carried_fault(std::string_view name);

/// Every file of the HF folder can stand beside the others: no name is another's, nor a folder of
/// it. Errors: ManifestInvalid naming both.
[[nodiscard]] Status check_disjoint(const std::vector<std::string>& weights,
                                    const std::vector<std::string>& carried,
                                    const std::string& file);

}  // namespace bv::checkpoint
