#pragma once
// Geometries: the sizes of a model as small integers whose products are the numbers of its config.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>

#include "properties/attacks/generators/fields.hpp"

namespace bv::generators {

struct Geometry {
  std::int64_t groups = 1;      // query groups
  std::int64_t heads_each = 1;  // query heads of a group
  std::int64_t head_unit = 1;   // head_dim, in units that rotary sections allow
  std::int64_t hidden = 1;      // hidden size in units
  std::int64_t ffn_unit = 1;    // what FFN sizes are multiples of: decides which TP are legal
  std::int64_t ffn_each = 1;
  std::int64_t key_heads = 1;   // of a gated delta net
  std::int64_t value_each = 1;  // value heads of a key head
  std::int64_t experts = 1;
  std::int64_t vocabulary = 1;  // rows beyond a base
  std::int64_t tied = 0;
  std::int64_t mtp = 0;
  bool operator==(const Geometry&) const = default;
};

[[nodiscard]] std::span<const Field<Geometry>> geometry_fields();

using Settings = std::vector<std::pair<std::string, std::string>>;

/// The fields of `config` that a geometry and a number of decoder layers replace, by path, sorted.
/// Fields that the config does not have stay away: the family decides what it reads.
[[nodiscard]] Settings settings_of(const nlohmann::json& config, const Geometry& geometry,
                                   std::int64_t layers);

}  // namespace bv::generators
