#pragma once
// What must hold of shards before an HF directory is made of them: replicas are equal, padding is
// zero.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/checkpoint/megatron_shards.hpp"
#include "core/io/digest.hpp"

namespace bv::convert {

/// Where a line puts one HF element a second time.
struct RepeatedElement {
  std::string hf;
  std::string part;                     // of the line: "k"
  std::int64_t row = 0, other_row = 0;  // of the parameter
};

/// Two copies that differ: those of a parameter on two ranks, or (`repeated`) those of an element
/// that lie in `first_owner` and in `other_owner`, which may be one file.
struct ReplicaFault {
  std::string tensor;
  std::string first_owner;
  std::string other_owner;
  std::int64_t element = 0;  // in `other_owner`
  std::optional<RepeatedElement> repeated = {};
};

/// Padding rows of a vocabulary that hold values: they have no place in the HF tensor.
struct DroppedRows {
  std::string tensor;
  std::int64_t rows = 0;
  double norm = 0;  // Euclidean, of all their elements
};

/// Parameters that stand on several ranks, and elements that a line repeats inside one parameter
/// ("*d", E074): every pair that differs. Replicas of one fingerprint (`found`) are equal.
[[nodiscard]] std::vector<ReplicaFault> compare_replicas(const plan::Plan& plan,
                                                         const checkpoint::Shards& shards,
                                                         const io::Digests& found);

/// Rows of padding that are not zero: the HF tensor has no place for them (W073).
[[nodiscard]] std::vector<DroppedRows> find_dropped_rows(const plan::Plan& plan,
                                                         const checkpoint::Shards& shards);

}  // namespace bv::convert
