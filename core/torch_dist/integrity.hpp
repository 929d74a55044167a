#pragma once
// integrity.json of a torch_dist checkpoint: what every file was when Megatron-Core saved it.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/base/result.hpp"

namespace bv::torch_dist {

inline constexpr const char* kIntegrityName = "integrity.json";

/// A file that is not what it was.
struct ChangedFile {
  std::string name;
  std::string found;   // its SHA-256
  std::string wanted;  // the SHA-256 that integrity.json states
};

struct Integrity {
  std::int64_t compared = 0;         // files, the changed ones too
  std::vector<ChangedFile> changed;  // by name
  /// An algorithm that is not known; files that only one of the two has. One that is not there is
  /// no fault of the weights, which are opened before: many leave the optimizer behind.
  std::vector<std::string> notes;
};

/// Reads every file that integrity.json names, once, and compares its SHA-256. `files` are those
/// whose tensors are read. Without an integrity.json nothing is done. An algorithm other than
/// sha256 is a note, and compares nothing: Megatron refuses it too.
/// Errors: DistMetadataInvalid when integrity.json cannot be used, UnsafePath when it names a file
/// outside the folder, ReadFailed, PermissionDenied.
/// Source: megatron/core/dist_checkpointing/validation.py, Megatron-Core 0.19.2:
/// save_integrity_manifest, _verify_integrity_manifest_impl.
[[nodiscard]] Result<Integrity> check_integrity(const std::filesystem::path& iteration,
                                                const std::vector<std::filesystem::path>& files,
                                                int jobs);

}  // namespace bv::torch_dist
