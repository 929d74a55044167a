#pragma once
// Names that transformers' class has where files have others: PEFT's keys are those of the class.

#include <optional>
#include <string>
#include <string_view>

#include "core/family/family.hpp"

namespace bv::lora {

/// "model.layers.0.block_sparse_moe.gate.weight" -> "model.layers.0.mlp.gate.weight" for Mixtral;
/// the name itself where they are one. `family` may be null.
[[nodiscard]] std::string class_name(const family::Family* family, std::string_view in_file);
/// The way back; nullopt where class and file have one name.
[[nodiscard]] std::optional<std::string> file_name(const family::Family* family,
                                                   std::string_view in_class);

}  // namespace bv::lora
