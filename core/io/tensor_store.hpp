#pragma once
// The tensors of one checkpoint, whatever container holds them.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/element_maker.hpp"
#include "core/base/result.hpp"
#include "core/base/tensor_spec.hpp"

namespace bv::io {

/// Elements [origin, origin + extent) of a tensor, in each dimension: dense, row-major. The bytes
/// are valid while the store lives.
///
/// Example: columns 4 and 5 of a tensor [3, 6] are {origin {0, 4}, extent {3, 2}} and six elements.
struct Chunk {
  Shape origin;
  Shape extent;
  std::span<const std::byte> bytes;
  /// Makes the elements of a tensor that is stored in another form, which is then one chunk:
  /// `bytes` are what they are made of, and are for TensorStore::release alone.
  const ElementMaker* made = nullptr;
};

/// Const members may be called by many threads at once.
class TensorStore {
 public:
  TensorStore() = default;
  TensorStore(const TensorStore&) = delete;
  TensorStore& operator=(const TensorStore&) = delete;
  virtual ~TensorStore() = default;

  /// Valid while the store lives; nullptr when there is no tensor of that name.
  [[nodiscard]] virtual const TensorSpec* find(std::string_view tensor) const = 0;
  [[nodiscard]] virtual Headers headers() const = 0;
  /// Every tensor in the order of names, without a copy of them all where the store has them so.
  virtual void for_each(const std::function<void(const TensorSpec&)>& visit) const {
    for (const auto& [name, spec] : headers()) {
      visit(*find(name));
    }
  }
  /// `tensor` is one of this store. The chunks tile it: every element is in exactly one (held by
  /// check_chunks when the store was opened). At least one, also for a tensor without elements.
  [[nodiscard]] virtual std::vector<Chunk> chunks(const TensorSpec& tensor) const = 0;
  [[nodiscard]] virtual const std::vector<std::filesystem::path>& files() const = 0;
  [[nodiscard]] virtual std::uint64_t total_bytes() const = 0;
  /// Errors: IndexDisagrees when a file changed since it was opened.
  [[nodiscard]] virtual Status unchanged() const = 0;
  /// Tells the kernel that it may drop these pages (keeps resident memory bounded).
  virtual void release(std::span<const std::byte> range) const = 0;

 protected:
  TensorStore(TensorStore&&) noexcept = default;
  TensorStore& operator=(TensorStore&&) noexcept = default;
};

/// Where a chunk lies in its tensor, before its bytes are known.
struct ChunkPlace {
  Shape origin;
  Shape extent;
};

/// Whether the places tile the tensor: right number of dimensions, inside, no overlap, no gap. The
/// cost is that of sorting them. Errors: ChunksInvalid naming the tensor and two chunks, or the
/// elements that no chunk holds.
[[nodiscard]] Status check_chunk_places(const TensorSpec& tensor,
                                        std::span<const ChunkPlace> places,
                                        const std::string& file);
/// The same of chunks, and that each has as many bytes as its extent says.
[[nodiscard]] Status check_chunks(const TensorSpec& tensor, std::span<const Chunk> chunks,
                                  const std::string& file);

}  // namespace bv::io
