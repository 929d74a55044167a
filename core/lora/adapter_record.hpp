#pragma once
// adapter.json of a Megatron adapter folder of ours: the layout, and how each layer's factors were
// put together, so that the pairs come back as they were.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"
#include "core/model/model.hpp"
#include "core/parallel/parallel.hpp"

namespace bv::lora {

/// One pair of a layer: its HF tensor, and the columns at .. at + rank of the layer's B.
struct RecordBlock {
  std::int64_t hf = 0;  // source of the base rule
  std::int64_t rank = 0;
  std::int64_t at = 0;
  int fold = 0;  // its B was multiplied by 2^fold: its own scale is the layer's times that
  bool operator==(const RecordBlock&) const = default;
};
/// One adapter module. Without blocks every HF tensor of the layer has the whole pair; experts have
/// one block, whose rank is that of their pairs before it was padded.
struct LayerRecord {
  std::int64_t rank = 0;
  double alpha = 0;
  std::vector<RecordBlock> blocks;
  bool operator==(const LayerRecord&) const = default;
};

struct AdapterRecord {
  parallel::Layout layout;
  family::Spelling spelling;
  std::map<std::string, LayerRecord, std::less<>>
      layers;          // "….linear_qkv" or "….linear_qkv.adapter_q"
  std::string config;  // adapter_config.json as it was read; "" when there was none
  std::map<std::string, std::string> files;  // shard -> XXH3-128 of all its tensors' fingerprints
  // XXH3-128 of the adapter_model.safetensors that was converted, and of its tensors' fingerprints;
  // "" when there was none.
  std::string weights;
  std::string tensors;
  bool text_model = false;  // its keys are those of the text model alone (TextClass)
};

inline constexpr std::string_view kRecordName = "adapter.json";
inline constexpr std::string_view kRecordSchema = "bridge-adapter/1";
inline constexpr std::uint64_t kRecordBytesMax = std::uint64_t{256} << 20;

[[nodiscard]] std::string record_text(const AdapterRecord& record);
/// Errors: AdapterInvalid naming the key; DuplicateKey.
[[nodiscard]] Result<AdapterRecord> parse_record(std::string_view text, const std::string& file);

}  // namespace bv::lora
