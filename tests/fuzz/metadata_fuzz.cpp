// libFuzzer entry for .metadata of a torch_dist checkpoint (tests/fuzz/run.sh).
// Properties: every pickle is answered, without running anything; what is accepted has chunks that
// tile their tensors, each in a slice.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/base/assert.hpp"
#include "core/torch_dist/metadata.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto metadata = bv::torch_dist::read_metadata(std::as_bytes(std::span(data, size)), "fuzz");
  if (!metadata) {
    BV_ASSERT(!metadata.error().message.empty() && !metadata.error().help.empty());
    return 0;
  }
  for (const auto& [key, tensor] : metadata->tensors) {
    BV_ASSERT(key == tensor.spec.name && !tensor.chunks.empty());
    std::vector<bv::io::ChunkPlace> places;
    for (const bv::torch_dist::StoredChunk& chunk : tensor.chunks) {
      places.push_back(chunk.place);
    }
    BV_ASSERT(bv::io::check_chunk_places(tensor.spec, places, "fuzz").has_value());
  }
  return 0;
}
