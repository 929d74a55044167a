#pragma once
// manifest.json of a Megatron folder (schema bridge-megatron/2): what it is made of, and everything
// needed to give the HF directory back. bridge-verify.json of a torch_dist checkpoint (schema
// bridge-torch-dist/1): the part of it that says what was decided.

#include <string>
#include <string_view>

#include "core/checkpoint/folder_names.hpp"
#include "core/checkpoint/megatron_folder.hpp"
#include "core/plan/plan.hpp"

namespace bv::checkpoint {

inline constexpr std::string_view kManifestSchema = "bridge-megatron/2";
inline constexpr std::uint64_t kManifestBytesMax = std::uint64_t{1} << 30;

/// Two-space JSON, keys in a fixed order, newline at the end.
[[nodiscard]] std::string manifest_text(const MegatronFolder& folder);

/// The manifest by itself: JSON, keys, names, numbers and fingerprints are right; model, config and
/// folder are left empty. Nothing in it may lead out of the folder, and no file of the HF side can
/// take another's place. Errors: ManifestInvalid with line and column; DuplicateKey.
[[nodiscard]] Result<MegatronFolder> parse_manifest(std::string_view text, const std::string& file);

inline constexpr std::string_view kRecordSchema = "bridge-torch-dist/1";
inline constexpr std::uint64_t kRecordBytesMax = std::uint64_t{64} << 20;

/// Family, rules, dtype, spelling, --drop-mtp, --expert-orientation, --exclude, --set, adapter.
[[nodiscard]] std::string record_text(const MegatronFolder& folder);
/// The same back; all else is left empty. Errors: those of parse_manifest.
[[nodiscard]] Result<MegatronFolder> parse_record(std::string_view text, const std::string& file);

/// Fingerprint of where every row goes: layout, shard files, and for each parameter its name, its
/// HF tensors, the notation line and the axis sizes. Two plans with one fingerprint move the same
/// elements to the same places.
[[nodiscard]] std::string plan_digest(const plan::Plan& plan);

/// XXH3-128 over name, dtype and shape of every tensor, in name order, and the file it stands in.
[[nodiscard]] std::string placed_headers_digest(const MegatronFolder& folder);
/// The same of a quantised form, with the fingerprint of every tensor.
[[nodiscard]] std::string placed_headers_digest(const QuantisedSide& side);

}  // namespace bv::checkpoint
