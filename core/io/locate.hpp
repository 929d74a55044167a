#pragma once
// What `--model REF` names (docs/reference/formats.md#finding-a-model): a folder, a file, or a
// repository in the HF cache. Built-in fixtures are not looked at here: they are no files.

#include <filesystem>
#include <optional>
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
  RankFiles,        // a Megatron checkpoint with a file or folder for each rank, and no manifest
};

struct LocatedModel {
  ModelKind kind = ModelKind::HfFolder;
  std::filesystem::path
      path;  // the file or folder itself; of a Megatron checkpoint the folder with its files
  std::filesystem::path folder;             // where config.json stands, or would stand
  WeightsForm weights = WeightsForm::None;  // of an HfFolder
  std::size_t distcp_files = 0;             // of a TorchDist
  std::size_t rank_files = 0;               // of RankFiles
  std::string how;                          // which rule matched, for -v
  std::vector<std::string> notes;
};

/// Roots come in as arguments: nothing below ci/ reads the environment.
struct LocateRoots {
  std::filesystem::path cache;           // .../huggingface/hub
  std::filesystem::path working_folder;  // relative references start here
};

/// Errors: ModelNotFound with the places looked at, CacheIncomplete, NoConfig,
/// NotSafetensors, ReadFailed.
[[nodiscard]] Result<LocatedModel> locate_model(std::string_view reference,
                                                const LocateRoots& roots);

/// An existing file or folder. Errors: ModelNotFound, NoConfig (what the folder holds instead),
/// CacheIncomplete (latest_checkpointed_iteration.txt names what is not there),
/// NotSafetensors, ReadFailed.
[[nodiscard]] Result<LocatedModel> classify_path(const std::filesystem::path& path);

/// The Megatron checkpoint of a folder, whatever lies beside it: a config.json does not make an HF
/// model of it. nullopt when there is none, or one that bridge-verify wrote. Errors: ReadFailed,
/// CacheIncomplete.
[[nodiscard]] Result<std::optional<LocatedModel>> megatron_below(
    const std::filesystem::path& folder);

/// Whether the located thing can be read as an HF model. Errors: NoConfig that names the Megatron
/// checkpoint it is.
[[nodiscard]] Status require_hf(const LocatedModel& model);

}  // namespace bv::io
