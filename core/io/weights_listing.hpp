#pragma once
// Which files of a folder are weights: an index, one file, a listing, or something that is not
// read.

#include <filesystem>
#include <string>
#include <vector>

#include "core/base/result.hpp"

namespace bv::io {

/// Names in a folder by what they are; each list in byte order. Hidden files are left out.
struct FolderListing {
  std::vector<std::string> safetensors;
  std::vector<std::string> indexes;         // *.safetensors.index.json
  std::vector<std::string> pickles;         // *.bin, *.pt, *.pth that hold weights
  std::vector<std::string> pickle_indexes;  // *.bin.index.json
  std::vector<std::string> distcp;          // *.distcp: Megatron torch_dist
  std::vector<std::string> folders;
  bool has_config = false;
  bool has_manifest = false;
};
/// Errors: ModelNotFound, PermissionDenied, ReadFailed.
[[nodiscard]] Result<FolderListing> list_folder(const std::filesystem::path& folder);

enum class WeightsForm { Index, OneFile, Listing, PickleOnly, None };

/// Where the weights of a folder are, in the order of docs/reference/formats.md#finding-a-model: an
/// index, else model.safetensors, else any *.safetensors; else the same of pytorch_model.bin.
/// PickleOnly: *.bin, *.pt or *.pth under names that transformers does not load.
struct WeightsPlace {
  WeightsForm form = WeightsForm::None;
  std::string index;               // for Index
  std::vector<std::string> files;  // for OneFile and Listing
};
/// Errors: IndexInvalid when several indexes stand there and none is model.safetensors.index.json.
[[nodiscard]] Result<WeightsPlace> place_weights(const FolderListing& listing,
                                                 const std::filesystem::path& folder);

/// BV7013: weights that are neither safetensors nor archives of torch.save where transformers looks
/// for them.
[[nodiscard]] Error pickle_error(const std::filesystem::path& place,
                                 const std::vector<std::string>& pickles);

}  // namespace bv::io
