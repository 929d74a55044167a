#pragma once
// A legacy Megatron checkpoint (mp_rank_XX/model_optim_rng.pt) as shards.

#include <string>
#include <vector>

#include "ci/cli/session/session.hpp"
#include "core/compare/diff.hpp"
#include "core/torch_dist/file_store.hpp"

namespace bv::cli {

struct LegacyShards {
  parallel::Layout layout;  // by the names of the folders, and the arguments of the run in them
  compare::Shards shards;
  std::vector<std::string> notes;
};

/// Opens every file and compares its checksums; gives `model` the spelling of their names. Errors:
/// those of FileStore; CacheIncomplete when the numbers of the folders make no grid, ShardContents
/// when the files are of several checkpoints; BadValue for numbers that only an option can tell
/// apart, or that contradict one.
[[nodiscard]] Result<LegacyShards> open_legacy(const std::vector<torch_dist::LegacyFile>& files,
                                               const Options& options, model::Model& model);

}  // namespace bv::cli
