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

/// A stack of experts as its class has it.
struct PackedStack {
  std::int64_t experts = 0;
  /// Outputs and inputs of one expert, by `columns_first`; where no family knows that, the first
  /// and the second of the two dimensions.
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::optional<bool> columns_first = std::nullopt;  // the class keeps [E, in, out]
  /// The class says so to PEFT, with the attribute is_transposed.
  bool marked = false;
};

/// Which side of the base each stored factor belongs to.
struct PackedRoles {
  std::int64_t rank = 0;
  /// lora_A lies over the outputs and lora_B over the inputs: PEFT took [E, out, in] for
  /// [E, in, out], or the other way round.
  bool exchanged = false;
  bool columns_first = false;  // the class keeps [E, in, out]
};

/// Shapes decide, among the roles that the version can have written, unless the experts are square;
/// then the version alone does. Errors: AdapterShape, AdapterPairBroken (rank), PackingUnknown.
[[nodiscard]] Result<PackedRoles> packed_roles(const PackedShapes& shapes, const PackedStack& stack,
                                               const std::optional<std::string>& peft_version);
/// Does a version of PEFT exchange the roles of the factors of such a stack?
[[nodiscard]] bool exchanges_roles(const std::string& peft_version, const PackedStack& stack);

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
