#pragma once
// What a torch_dist checkpoint has otherwise than memory, as far as the family says it.

#include <cstdint>
#include <string>

#include "core/model/model.hpp"

namespace bv::model {

/// How the layers of a block are stored: in one tensor a parameter for all of them, where they hold
/// the same parameters; each for itself, though all may be alike; or never so.
enum class LayerKeys { WhereAlike, Own, Shared };

/// How the keys of a mapping's parameters are made (docs/reference/formats.md#torch_dist).
struct StoredAs {
  bool as_in_memory = false;  // of a module of HF: nothing is renamed, stacked or cut apart
  bool single = false;        // never stacked: of such a module, or of multi-token prediction
  LayerKeys keys = LayerKeys::WhereAlike;  // of the block
  /// A module of the layer, and what the checkpoint calls it: "" without.
  std::string module = "";
  std::string stored = "";
  std::int64_t number = -1;  // of the layer among those that call the module so
};
[[nodiscard]] StoredAs stored_as(const Model& model, const Mapping& mapping);

}  // namespace bv::model
