#pragma once
// Makes the shards of any golden layout out of those of one layout, so that the Megatron form can
// be tried on all of them. The digests of the real bridge check every shard made here.

#include <map>
#include <string>
#include <vector>

#include "oracles/forward/forward.hpp"

namespace bv::oracle::forward::golden {

/// Whole parameters under global names: global layer and expert numbers, no tensor-parallel cut, no
/// padding.
struct Whole {
  ModelFacts facts;
  NamedTensors tensors;
};

/// From the shards of fixtures/golden/megatron/<name>/<layout>.json.
[[nodiscard]] Whole unsharded(const std::string& name, const std::string& layout);

/// Puts the exact HF norm minus 1 for every out_norm of a gated delta net, and gives the largest
/// change: the bridge subtracts in the checkpoint's dtype, which loses bits where the norm is below
/// 0.5. 0: it was exact.
[[nodiscard]] double repair_out_norms(Whole& whole, const NamedTensors& hf);

struct MadeShard {
  RankTensors rank;
  std::map<std::string, std::string>
      digests;  // what the real bridge's shard hashes to, by local name
};
/// The shards that fixtures/golden/megatron/<name>/<layout>.json describes.
[[nodiscard]] std::vector<MadeShard> shards_like(const Whole& whole, const std::string& name,
                                                 const std::string& layout);
[[nodiscard]] std::vector<RankTensors> ranks_of(const std::vector<MadeShard>& shards);
/// tp_size ranks, everything else 1; the vocabulary padded to a multiple of tp_size.
[[nodiscard]] std::vector<RankTensors> tensor_parallel(const Whole& whole, std::int64_t tp_size);
/// XXH3-128 of the float32 bytes, as 32 hex digits.
[[nodiscard]] std::string float_digest(const Tensor& tensor);

}  // namespace bv::oracle::forward::golden
