#pragma once
// Which rule is at fault when outputs differ: shards as the oracle wants them are put in, one rule
// at a time.

#include "core/plan/plan.hpp"
#include "properties/claims/forward_compare.hpp"
#include "properties/claims/small_model.hpp"

namespace bv::claims {

struct Suspects {
  std::vector<std::string> rules;       // "r4 (bridge.py:31)  decoder.layers.*.linear_fc1.weight"
  std::vector<std::string> parameters;  // patterns of their Megatron names
  bool restored = false;                // right shards everywhere make every output equal
  std::string why_not;                  // why nothing can be said, ""
};

struct ForwardRun {
  const SmallModel* small = nullptr;
  const plan::Plan* plan = nullptr;  // of small->model
  const oracle::forward::NamedTensors* weights = nullptr;
  const std::vector<oracle::forward::RankTensors>* ranks = nullptr;
  const oracle::forward::Inputs* inputs = nullptr;
  const oracle::forward::Outputs* wanted = nullptr;
  std::optional<std::size_t> position;  // of the first wrong output; nullopt: the form refused
};

[[nodiscard]] Suspects find_suspects(const Subject& subject, const ForwardRun& run);

}  // namespace bv::claims
