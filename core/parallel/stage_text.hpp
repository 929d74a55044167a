#pragma once
// The text of --pipeline-model-parallel-layout: E embedding, t decoder layer, m MTP layer, L loss,
// | next stage; commas ignored, (..)*n and x*n repeat, groups do not nest. Source:
// docs/reference/semantics.md#pipeline-stages (megatron-core pipeline_parallel_layer_layout.py,
// parse_str_to_list).

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"

namespace bv::parallel {

/// One stage: its letters of "EtmL" in order; empty stages are allowed.
using StageText = std::string;

/// Errors: BadValue (E034) with the column of the first wrong character.
[[nodiscard]] Result<std::vector<StageText>> parse_stage_text(std::string_view text);

}  // namespace bv::parallel
