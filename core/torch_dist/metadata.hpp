#pragma once
// `.metadata` of a distributed checkpoint of PyTorch, as Megatron writes it (torch_dist): which
// tensors there are, and in which slices of which files their chunks lie.

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/base/result.hpp"
#include "core/base/tensor_spec.hpp"
#include "core/io/tensor_store.hpp"

namespace bv::torch_dist {

/// Bytes [offset, offset + length) of a file of the folder: an archive of its own.
struct Slice {
  std::string file;  // relative; nobody has looked at it
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

struct StoredChunk {
  io::ChunkPlace place;
  Slice slice;
};

struct StoredTensor {
  TensorSpec spec;  // of the global tensor
  std::vector<StoredChunk> chunks;
};

struct Metadata {
  std::map<std::string, StoredTensor, std::less<>> tensors;
  std::map<std::string, Slice, std::less<>> objects;  // what is pickled and no tensor
};

/// Chunks tile their tensors (ChunksInvalid), and each has a slice. Nothing else is looked at.
/// Errors: PickleInvalid, PickleGlobal; DistMetadataInvalid for a pickle that is no metadata, or
/// that has a chunk without a slice; DtypeUnknown.
[[nodiscard]] Result<Metadata> read_metadata(std::span<const std::byte> pickle,
                                             const std::string& file);

}  // namespace bv::torch_dist
