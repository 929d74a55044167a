#include "core/foreign/rotary.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/foreign/usual.hpp"

namespace bv::foreign {
namespace {

using Order = RotaryRows::Order;

const char* rows_of(bool neighbours) {
  return neighbours ? "neighbouring rows" : "row i with row i + r/2";
}

}  // namespace

RotaryRows rotary_rows(const ForeignRules& rules, const ForeignKinds& kinds,
                       const family::Family& family) {
  const RowFacts& facts = rules.row_facts;
  RotaryRows out;
  out.part = facts.rotary_part;
  const auto megatron =
      facts.megatron_neighbours ? facts.megatron_neighbours : facts.rotary_interleaved;
  if (!megatron || facts.latent_attention) {
    return out;
  }
  const auto& pairs = kinds.neighbours_rotated;
  auto hf = facts.hf_neighbours;
  if (!hf && !is_usual(family)) {
    hf = std::find(pairs.begin(), pairs.end(), family::name(family)) != pairs.end();
  }
  const std::string set = facts.rotary_interleaved
                              ? fmt::format("facts.rotary_interleaved is {}", *megatron)
                              : std::string("facts.rotary");
  out.because = fmt::format("{}: Megatron rotates {} of a head, ", set, rows_of(*megatron));
  if (!hf) {
    out.order = *megatron ? Order::Unknown : Order::AsStored;
    out.because += "and what HF's class rotates is not known";
    return out;
  }
  out.order = *hf == *megatron ? Order::AsStored
              : *megatron      ? Order::ToNeighbours
                               : Order::ToHalves;
  out.because += fmt::format("and HF's class {}", rows_of(*hf));
  return out;
}

}  // namespace bv::foreign
