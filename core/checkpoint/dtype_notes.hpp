#pragma once
// What the dtypes of a checkpoint's headers are worth a note: neighbours of another type, a config
// that says another one.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "core/base/tensor_spec.hpp"
#include "core/checkpoint/hf_model.hpp"

namespace bv::checkpoint {

/// One sentence for each float dtype that config.json does not state (or that fewer tensors have
/// than another, when it states none), with counts and names; one for a quantisation that
/// config.json states and no tensor shows. Types that are no floats are left to the claims, and
/// `dequantised` weights, in name order, have the type that was asked for.
[[nodiscard]] std::vector<std::string> dtype_notes(
    const nlohmann::json& config, const Headers& headers,
    const std::vector<Dequantised>& dequantised = {});

}  // namespace bv::checkpoint
