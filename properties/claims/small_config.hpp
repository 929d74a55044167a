#pragma once
// A config of the same model with small sizes: the same heads, groups, layer kinds, storage and
// flags; widths, vocabulary, experts and layers as small as the layout and the structure allow.

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/model/model.hpp"
#include "core/parallel/parallel.hpp"

namespace bv::claims {

/// How much the widths shrink. Widths that a divisor divides shrink by it exactly, so that equal
/// extents stay equal.
struct Scale {
  std::int64_t text = 1;
  std::int64_t vision = 1;
};

/// What the small config must keep of the resolved model.
struct Structure {
  const model::Model* model = nullptr;
  parallel::Layout layout;
  std::string topk = "num_experts_per_tok";  // the field that says how many experts a token has
  bool sees = true;                          // its vision tower is computed too
};

/// The fewest decoder layers, counted from the first, that hold every kind of layer and fill the
/// pipeline; nullopt when the layout cannot hold this model at all.
[[nodiscard]] std::optional<std::int64_t> least_layers(const Structure& structure);

/// The config with every size field replaced: the fields are those that the family reads its
/// symbols from, wherever they stand. A field that is not there, and whose default is a number, is
/// written; one that follows from others stays absent.
[[nodiscard]] nlohmann::json shrunk_config(const nlohmann::json& config, const Structure& structure,
                                           std::int64_t layers, const Scale& scale);

/// From the smallest model to the whole one.
[[nodiscard]] std::vector<Scale> scales_of(const nlohmann::json& config,
                                           const Structure& structure);

}  // namespace bv::claims
