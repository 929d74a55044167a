#pragma once
// Process grid and pipeline stages, in Megatron's order. Source: docs/reference/semantics.md
// (megatron-core parallel_state.py, transformer_block.py, transformer_layer.py).

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
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
  std::optional<std::int64_t> first_stage_layers = {};  // --decoder-first-pipeline-num-layers
  std::optional<std::int64_t> last_stage_layers = {};   // --decoder-last-pipeline-num-layers
  bool account_for_embedding = false;
  bool account_for_loss = false;
  std::string pipeline_layout = {};  // --pipeline-model-parallel-layout, "" when unused
  std::optional<std::int64_t> vocab_divisor =
      {};                     // --make-vocab-size-divisible-by; unset: no padding
  bool pp_before_dp = false;  // order tp-cp-ep-pp-dp
  bool operator==(const Layout&) const = default;
};

/// No size and no world is larger than this; it bounds every table made here.
inline constexpr std::int64_t kMaxSize = std::int64_t{1} << 20;

/// Every size in 1..kMaxSize and the smallest world too.
/// Errors: BadValue naming the option; VPP without PP is left to plan_stages (E037).
[[nodiscard]] Status check_sizes(const Layout& layout);

/// "tp2pp1ep8etp1", with "vpp2" and "cp2" when above 1.
[[nodiscard]] std::string layout_id(const Layout& layout);
/// Inverse of layout_id, parts in any order; etp defaults to tp, the others to 1. Errors: BadValue.
[[nodiscard]] Result<Layout> layout_from_id(std::string_view text);

struct Coordinates {
  std::int64_t tp = 0, cp = 0, dp = 0, pp = 0, etp = 0, ep = 0, edp = 0;
  bool operator==(const Coordinates&) const = default;
};

/// PP * lcm(TP*CP, ETP*EP); 0 for a layout that check_sizes refuses.
[[nodiscard]] std::int64_t minimum_world(const Layout& layout);
/// Coordinates of ranks 0..world_size-1.
/// Errors: BadValue; IndivisibleDim (E040, E041) naming the legal world sizes nearest to it;
/// Conflict (E042).
[[nodiscard]] Result<std::vector<Coordinates>> rank_table(const Layout& layout,
                                                          std::int64_t world_size);
/// Inverse of rank_table. Errors: as rank_table; BadValue when dense and expert coordinates name
/// two ranks.
[[nodiscard]] Result<std::int64_t> rank_of(const Layout& layout, std::int64_t world_size,
                                           const Coordinates& at);

/// One shard file: the distinct weight-holding coordinates of the smallest world, times virtual
/// stages.
struct ShardKey {
  std::int64_t pp = 0, tp = 0, ep = 0, etp = 0, vp = 0;
  auto operator<=>(const ShardKey&) const = default;
};
/// VPP, or stages / PP when an explicit layout string decides it.
[[nodiscard]] std::int64_t virtual_stages(const Layout& layout);
/// In rank order of the smallest world, vp innermost; empty for a layout that check_sizes or E042
/// refuses. CP adds replicas only, so it changes nothing here.
[[nodiscard]] std::vector<ShardKey> shard_keys(const Layout& layout);
/// "pp0_tp1_ep0_etp0", with "_vp1" for every vp when virtual_stages > 1.
[[nodiscard]] std::string shard_name(const ShardKey& key, const Layout& layout);
[[nodiscard]] std::optional<ShardKey> shard_from_name(std::string_view name);

/// One divisibility: size divides dividend, or (either_way) dividend divides size.
struct Divided {
  std::int64_t dividend = 0;
  bool either_way = false;
};
/// The sizes 1..bound (at most kMaxSize) that satisfy every condition, for "legal TP for this
/// model: 1 2 4 8".
[[nodiscard]] std::vector<std::int64_t> legal_values(std::span<const Divided> conditions,
                                                     std::int64_t bound);
/// "1 2 4 8", or "1 2 4 8 16 ... 256" when there are many; "none" when empty.
[[nodiscard]] std::string legal_text(std::span<const std::int64_t> values);
/// "2 or 4": the legal values next below and above `wrong`.
[[nodiscard]] std::string nearest_text(std::span<const std::int64_t> values, std::int64_t wrong);

/// What one (pp, vp) chunk holds; stage order is vp * pp_size + pp.
struct StageContents {
  std::int64_t pp = 0, vp = 0;
  std::int64_t first_layer = 0, layers = 0;
  bool embedding = false;   // first stage; also the vision tower
  bool output = false;      // output layer: last stage
  bool final_norm = false;  // last stage; with MTP the stage of the last decoder layer
  std::int64_t first_mtp = 0,
               mtp_layers = 0;  // a stage with MTP but not `embedding` holds a second embedding
  bool operator==(const StageContents&) const = default;
};
/// Stages in increasing vp * pp_size + pp. `mtp_layers` 0 counts as "not set".
/// Errors: E030-E037 as BadValue / IndivisibleDim / LayerOnNoStage / Conflict, with the nearest
/// legal values (E038 cannot come up while there is a layer to place).
[[nodiscard]] Result<std::vector<StageContents>> plan_stages(const Layout& layout,
                                                             std::int64_t layers,
                                                             std::int64_t mtp_layers);

}  // namespace bv::parallel
