#pragma once
// Are two stored tensors equal, bit for bit? Memory stays bounded whatever their size.

#include <cstdint>
#include <optional>
#include <vector>

#include "core/exec/progress.hpp"
#include "core/exec/stream.hpp"

namespace bv::exec {

/// The first element, in row-major order, whose bits differ.
struct TensorDifference {
  std::int64_t element = 0;  // flat
  Shape index;
};

/// Equal: nullopt. NaNs are equal when their bits are, and -0 differs from 0.
/// Errors: ShapeMismatch when shapes differ, DtypeChanged when element types do: their elements
/// have no pairs; Conflict when stopped.
[[nodiscard]] Result<std::optional<TensorDifference>> compare_tensors(
    const SourceTensor& a, const SourceTensor& b, ProgressSink* progress = nullptr);

struct TensorPair {
  SourceTensor a;
  SourceTensor b;
};
/// The answer for each pair, in their order, by `jobs` threads. Errors: those of compare_tensors
/// for the first pair that has one; IndexDisagrees when a file changed meanwhile.
[[nodiscard]] Result<std::vector<std::optional<TensorDifference>>> compare_all(
    const std::vector<TensorPair>& pairs, int jobs, ProgressSink* progress = nullptr);

}  // namespace bv::exec
