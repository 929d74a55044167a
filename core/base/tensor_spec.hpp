#pragma once
// What a header says of a tensor: name, dtype, shape; no bytes.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/base/dtype.hpp"

namespace bv {

using Shape = std::vector<std::int64_t>;

struct TensorSpec {
  std::string name;
  DType dtype = DType::BF16;
  Shape shape;
  bool operator==(const TensorSpec&) const = default;
};

/// Bytes of its elements, the last one rounded up; the largest number when they leave 64 bits.
[[nodiscard]] std::uint64_t tensor_bytes(const TensorSpec& spec);

/// A whole checkpoint's headers, by name in byte order.
using Headers = std::map<std::string, TensorSpec, std::less<>>;

}  // namespace bv
