#pragma once
// A reader of safetensors for tests only: whole tensors as bytes, by name.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace bv::oracle {

struct StoredTensor {
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::string bytes;
};

using StoredTensors = std::map<std::string, StoredTensor, std::less<>>;

/// One file.
StoredTensors read_file(const std::filesystem::path& path);
/// Every model*.safetensors of a HF checkpoint.
StoredTensors read_checkpoint(const std::filesystem::path& folder);

/// Little-endian bytes of `tags` picked out of the sources (which all have one dtype), cast to
/// `dtype` ("F32" or "BF16"); -1 gives zero. With `minus_one` 1 is subtracted first, in the dtype
/// of the source.
std::string gathered(const std::vector<std::int64_t>& tags,
                     const std::vector<const StoredTensor*>& sources, const std::string& dtype,
                     bool minus_one);

}  // namespace bv::oracle
