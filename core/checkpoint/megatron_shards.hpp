#pragma once
// The shard files of a Megatron folder, and what must hold of them before anything is made of them.

#include <memory>
#include <utility>
#include <vector>

#include "core/checkpoint/megatron_folder.hpp"
#include "core/checkpoint/source_tensor.hpp"
#include "core/io/tensor_store.hpp"
#include "core/plan/plan.hpp"

namespace bv::checkpoint {

/// What each rank holds, in the plan's order.
using Shards = std::vector<std::unique_ptr<const io::TensorStore>>;

/// The files, which need not hold what the plan says. Errors: those of Checkpoint::open.
[[nodiscard]] Result<Shards> open_shards(const MegatronFolder& folder, const plan::Plan& plan,
                                         bool strict = false);

/// `shard` holds the tensors of `file` of the plan with their shapes and dtypes, and no others.
/// Errors: MegatronParamUnfilled when a tensor is absent, so that the HF tensor it belongs to
/// cannot be put together; ShapeMismatch; DtypeChanged; ShardContents.
[[nodiscard]] Status check_shard(const io::TensorStore& shard, const plan::ShardFile& file,
                                 const MegatronFolder& folder, const plan::Plan& plan);

/// Names in which a shard differs from the file of the plan.
struct OtherNames {
  std::vector<const plan::Target*> absent;  // of the plan, in its order
  std::vector<std::string> beyond;          // of the shard, printable
};
[[nodiscard]] OtherNames other_names(const io::TensorStore& shard, const plan::ShardFile& file);

/// The tensor of an owner; check_shard has seen that it is there.
[[nodiscard]] SourceTensor stored_at(const Shards& shards, const plan::Plan& plan,
                                     const plan::Plan::Owner& owner);
[[nodiscard]] const plan::Target& target_at(const plan::Plan& plan, const plan::Plan::Owner& owner);

/// One owner for each distinct content: replicas (equal t where it cuts, equal expert) keep the
/// first.
struct Owners {
  std::vector<plan::Plan::Owner> distinct;
  std::vector<std::pair<plan::Plan::Owner, plan::Plan::Owner>> replicas;  // first, other
};
[[nodiscard]] Owners split_owners(const plan::Plan& plan, std::size_t mapping);

}  // namespace bv::checkpoint
