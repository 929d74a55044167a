#pragma once
// What the adapter modules of Megatron hold of LoRA pairs on each rank: written from the formulas
// of the layers that they wrap and from docs/reference/semantics.md#lora-shards; shares nothing
// with the engine.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "oracles/oracle.hpp"

namespace bv::oracle {

/// A pair on some rows of one HF tensor of a layer, as tags.
struct AdapterPart {
  std::size_t hf = 0;          // into Question::hf_names
  std::int64_t first_row = 0;  // of that tensor's out axis: row i of b is first_row + i * row_step
  std::int64_t row_step = 1;
  TaggedTensor a;                         // [r, in]
  TaggedTensor b;                         // [rows, r]
  std::optional<TaggedTensor> magnitude;  // DoRA: [rows, 1]
};

/// One question: which factors has the adapter of a layer, or of one of its experts, on this rank?
struct AdapterQuestion {
  Question weight;                    // of the wrapped weight; `hf` is not read
  std::vector<std::int64_t> hf_rows;  // rows of each HF tensor, of one expert
  std::vector<AdapterPart> parts;     // those of lower HF tensors and rows first
  std::int64_t rank = 0;              // of the layer: that of a shared pair, else the sum of all
  std::int64_t in = 0;
  bool shared = false;    // all parts have the A of the first
  std::string canonical;  // "adapter_q": that projection alone, whose rows are cut as they are
};

/// Elements that must be zero have the tag -1.
struct WantedFactors {
  TaggedTensor a;
  TaggedTensor b;
  std::optional<TaggedTensor> magnitude;
};
/// nullopt when the wrapped weight is no matrix of the target-layout table, or does not divide.
std::optional<WantedFactors> wanted_factors(const AdapterQuestion& question);
/// Why wanted_factors gives none; "" when it gives some.
std::string why_unanswered(const AdapterQuestion& question);

}  // namespace bv::oracle
