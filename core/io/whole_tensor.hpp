#pragma once
// A stored tensor row by row, for who needs all of it at once.

#include <cstddef>
#include <span>
#include <vector>

#include "core/io/checkpoint.hpp"

namespace bv::io {

/// The bytes of the file, which must live; a copy where the file has them in another order.
class WholeTensor {
 public:
  static Result<WholeTensor> read(const Checkpoint& checkpoint, const StoredTensor& tensor);
  [[nodiscard]] std::span<const std::byte> bytes() const { return is_copy_ ? copy_ : stored_; }

 private:
  std::span<const std::byte> stored_;
  std::vector<std::byte> copy_;
  bool is_copy_ = false;
};

}  // namespace bv::io
