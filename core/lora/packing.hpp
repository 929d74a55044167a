#pragma once
// ParamWrapper: how PEFT packs the factors of a stack of experts into two matrices
// (docs/reference/semantics.md#lora-packing).

#include <cstdint>
#include <optional>
#include <string>

#include "core/base/result.hpp"
#include "core/base/tensor_spec.hpp"
#include "core/lora/adapter.hpp"

namespace bv::lora {

/// Shapes of lora_A [E*r, ...] and lora_B [..., r*E].
struct PackedShapes {
  Shape a;
  Shape b;
};

/// Which side of the base each stored factor belongs to.
struct PackedRoles {
  std::int64_t rank = 0;
  /// lora_A lies over the outputs and lora_B over the inputs: PEFT 0.18 and older on a class that
  /// keeps [E, out, in].
  bool exchanged = false;
  bool columns_first = false;  // the class keeps [E, in, out]
};

/// `rows` are the outputs and `columns` the inputs of one expert, by `columns_first`; where no
/// family knows that, `rows` is the first of the two dimensions. Shapes decide unless the experts
/// are square; then the version does. Errors: AdapterShape, AdapterPairBroken (rank),
/// PackingUnknown.
[[nodiscard]] Result<PackedRoles> packed_roles(const PackedShapes& shapes, std::int64_t experts,
                                               std::int64_t rows, std::int64_t columns,
                                               std::optional<bool> columns_first,
                                               const std::optional<std::string>& peft_version);

/// Rows e*r .. e*r + r-1: A has the expert as its slow index.
[[nodiscard]] Factor expert_rows(Factor a, std::int64_t expert, std::int64_t rank);
/// Columns e, E + e, 2E + e, ...: B has the expert as its fast index.
[[nodiscard]] Factor expert_columns(Factor b, std::int64_t expert, std::int64_t experts);

/// "0.19.1" -> {0, 19, 1}; what follows the numbers is not looked at. nullopt for no version.
struct PeftVersion {
  int major = 0, minor = 0, patch = 0;
  auto operator<=>(const PeftVersion&) const = default;
};
[[nodiscard]] std::optional<PeftVersion> peft_version_of(const std::string& text);

}  // namespace bv::lora
