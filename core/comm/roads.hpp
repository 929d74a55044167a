#pragma once
// The two directions of a bridge as a running job moves the bytes: no rank reads or makes more than
// its part, and what others need goes by collectives. The result on each rank is that of the direct
// road (core/convert), byte for byte.

#include <functional>
#include <span>
#include <string>

#include "core/comm/grid.hpp"
#include "core/plan/dtype_policy.hpp"
#include "core/plan/plan.hpp"

namespace bv::comm {

/// Bytes of a whole HF tensor; asked for on the ranks that read the checkpoint.
using ReadHf = std::function<Result<std::span<const std::byte>>(const std::string& hf)>;
/// Takes a parameter of this rank.
using TakeParameter =
    std::function<Status(const plan::ShardFile&, const plan::Target&, TypedBytes)>;

/// HF to Megatron: the first rank of each TP group (of each ETP group, for experts) reads, cuts and
/// scatters. `take` gets every parameter of this rank. The plan must be of this world's layout.
/// Errors: those of Link::receive, of parallel::rank_table, of `read` and `take`.
[[nodiscard]] Status scatter_parameters(Link& link, const plan::Plan& plan, const Headers& headers,
                                        const plan::DtypePolicy& policy, const ReadHf& read,
                                        const TakeParameter& take);

/// The bytes of a parameter that this rank holds.
using ReadParameter =
    std::function<Result<TypedBytes>(const plan::ShardFile&, const plan::Target&)>;
/// Takes a whole HF tensor.
using TakeHf = std::function<Status(const std::string& hf, TypedBytes)>;

/// Megatron to HF: shards are gathered over TP, experts over ETP and EP as well, and the stage that
/// holds them broadcasts over PP. Every rank gets every HF tensor, in the order of the mappings,
/// with the types of `headers`. Errors: those of Link::receive; ReplicasDiffer naming the rank that
/// holds another copy.
[[nodiscard]] Status gather_tensors(Link& link, const plan::Plan& plan, const Headers& headers,
                                    const plan::DtypePolicy& policy, const ReadParameter& read,
                                    const TakeHf& take);

}  // namespace bv::comm
