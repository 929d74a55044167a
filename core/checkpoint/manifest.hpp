#pragma once
// manifest.json of a Megatron folder: what it is made of, and everything needed to give the HF
// directory back.

#include <string>
#include <string_view>

#include "core/checkpoint/megatron_folder.hpp"
#include "core/kinds/catalogue.hpp"

namespace bv::checkpoint {

constexpr std::string_view kManifestName = "manifest.json";
constexpr std::string_view kCarriedFolder = "hf";

/// Two-space JSON, keys in a fixed order, newline at the end.
[[nodiscard]] std::string manifest_text(const MegatronFolder& folder, std::string_view rules_digest,
                                        std::string_view source_digest);
/// The manifest alone: `folder.model` and `config_text` are left empty. Errors: RulesInvalid with
/// the key's path.
[[nodiscard]] Result<MegatronFolder> parse_manifest(std::string_view text, const std::string& file);

/// Fingerprint of the kinds that a model uses (their canonical lines) and of its rules.
[[nodiscard]] std::string rules_digest(const model::Model& model, const kinds::Catalogue& kinds);

}  // namespace bv::checkpoint
