#pragma once
// Factors multiplied by powers of two, which changes none of their digits: pairs of one layer whose
// scales differ by such a power become pairs of one scale.

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "core/checkpoint/source_tensor.hpp"
#include "core/io/checkpoint.hpp"
#include "core/io/memory_view.hpp"

namespace bv::lora {

/// The e with to == from * 2^e; nullopt when there is none.
[[nodiscard]] std::optional<int> power_between(double from, double to);

/// Elements times 2^exponent, rounded to their type where they have more digits than it.
[[nodiscard]] std::vector<std::byte> times_power(std::span<const std::byte> elements, DType dtype,
                                                 int exponent);

/// The products, in memory while this lives.
class ScaledFactors {
 public:
  struct Scaled {
    io::StoredTensor tensor;
    std::vector<std::byte> bytes;
    io::MemoryView view;  // of `bytes`

    [[nodiscard]] checkpoint::SourceTensor source() const;
  };
  /// Each element of a tensor times 2^exponent, made once; nullptr when an element would lose
  /// digits or become infinite. The tensor must live.
  const Scaled* times(const checkpoint::SourceTensor& tensor, int exponent);

 private:
  std::map<std::pair<const TensorSpec*, int>, std::unique_ptr<Scaled>> made_;
};

}  // namespace bv::lora
