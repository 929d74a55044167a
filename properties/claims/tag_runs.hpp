#pragma once
// How a report shows where elements came from: element tags as runs of their tensors. A tag is
// kTensorTag x tensor + element (subject.hpp); below 0 it is padding or kUnwritten.

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/tensor_spec.hpp"
#include "core/verdict/verdict.hpp"
#include "oracles/oracle.hpp"

namespace bv::claims {

inline constexpr std::int64_t kUnwritten = -7;

/// The tensor and index that a tag stands for; "zero" or "nothing" without an index.
[[nodiscard]] ElementRef element_of(std::int64_t tag, const std::vector<std::string>& names,
                                    const std::vector<Shape>& shapes);

/// A sequence of tags as runs along one dimension of the source, at most six of them:
/// "q_proj[0:8] k_proj[16:24] fc[0:10,20] ...".
[[nodiscard]] std::string runs_text(const std::vector<std::int64_t>& sequence,
                                    const std::vector<std::string>& names,
                                    const std::vector<Shape>& shapes);

/// What is shown of two shards of `shape` that differ at element `wrong`: the first element of each
/// row; or, when those agree, the row that holds `wrong`.
struct Sequences {
  std::vector<std::int64_t> found;
  std::vector<std::int64_t> wanted;
};
[[nodiscard]] Sequences sequences_at(const std::vector<std::int64_t>& found,
                                     const std::vector<std::int64_t>& wanted, const Shape& shape,
                                     std::size_t wrong);

/// Index `index` of dimension 0; of a vector as a vector of one element.
[[nodiscard]] oracle::TaggedTensor slice_of(const oracle::TaggedTensor& tensor, std::int64_t index);

}  // namespace bv::claims
