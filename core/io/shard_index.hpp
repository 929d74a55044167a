#pragma once
// model.safetensors.index.json, and the file names in it, which nobody trusts
// (docs/reference/formats.md#index and #reading-shards).

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"
#include "core/io/checkpoint.hpp"

namespace bv::io {

struct IndexedTensor {
  std::string name;
  std::size_t shard = 0;  // index into ShardIndex::shards
};

struct ShardIndex {
  std::vector<std::string> shards;     // relative paths, in byte order, each once
  std::vector<IndexedTensor> tensors;  // by name, each once
  std::optional<double> total_size;    // informative; some writers leave a fraction
};

/// Errors: IndexInvalid with line and column, DuplicateKey, UnsafePath for a shard name that may
/// not be followed.
[[nodiscard]] Result<ShardIndex> parse_shard_index(std::string_view text, const std::string& file);

/// A relative path of plain components that ends in .safetensors (in .bin when `named_in` is an
/// index of torch files, *.bin.index.json); "./" and doubled slashes are removed. Errors:
/// UnsafePath for NUL, backslash, an absolute path, a drive letter, "..", another suffix.
[[nodiscard]] Result<std::string> checked_shard_name(std::string_view name,
                                                     const std::string& named_in);

/// The folder that links may not leave: the folder itself, or for a snapshot of the HF cache its
/// models--X folder. Errors: ReadFailed.
[[nodiscard]] Result<std::filesystem::path> link_boundary(const std::filesystem::path& folder);

/// Follows links of folder/name. nullopt: nothing is there (a link to nothing included).
/// Errors: UnsafePath when the end of the links lies outside `boundary`, ReadFailed for a link
/// loop.
[[nodiscard]] Result<std::optional<std::filesystem::path>> resolve_inside(
    const std::filesystem::path& folder, const std::string& name,
    const std::filesystem::path& boundary);

/// The repository of a snapshot folder in an HF cache ("Qwen/Qwen3.5-9B"); nullopt elsewhere.
[[nodiscard]] std::optional<std::string> cached_repository(const std::filesystem::path& folder);

/// Number and total of "model-00002-of-00003.safetensors".
struct ShardNumber {
  std::string stem;  // "model"
  std::uint64_t number = 0;
  std::uint64_t total = 0;
  std::size_t width = 0;  // digits of the number
  std::string suffix;     // ".safetensors" or ".bin"
};
/// nullopt for a name without them.
[[nodiscard]] std::optional<ShardNumber> shard_number(std::string_view name);

/// "model-*-of-00003.safetensors": every shard of its set.
[[nodiscard]] std::string numbered_set(const ShardNumber& number);

/// Shards that a listing lacks by its numbers: model-00002-of-00003.safetensors beside 1 and 3.
[[nodiscard]] std::vector<std::string> missing_by_number(const std::vector<std::string>& names);

}  // namespace bv::io
