#pragma once
// Process grid and pipeline stages, in Megatron's order. Source: mapping-semantics sections 6, 7, 10, 11
// (megatron-core parallel_state.py, transformer_block.py, transformer_layer.py).

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/result.hpp"

namespace bv::parallel {

struct Layout {
  std::int64_t tp = 1;
  std::int64_t pp = 1;
  std::int64_t ep = 1;
  std::int64_t etp = 1;
  std::int64_t vpp = 1;
  std::int64_t cp = 1;
  std::optional<std::int64_t> first_stage_layers;   // --decoder-first-pipeline-num-layers
  std::optional<std::int64_t> last_stage_layers;    // --decoder-last-pipeline-num-layers
  bool account_for_embedding = false;
  bool account_for_loss = false;
  std::string pipeline_layout;                      // --pipeline-model-parallel-layout, "" when unused
  std::optional<std::int64_t> vocab_divisor;        // --make-vocab-size-divisible-by; unset: no padding
  bool pp_before_dp = false;                        // order tp-cp-ep-pp-dp
  bool operator==(const Layout&) const = default;
};

/// "tp2pp1ep8etp1", with "vpp2" and "cp2" when above 1.
[[nodiscard]] std::string layout_id(const Layout& layout);
/// Inverse of layout_id; etp defaults to tp. Errors: BadValue.
[[nodiscard]] Result<Layout> layout_from_id(std::string_view text);

struct Coordinates {
  std::int64_t tp = 0, cp = 0, dp = 0, pp = 0, etp = 0, ep = 0, edp = 0;
  bool operator==(const Coordinates&) const = default;
};

[[nodiscard]] std::int64_t minimum_world(const Layout& layout);
/// Errors: IndivisibleDim (E040, E041) naming the legal world sizes nearest to it.
[[nodiscard]] Result<std::vector<Coordinates>> rank_table(const Layout& layout, std::int64_t world_size);
[[nodiscard]] Result<std::int64_t> rank_of(const Layout& layout, std::int64_t world_size, const Coordinates& at);

/// One shard file: the distinct weight-holding coordinates of the smallest world, times virtual stages.
struct ShardKey {
  std::int64_t pp = 0, tp = 0, ep = 0, etp = 0, vp = 0;
  auto operator<=>(const ShardKey&) const = default;
};
/// In rank order of the smallest world, vp innermost.
[[nodiscard]] std::vector<ShardKey> shard_keys(const Layout& layout);
/// "pp0_tp1_ep0_etp0", with "_vp1" for every vp when vpp > 1.
[[nodiscard]] std::string shard_name(const ShardKey& key, const Layout& layout);
[[nodiscard]] std::optional<ShardKey> shard_from_name(std::string_view name);

/// What one (pp, vp) chunk holds; stage order is vp * pp_size + pp.
struct StageContents {
  std::int64_t pp = 0, vp = 0;
  std::int64_t first_layer = 0, layers = 0;
  bool embedding = false;      // also the vision tower
  bool output = false;         // output layer: last stage
  bool final_norm = false;
  std::int64_t first_mtp = 0, mtp_layers = 0;
};
/// Stages in increasing vp * pp_size + pp. Errors: E030-E038 as IndivisibleDim / LayerOnNoStage / Conflict.
[[nodiscard]] Result<std::vector<StageContents>> plan_stages(const Layout& layout, std::int64_t layers,
                                                             std::int64_t mtp_layers);

}  // namespace bv::parallel
