#pragma once
// A whole adapter for serving: the fused layers of the runtime, the members that the adapter has
// for each, and what every tensor-parallel rank holds. Layers and their members are those of vLLM
// 0.33.0 (packed_modules_mapping); rows go where its base layers put their own.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/comm/link.hpp"
#include "core/lora/adapter.hpp"
#include "core/serve/slice.hpp"

namespace bv::lora {

/// One layer of the runtime that the adapter changes.
struct ServedModule {
  ServedLayer layer;
  std::vector<std::string> names;           // of the members, in the runtime's order
  std::vector<const AdapterPair*> members;  // nullptr: the adapter has none
  std::vector<std::vector<SliceShard>> ranks;
};

/// The adapter must live. In the order of names. Errors: those of slice_layer and plan::Plan::make;
/// AdapterNoForm for what a runtime does not load: embeddings, biases, trained tensors, DoRA, and
/// experts cut in another way than their base; ExpertPairCount for experts of a projection whose
/// ranks differ.
[[nodiscard]] Result<std::vector<ServedModule>> serve_adapter(const checkpoint::HfModel& base,
                                                              const kinds::Catalogue& kinds,
                                                              const Adapter& adapter,
                                                              const Serving& serving);

/// The least rank that every pair fits in, a multiple of tp when the factors are fully sharded.
[[nodiscard]] std::int64_t rank_needed(const Adapter& adapter, std::int64_t tp, bool fully_sharded);

/// tpN.safetensors with MODULE.SLICE.lora_A.weight and .lora_B.weight of each rank, and
/// slices.json, which names layers, members, scales and what is zero. The folder appears by rename.
/// `world`: other processes that do the same with the same adapter, each writes some of the files;
/// null: this one writes all. All of them get the counts of all.
struct SlicedFiles {
  std::int64_t files = 0, tensors = 0;
};
[[nodiscard]] Result<SlicedFiles> write_slices(const std::vector<ServedModule>& modules,
                                               const Adapter& adapter, const Serving& serving,
                                               const std::filesystem::path& out, bool overwrite,
                                               comm::Link* world = nullptr);

}  // namespace bv::lora
