#pragma once
// Which multi-token prediction layers a checkpoint has, whatever its config says. A layer is one
// when it holds a tensor that no decoder layer has (eh_proj, enorm, mtp.fc), never by its number
// alone.

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/model/name_spots.hpp"

namespace bv::model {

struct MtpThere {
  /// Counted from where the config puts the first: below 0 among its decoder layers.
  std::set<std::int64_t> layers;
  std::vector<std::string> names;  // every HF tensor of those layers
  [[nodiscard]] bool empty() const { return names.empty(); }
};
[[nodiscard]] MtpThere find_mtp(const family::Section& section, const Model& model,
                                const NameSpots& spots, const Headers& headers);

/// The one fault of a config that counts other MTP layers than are there, or other decoder layers
/// before them; nullopt when they agree. `count` is what the config says.
[[nodiscard]] std::optional<NameFault> mtp_fault(const family::Section& section, const Model& model,
                                                 const MtpThere& there, std::int64_t count);

/// Of a family whose MTP layers stay unused in any case: the config counts none any more.
void count_no_mtp(Model& model);

/// The number that MTP layer `k` has among the decoder layers; -1 where MTP names stand apart.
[[nodiscard]] std::int64_t mtp_layer_number(const family::Section& section, const Model& model,
                                            std::int64_t k);

}  // namespace bv::model
