#pragma once
// The shard files of a Megatron folder, and what must hold of them before anything is made of them.

#include <filesystem>
#include <utility>
#include <vector>

#include "core/exec/convert.hpp"
#include "core/io/checkpoint.hpp"

namespace bv::exec {

/// Opened, in the plan's order.
using Shards = std::vector<io::Checkpoint>;

/// Every file holds the tensors of the plan with their shapes, and no others.
/// Errors: those of Checkpoint::open; MegatronParamUnfilled when a tensor is absent, so that the HF
/// tensor it belongs to cannot be put together (E067); ShapeMismatch; HfTensorUnused.
[[nodiscard]] Result<Shards> open_shards(const std::filesystem::path& folder, const Plan& plan);

[[nodiscard]] const io::StoredTensor& stored_at(const Shards& shards, const Plan& plan,
                                                const Plan::Owner& owner);
[[nodiscard]] const Target& target_at(const Plan& plan, const Plan::Owner& owner);

/// One owner for each distinct content: replicas (equal t where it cuts, equal expert) keep the
/// first.
struct Owners {
  std::vector<Plan::Owner> distinct;
  std::vector<std::pair<Plan::Owner, Plan::Owner>> replicas;  // first, other
};
[[nodiscard]] Owners split_owners(const Plan& plan, std::size_t mapping);

/// Parameters that stand on several ranks, and elements that a line repeats inside one parameter
/// ("*d", E074): every pair that differs.
[[nodiscard]] std::vector<ReplicaFault> compare_replicas(const Plan& plan, const Shards& shards);

/// Rows of padding that are not zero: the HF tensor has no place for them (W073).
[[nodiscard]] std::vector<DroppedRows> find_dropped_rows(const Plan& plan, const Shards& shards);

}  // namespace bv::exec
