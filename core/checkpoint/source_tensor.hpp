#pragma once
// One tensor of an opened checkpoint, named by where it lies, and tensors that are made of several.

#include <optional>
#include <span>
#include <vector>

#include "core/base/units.hpp"
#include "core/io/tensor_store.hpp"
#include "core/move/tensor_maker.hpp"

namespace bv::checkpoint {

/// A tensor of a store; both outlive it.
struct SourceTensor {
  const io::TensorStore* store = nullptr;
  const TensorSpec* spec = nullptr;
};

/// The recipe, whose boxes are over whole `sources`, over the chunks that hold them; its sources
/// are filled in. A source of one chunk is taken as it is. Types below a byte count as bytes.
[[nodiscard]] move::Recipe over_chunks(move::Recipe recipe, std::span<const SourceTensor> sources);
/// Gives mapped pages of the sources back to the system.
void release(std::span<const SourceTensor> sources);

/// All bytes of a tensor of one chunk, row-major: where they lie, or made when they are computed.
/// Memory: those of the whole tensor when they are computed.
class WholeTensor {
 public:
  explicit WholeTensor(const SourceTensor& tensor);
  WholeTensor(WholeTensor&&) noexcept = default;
  WholeTensor& operator=(WholeTensor&&) noexcept = default;
  /// Errors: those of the maker of a computed tensor. There are no bytes then.
  [[nodiscard]] const Status& status() const { return status_; }
  [[nodiscard]] std::span<const std::byte> bytes() const {
    BV_ASSERT(status_.has_value());
    return bytes_;
  }

 private:
  Status status_ = Done{};
  std::vector<std::byte> made_;
  std::span<const std::byte> bytes_;
};

/// The bytes of one tensor in order, row-major, however it is held. One a thread.
class TensorBytes {
 public:
  explicit TensorBytes(const SourceTensor& tensor);
  [[nodiscard]] ByteOffset size() const { return size_; }
  /// Bytes [begin, end), valid until the next call. Those of a tensor of one chunk are not copied,
  /// and stay valid.
  [[nodiscard]] std::span<const std::byte> read(ByteOffset begin, ByteOffset end);
  /// Gives the mapped pages back.
  void release() const;

 private:
  const io::TensorStore* store_;
  std::vector<io::Chunk> chunks_;
  ByteOffset size_;
  std::optional<move::TensorMaker> maker_;  // of a tensor of several chunks
  std::optional<WholeTensor> whole_;        // of a tensor that is computed
};

}  // namespace bv::checkpoint
