#pragma once
// Families for the conditions of layers that no built-in family has.

#include <filesystem>
#include <string>
#include <string_view>

#include "core/checkpoint/open_model.hpp"

namespace bv::conditions {

/// One Mamba layer: four heads, two groups of state.
extern const std::string_view kMambaFamily;
/// One attention layer whose gate rows stand head_dim times in linear_qkv.
extern const std::string_view kGateFamily;

/// The config of both.
[[nodiscard]] std::string own_config();
/// A checkpoint of kGateFamily: config.json and one model.safetensors.
void write_gate_checkpoint(const std::filesystem::path& folder);
[[nodiscard]] family::FamilyPtr own_family(std::string_view text);
/// The model of the config, without headers.
[[nodiscard]] model::Model own_model(std::string_view text);

}  // namespace bv::conditions
