#pragma once
// Where a tensor or one element lies on the other side, as `trace` shows it.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "reports/style.hpp"

namespace bv::reports {

/// Begin, count and step of the indices of each dimension, and the same as text: "[16:24, :]".
struct TracedSlice {
  std::vector<std::array<std::int64_t, 3>> ranges;
  std::string text;
};

/// Equal blocks on both sides.
struct TracedBlock {
  TracedSlice megatron;
  std::string hf;  // "" for zero padding
  TracedSlice hf_slice;
  bool transposed = false;
};

/// One Megatron tensor of one shard.
struct TracedPlace {
  std::string shard;  // "pp0_tp1_ep0_etp0"
  std::string file;   // of the shard
  std::vector<std::int64_t> ranks;
  std::string ranks_text;  // "0 4 8-11"
  std::string tensor;      // local name
  std::string global;
  bool copy = false;
  // an element: its index here, and there; `hf` is "" for zero padding
  std::vector<std::int64_t> index;
  std::string hf;
  std::vector<std::int64_t> hf_index;
  // a whole tensor
  std::vector<TracedBlock> blocks;
  std::int64_t blocks_left_out = 0;
};

struct TraceReport {
  std::string model, layout;
  std::int64_t world = 1;
  bool from_hf = true;
  std::string from;  // "hf", "megatron"
  std::string name;
  std::vector<std::int64_t> shape;  // of the HF tensor, or of one shard
  std::optional<std::vector<std::int64_t>> index;
  bool element = false;  // the index is that of one element, not of a row
  std::string rule, kind, source;
  std::string value;  // what the rule computes, "" when it moves bytes
  std::vector<TracedPlace> places;
};

[[nodiscard]] std::string trace_text(const TraceReport& report, const TextStyle& style);
/// Schema bridge-trace/1.
[[nodiscard]] std::string trace_json(const TraceReport& report);

}  // namespace bv::reports
