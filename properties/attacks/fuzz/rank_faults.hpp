#pragma once
// Faults of Megatron's side of an adapter, planted into its files: one a rank.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "properties/attacks/fuzz/adapters.hpp"

namespace bv::fuzz {

/// What each fault of the ranks was seen by; the adapter is written below `folder`, which is empty
/// and stays so. Nothing of an adapter that this layout cuts unevenly. Errors: the right ranks are
/// refuted; those of the files.
struct RankTrial {
  std::map<AdapterFault, std::vector<std::string_view>> seen;
  std::vector<AdapterFault> unchanged;
};
[[nodiscard]] Result<RankTrial> try_ranks(const lora::Adapter& adapter,
                                          const checkpoint::HfModel& base,
                                          const kinds::Catalogue& kinds,
                                          const parallel::Layout& layout,
                                          const std::filesystem::path& folder,
                                          generators::Random& random);

}  // namespace bv::fuzz
