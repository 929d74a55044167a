// Ranks and their coordinates. Source: docs/reference/semantics.md#ranks (megatron-core
// parallel_state.py, RankGenerator, orders tp-cp-ep-dp-pp and tp-cp-ep-pp-dp).

#include <fmt/format.h>

#include <array>
#include <numeric>
#include <utility>

#include "core/base/arith.hpp"
#include "core/parallel/parallel.hpp"

namespace bv::parallel {
namespace {

/// The sizes of both rank generators: world = tp*cp*dp*pp = etp*ep*edp*pp.
struct Grid {
  std::int64_t world = 0, dp = 0, edp = 0;
};

/// pp * lcm(tp*cp, etp*ep), nullopt when it leaves kMaxSize. All sizes are in 1..kMaxSize.
std::optional<std::int64_t> smallest_world(const Layout& layout) {
  const std::int64_t dense = layout.tp * layout.cp;
  const std::int64_t expert = layout.etp * layout.ep;
  const auto common = checked_mul(dense / std::gcd(dense, expert), expert);
  const auto world = common ? checked_mul(*common, layout.pp) : std::nullopt;
  return world && *world <= kMaxSize ? world : std::nullopt;
}

Error world_fault(std::int64_t world_size, std::int64_t group, std::string product,
                  std::int64_t step) {
  const std::int64_t below = world_size / step * step;
  std::string legal =
      below > 0 ? fmt::format("{} or {}", below, below + step) : fmt::format("{}", step);
  return fail(Code::IndivisibleDim,
              fmt::format("world size {} is not a multiple of {} = {}", world_size, product, group))
      .pair(fmt::format("world size {}", world_size), fmt::format("a multiple of {}", group))
      .advise(fmt::format("nearest legal world size: {}", legal));
}

Result<Grid> grid_of(const Layout& layout, std::int64_t world_size) {
  BV_CHECK(check_sizes(layout));
  if (world_size < 1 || world_size > kMaxSize) {
    return fail(Code::BadValue,
                fmt::format("world size {} is not a number from 1 to {}", world_size, kMaxSize))
        .pair(fmt::format("{}", world_size), fmt::format("1 to {}", kMaxSize))
        .advise(fmt::format("smallest world of this layout: {}", minimum_world(layout)));
  }
  const std::int64_t dense = layout.tp * layout.cp * layout.pp;
  const std::int64_t expert = layout.etp * layout.ep * layout.pp;
  const std::int64_t step = minimum_world(layout);
  if (world_size % dense != 0) {
    return world_fault(world_size, dense,
                       fmt::format("TP {} x CP {} x PP {}", layout.tp, layout.cp, layout.pp), step);
  }
  if (world_size % expert != 0) {
    return world_fault(world_size, expert,
                       fmt::format("ETP {} x EP {} x PP {}", layout.etp, layout.ep, layout.pp),
                       step);
  }
  const Grid grid{world_size, world_size / dense, world_size / expert};
  if (layout.pp_before_dp && layout.pp > 1 && grid.dp != grid.edp) {
    return fail(Code::Conflict, fmt::format("order tp-cp-ep-pp-dp with PP={} needs equal "
                                            "data-parallel sizes, but DP is {} and "
                                            "expert DP is {}",
                                            layout.pp, grid.dp, grid.edp))
        .pair(fmt::format("TP x CP = {}, ETP x EP = {}", layout.tp * layout.cp,
                          layout.etp * layout.ep),
              "the same product for both")
        .advise("use the default order tp-cp-ep-dp-pp, or make ETP x EP equal to TP x CP");
  }
  return grid;
}

Coordinates coordinates_of(const Layout& layout, const Grid& grid, std::int64_t rank) {
  Coordinates at;
  at.tp = rank % layout.tp;
  at.cp = rank / layout.tp % layout.cp;
  at.etp = rank % layout.etp;
  at.ep = rank / layout.etp % layout.ep;
  const std::int64_t dense = rank / (layout.tp * layout.cp);
  const std::int64_t expert = rank / (layout.etp * layout.ep);
  if (layout.pp_before_dp) {
    at.pp = dense % layout.pp;
    at.dp = dense / layout.pp;
    at.edp = expert / layout.pp;
  } else {
    at.dp = dense % grid.dp;
    at.pp = dense / grid.dp;
    at.edp = expert % grid.edp;
  }
  return at;
}

}  // namespace

Status check_sizes(const Layout& layout) {
  const std::array<std::pair<std::string_view, std::int64_t>, 6> sizes = {{{"--tp", layout.tp},
                                                                           {"--pp", layout.pp},
                                                                           {"--ep", layout.ep},
                                                                           {"--etp", layout.etp},
                                                                           {"--vpp", layout.vpp},
                                                                           {"--cp", layout.cp}}};
  for (const auto& [option, size] : sizes) {
    if (size < 1) {
      return fail(Code::BadValue, fmt::format("{} {} is not a positive number", option, size))
          .pair(fmt::format("{}", size), fmt::format("1 to {}", kMaxSize))
          .advise(fmt::format("write {} 1 for none", option));
    }
    if (size > kMaxSize) {
      return fail(Code::BadValue, fmt::format("{} {} is larger than {}", option, size, kMaxSize))
          .pair(fmt::format("{}", size), fmt::format("1 to {}", kMaxSize))
          .advise(fmt::format("use a smaller {}", option));
    }
  }
  if (layout.vocab_divisor && (*layout.vocab_divisor < 1 || *layout.vocab_divisor > kMaxSize)) {
    return fail(Code::BadValue, fmt::format("--make-vocab-size-divisible-by {} is not a number "
                                            "from 1 to {}",
                                            *layout.vocab_divisor, kMaxSize))
        .pair(fmt::format("{}", *layout.vocab_divisor), fmt::format("1 to {}", kMaxSize))
        .advise("Megatron's default is --make-vocab-size-divisible-by 128");
  }
  const std::optional<std::int64_t> world = smallest_world(layout);
  if (!world || *world > kMaxSize / virtual_stages(layout)) {
    return fail(Code::BadValue, fmt::format("layout {} needs more than {} ranks and chunks",
                                            layout_id(layout), kMaxSize))
        .pair(layout_id(layout),
              fmt::format("PP x lcm(TP x CP, ETP x EP) x VPP of at most {}", kMaxSize))
        .advise("use smaller parallel sizes");
  }
  return Done{};
}

std::int64_t minimum_world(const Layout& layout) {
  return check_sizes(layout) ? smallest_world(layout).value_or(0) : 0;
}

Result<std::vector<Coordinates>> rank_table(const Layout& layout, std::int64_t world_size) {
  BV_TRY(grid, grid_of(layout, world_size));
  std::vector<Coordinates> table;
  table.reserve(static_cast<std::size_t>(world_size));
  for (std::int64_t rank = 0; rank < world_size; ++rank) {
    table.push_back(coordinates_of(layout, grid, rank));
  }
  return table;
}

Result<std::int64_t> rank_of(const Layout& layout, std::int64_t world_size, const Coordinates& at) {
  BV_TRY(grid, grid_of(layout, world_size));
  const std::array<std::array<std::int64_t, 2>, 7> ranges = {{{at.tp, layout.tp},
                                                              {at.cp, layout.cp},
                                                              {at.dp, grid.dp},
                                                              {at.pp, layout.pp},
                                                              {at.etp, layout.etp},
                                                              {at.ep, layout.ep},
                                                              {at.edp, grid.edp}}};
  for (const auto& [value, size] : ranges) {
    if (value < 0 || value >= size) {
      return fail(Code::BadValue,
                  fmt::format("coordinate {} is outside its group of {}", value, size))
          .pair(fmt::format("{}", value), fmt::format("0 to {}", size - 1))
          .advise("take coordinates from the rank table of this layout and world");
    }
  }
  const std::int64_t outer =
      layout.pp_before_dp ? at.pp + layout.pp * at.dp : at.dp + grid.dp * at.pp;
  const std::int64_t rank = at.tp + layout.tp * (at.cp + layout.cp * outer);
  if (coordinates_of(layout, grid, rank) != at) {
    return fail(Code::BadValue,
                fmt::format("dense coordinates name rank {}, which has other expert coordinates",
                            rank))
        .pair(fmt::format("etp {} ep {} edp {}", at.etp, at.ep, at.edp),
              fmt::format("those of rank {}: etp {} ep {}", rank, rank % layout.etp,
                          rank / layout.etp % layout.ep))
        .advise("take coordinates from the rank table of this layout and world");
  }
  return rank;
}

/// In one pipeline stage a rank shows only (rank mod TP, rank mod ETP*EP), so the first lcm of the
/// two ranks hold each shard exactly once, whatever CP is.
std::vector<ShardKey> shard_keys(const Layout& layout) {
  std::vector<ShardKey> keys;
  if (!grid_of(layout, minimum_world(layout))) {
    return keys;
  }
  const std::int64_t in_stage = std::lcm(layout.tp, layout.etp * layout.ep);
  const std::int64_t chunks = virtual_stages(layout);
  for (std::int64_t pp = 0; pp < layout.pp; ++pp) {
    for (std::int64_t rank = 0; rank < in_stage; ++rank) {
      for (std::int64_t vp = 0; vp < chunks; ++vp) {
        keys.push_back(
            {pp, rank % layout.tp, rank / layout.etp % layout.ep, rank % layout.etp, vp});
      }
    }
  }
  return keys;
}

}  // namespace bv::parallel
