#pragma once
// Ranks, stages and shard files of one parallel layout, as `layout` shows them.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "reports/style.hpp"

namespace bv::reports {

/// Name and number, in Megatron's order: rank, pp, tp, ep, etp, dp, ...
using RankRow = std::vector<std::pair<std::string, std::int64_t>>;

struct StageRow {
  std::int64_t pp = 0, vp = 0, first_layer = 0, layers = 0, first_mtp = 0, mtp_layers = 0;
  bool embedding = false, vision = false, final_norm = false, output = false;
};

/// One shard file. Tensors and bytes are known with a model only.
struct ShardRow {
  std::string file;
  std::int64_t pp = 0, tp = 0, ep = 0, etp = 0, vp = 0;
  std::vector<std::int64_t> ranks;
  std::string ranks_text;  // "0 4 8-11"
  std::int64_t tensors = 0, bytes = 0;
};

/// One tensor of a shard.
struct ShardTensor {
  std::string file, name, global, dtype;
  std::vector<std::int64_t> ranks, shape;
  std::int64_t bytes = 0;
  bool copy = false;
};

/// Where one tensor lies (--tensor).
struct TensorPlaces {
  std::string from, name;
  std::vector<ShardTensor> places;
};

/// What one rank holds (--rank).
struct RankHoldings {
  std::int64_t rank = 0;
  std::int64_t first_expert = 0, experts = 0, experts_all = 0;  // 0 experts_all: a dense model
  std::vector<ShardTensor> tensors;                             // with a model
};

struct LayoutReport {
  std::string layout;
  std::int64_t tp = 1, pp = 1, ep = 1, etp = 1, vpp = 1, cp = 1;
  std::int64_t world = 1, world_least = 1;
  std::optional<std::string> model;
  std::string family, dtype;
  std::int64_t padded_vocabulary = 0;
  std::vector<RankRow> ranks;    // those that are asked for
  std::vector<StageRow> stages;  // with a model
  std::vector<ShardRow> shards;  // those of the ranks
  std::optional<TensorPlaces> tensor;
  std::optional<RankHoldings> rank;
};

[[nodiscard]] std::string layout_text(const LayoutReport& report, const TextStyle& style);
/// Schema bridge-layout/1.
[[nodiscard]] std::string layout_json(const LayoutReport& report);

}  // namespace bv::reports
