#pragma once
// What `--model REF` names (docs/reference/formats.md#finding-a-model): a folder, a file, or a
// repository in the HF cache. Built-in fixtures are not looked at here: they are no files.

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"
#include "core/io/weights_listing.hpp"

namespace bv::io {

enum class ModelKind {
  HfFolder,         // config.json, with or without weights
  ConfigFile,       // config.json alone
  SafetensorsFile,  // one *.safetensors
  IndexFile,        // one *.index.json
  HeadersDump,      // *.headers.json[.gz]
  MegatronFolder,   // written by bridge-verify: manifest.json
  TorchDist,        // a Megatron checkpoint of *.distcp files
};

struct LocatedModel {
  ModelKind kind = ModelKind::HfFolder;
  std::filesystem::path
      path;  // the file or folder itself; for TorchDist the folder with the *.distcp files
  std::filesystem::path folder;             // where config.json stands, or would stand
  WeightsForm weights = WeightsForm::None;  // of an HfFolder
  std::size_t distcp_files = 0;             // of a TorchDist
  std::string how;                          // which rule matched, for -v
  std::vector<std::string> notes;
};

/// Roots come in as arguments: nothing below ci/ reads the environment.
struct LocateRoots {
  std::filesystem::path cache;           // .../huggingface/hub
  std::filesystem::path working_folder;  // relative references start here
};

/// Errors: ModelNotFound with the places looked at and similar names, CacheIncomplete, NoConfig,
/// NotSafetensors, ReadFailed.
[[nodiscard]] Result<LocatedModel> locate_model(std::string_view reference,
                                                const LocateRoots& roots);

/// An existing file or folder. Errors: ModelNotFound, NoConfig (what the folder holds instead),
/// NotSafetensors, ReadFailed.
[[nodiscard]] Result<LocatedModel> classify_path(const std::filesystem::path& path);

/// Whether the located thing can be read as an HF model. Errors: NoConfig that names the Megatron
/// checkpoint it is.
[[nodiscard]] Status require_hf(const LocatedModel& model);

}  // namespace bv::io
