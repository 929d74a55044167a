// From a heap of shards to stages of ranks.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <set>

#include "core/base/text.hpp"
#include "oracles/forward/megatron_layer.hpp"

namespace bv::oracle::forward::megatron {
namespace {

std::string place_of(const RankTensors& rank) {
  return fmt::format("rank pp{} tp{} ep{} etp{} chunk {}", rank.pp, rank.tp, rank.ep, rank.etp,
                     rank.vpp);
}

bool is_expert(std::string_view name) {
  return name.find(".experts.") != std::string_view::npos;
}

struct Sizes {
  std::int64_t pp = 1;
  std::int64_t tp = 1;
  std::int64_t ep = 1;
  std::int64_t etp = 1;
  std::int64_t vpp = 1;
};

/// Each size is one more than the largest coordinate; a size beyond the number of shards has gaps
/// anyway.
Sizes sizes_of(const std::vector<RankTensors>& ranks) {
  Sizes sizes;
  const auto count = static_cast<std::int64_t>(ranks.size());
  for (const RankTensors& rank : ranks) {
    const std::int64_t coordinates[] = {rank.pp, rank.tp, rank.ep, rank.etp, rank.vpp};
    std::int64_t* const largest[] = {&sizes.pp, &sizes.tp, &sizes.ep, &sizes.etp, &sizes.vpp};
    for (std::size_t i = 0; i < 5; ++i) {
      if (coordinates[i] < 0 || coordinates[i] >= count) {
        refuse_input("a rank's coordinates do not fit the shards given", place_of(rank),
                     fmt::format("coordinates of {} shards, 0 to {}", count, count - 1));
      }
      *largest[i] = std::max(*largest[i], coordinates[i] + 1);
    }
  }
  return sizes;
}

/// Tensors of one kind (expert or not) that two ranks must hold alike, bit for bit.
void compare_copies(const RankTensors& one, const RankTensors& other, bool experts) {
  const auto kind_of = [&](const auto& entry) { return is_expert(entry.first) == experts; };
  const auto refuse = [&](const std::string& name, std::string found, std::string wanted) {
    throw Refusal{
        fail(Code::ReplicasDiffer, fmt::format("{} of {} is not the copy that {} holds",
                                               escaped(name), place_of(other), place_of(one)))
            .pair(std::move(found), std::move(wanted))
            .advise("write the same bytes to every copy of this parameter")};
  };
  for (const auto& entry : other.tensors) {
    if (kind_of(entry) && !one.tensors.contains(entry.first))
      refuse(entry.first, "a tensor", "no such tensor");
  }
  for (const auto& [name, tensor] : one.tensors) {
    if (is_expert(name) != experts) continue;
    const auto copy = other.tensors.find(name);
    if (copy == other.tensors.end()) refuse(name, "no such tensor", "a tensor");
    const auto& values = copy->second.values;
    if (copy->second.shape != tensor.shape || values.size() != tensor.values.size()) {
      refuse(name, shape_text(copy->second.shape), shape_text(tensor.shape));
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (std::memcmp(&values[i], &tensor.values[i], sizeof(double)) == 0) continue;
      refuse(name, fmt::format("{} at element {}", values[i], i),
             fmt::format("{}", tensor.values[i]));
    }
  }
}

/// The first shard that `matches`; the others that match must be its copies.
template <class Matches>
Scope representative(const std::vector<RankTensors>& ranks, bool experts, const std::string& wanted,
                     const Matches& matches) {
  const RankTensors* first = nullptr;
  for (const RankTensors& rank : ranks) {
    if (!matches(rank)) continue;
    if (first != nullptr) compare_copies(*first, rank, experts);
    if (first == nullptr) first = &rank;
  }
  if (first == nullptr) {
    refuse_input("a rank of the grid has no shard", counted(ranks.size(), "shard"), wanted);
  }
  return {first->tensors, place_of(*first), Code::MegatronParamUnfilled};
}

Stage stage_at(const std::vector<RankTensors>& ranks, const Sizes& sizes, std::int64_t vpp,
               std::int64_t pp) {
  Stage stage;
  const auto here = [&](const RankTensors& rank) { return rank.vpp == vpp && rank.pp == pp; };
  for (std::int64_t tp = 0; tp < sizes.tp; ++tp) {
    stage.dense.push_back(
        representative(ranks, false, fmt::format("pp{} tp{} chunk {}", pp, tp, vpp),
                       [&](const RankTensors& rank) { return here(rank) && rank.tp == tp; }));
  }
  for (std::int64_t ep = 0; ep < sizes.ep; ++ep) {
    Team team;
    for (std::int64_t etp = 0; etp < sizes.etp; ++etp) {
      const std::string wanted = fmt::format("pp{} ep{} etp{} chunk {}", pp, ep, etp, vpp);
      team.push_back(representative(ranks, true, wanted, [&](const RankTensors& rank) {
        return here(rank) && rank.ep == ep && rank.etp == etp;
      }));
    }
    stage.experts.push_back(std::move(team));
  }
  return stage;
}

/// Distinct layer numbers below body + "decoder.layers." of one rank; they must be 0 .. count-1.
std::int64_t layers_of(const Scope& rank, const std::string& body) {
  const std::string stem = body + "decoder.layers.";
  std::set<std::int64_t> numbers;
  for (auto at = rank.tensors().lower_bound(stem);
       at != rank.tensors().end() && at->first.starts_with(stem); ++at) {
    std::int64_t number = -1;
    const char* begin = at->first.data() + stem.size();
    std::from_chars(begin, at->first.data() + at->first.size(), number);
    numbers.insert(number);
  }
  const auto count = static_cast<std::int64_t>(numbers.size());
  if (count > 0 && (*numbers.begin() != 0 || *numbers.rbegin() != count - 1)) {
    throw Refusal{
        fail(Code::LayerOnNoStage, fmt::format("decoder layers of {} leave a gap", rank.place()))
            .pair(fmt::format("{} layers up to number {}", count, *numbers.rbegin()),
                  "0, 1, 2, ...")
            .advise("number the layers of each stage and chunk from 0")};
  }
  return count;
}

}  // namespace

World make_world(const ModelFacts& facts, const std::vector<RankTensors>& ranks) {
  if (ranks.empty()) refuse_input("no shards", "0 shards", "one shard a rank");
  const Sizes sizes = sizes_of(ranks);
  World world;
  for (const auto& entry : ranks.front().tensors) {
    for (const char* body :
         {"language_model.", "thinker.language_model.", "llava_model.language_model."}) {
      if (entry.first.starts_with(body)) world.body = body;
    }
  }
  std::int64_t total = 0;
  for (std::int64_t vpp = 0; vpp < sizes.vpp; ++vpp) {
    for (std::int64_t pp = 0; pp < sizes.pp; ++pp) {
      world.stages.push_back(stage_at(ranks, sizes, vpp, pp));
      world.layers.push_back(layers_of(world.stages.back().dense.front(), world.body));
      for (const Scope& rank : world.stages.back().dense) {
        if (layers_of(rank, world.body) == world.layers.back()) continue;
        refuse_input("ranks of one stage hold different layers", rank.place(),
                     fmt::format("{} layers as on rank tp0", world.layers.back()));
      }
      total += world.layers.back();
    }
  }
  if (total != facts.layers) {
    throw Refusal{fail(Code::LayerOnNoStage, "the stages do not hold the model's layers")
                      .pair(fmt::format("{} layers on {} stages", total, world.stages.size()),
                            counted(facts.layers, "layer"))
                      .advise("give every stage and chunk of one layout, and no other")};
  }
  return world;
}

}  // namespace bv::oracle::forward::megatron
