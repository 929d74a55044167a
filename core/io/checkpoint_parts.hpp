#pragma once
// The parts of an opened checkpoint (every header read, every file mapped), and how a path becomes
// one.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/base/result.hpp"
#include "core/io/checkpoint.hpp"
#include "core/io/mapped_file.hpp"
#include "core/io/weight_sets.hpp"

namespace bv::io {

struct ShardFile {
  FileStamp stamp;
  Mapping mapping;
  std::uint64_t data_begin = 0;
  std::map<std::string, std::string> metadata;
};

struct CheckpointParts {
  std::vector<std::filesystem::path> files;
  std::vector<std::string> names;  // of files[i], relative to the folder
  std::vector<ShardFile> shards;   // of files[i]
  std::map<std::string, StoredTensor, std::less<>> tensors;
  std::vector<FormatFinding> findings;
  std::vector<MissingShard> missing;
  std::vector<std::string> named;  // tensors that the index names, sorted; empty without one
  std::vector<WeightsSet> others;  // of the same folder, not read
  std::uint64_t total_bytes = 0;
};

inline constexpr std::uint64_t kIndexBytesMax = 256ULL << 20U;

/// Header of an open file, read and not mapped: a file that shrinks meanwhile is an error, not a
/// signal. Errors: those of parse_safetensors_header, ReadFailed.
[[nodiscard]] Result<SafetensorsHeader> read_header(const OpenedFile& file,
                                                    const std::filesystem::path& path);

/// Errors: those of Checkpoint::open but CacheIncomplete: missing shards are listed in the result.
[[nodiscard]] Result<CheckpointParts> load_parts(const std::filesystem::path& path);

/// The error of a checkpoint with missing shards (docs/reference/messages.md#bad-inputs).
[[nodiscard]] Error missing_shards_error(const CheckpointParts& parts,
                                         const std::filesystem::path& path);

}  // namespace bv::io
