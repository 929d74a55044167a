#pragma once
// A folder may hold the weights of more than one save. Which of them was not read is said, never
// decided in silence.

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"
#include "core/io/mapped_file.hpp"
#include "core/io/weights_listing.hpp"

namespace bv::io {

/// Weight files that belong together and were not read: the shards of another index, a numbered
/// set, one file.
struct WeightsSet {
  std::string name;  // the index, "model-*-of-00003.safetensors", or the file
  std::vector<std::string> files;
  bool whole = true;          // every shard that its index or its numbers ask for is there
  bool readable = true;       // every header is
  std::uint64_t tensors = 0;  // of all its headers, likewise:
  std::uint64_t shared = 0;   // names that are among `known`, each once
  std::uint64_t elements = 0;

  /// "consolidated.safetensors", "model-*-of-00003.safetensors (3 files)"
  [[nodiscard]] std::string text() const;
};

/// What was read, or was to be read, of a folder.
struct ReadWeights {
  std::string index;                 // "" without one
  std::vector<std::string> files;    // relative names, in byte order
  std::vector<FileStamp> stamps;     // of those that are there
  std::vector<std::string> tensors;  // names, in byte order, each once
};

/// The other sets of a folder, each file in one of them, judged by their headers alone. Links that
/// leave `boundary`, and other names of files that were read, are left out. What cannot be read is
/// in a set that is not readable.
[[nodiscard]] std::vector<WeightsSet> other_sets(const std::filesystem::path& folder,
                                                 const FolderListing& listing,
                                                 const ReadWeights& read);

/// The set could stand for a model of these tensors: it is whole, and holds every name, or at least
/// half as many elements under names of its own (the same model in the form of another library).
[[nodiscard]] bool is_second_checkpoint(const WeightsSet& set, std::size_t tensors,
                                        std::uint64_t elements);

}  // namespace bv::io
