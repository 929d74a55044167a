#pragma once
// The layout of a run of the real Megatron-Bridge (fixtures/golden/megatron/CASE/LAYOUT.json).

#include <nlohmann/json.hpp>

#include "core/parallel/parallel.hpp"

namespace bv::support {

inline parallel::Layout layout_of(const nlohmann::json& run) {
  parallel::Layout out;
  const nlohmann::json& sizes = run.at("layout");
  out.tp = sizes.at("tp");
  out.pp = sizes.at("pp");
  out.ep = sizes.at("ep");
  out.etp = sizes.at("etp");
  out.vpp = sizes.at("vpp");
  const nlohmann::json& said = run.at("settings");
  if (said.value("should_pad_vocab", false)) {
    out.vocab_divisor = said.at("make_vocab_size_divisible_by").get<std::int64_t>();
  }
  if (said.contains("num_layers_in_first_pipeline_stage")) {
    out.first_stage_layers = said.at("num_layers_in_first_pipeline_stage").get<std::int64_t>();
  }
  if (said.contains("num_layers_in_last_pipeline_stage")) {
    out.last_stage_layers = said.at("num_layers_in_last_pipeline_stage").get<std::int64_t>();
  }
  return out;
}

}  // namespace bv::support
