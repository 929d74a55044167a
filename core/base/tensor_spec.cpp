#include "core/base/tensor_spec.hpp"

#include <limits>

#include "core/base/arith.hpp"

namespace bv {

std::uint64_t tensor_bytes(const TensorSpec& spec) {
  const auto count = element_count(spec.shape);
  const auto width = static_cast<std::uint64_t>(bits(spec.dtype));
  const auto whole = static_cast<std::uint64_t>(count.value_or(0));
  if (!count || whole > (std::numeric_limits<std::uint64_t>::max() - 7) / width) {
    return std::numeric_limits<std::uint64_t>::max();
  }
  return (whole * width + 7) / 8;
}

}  // namespace bv
