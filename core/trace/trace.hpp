#pragma once
// Follows a tensor or one element between an HF checkpoint and the shards of one layout, both ways.
// move::Positions only: no bytes are read.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/plan/plan.hpp"

namespace bv::trace {

enum class Side { Hf, Megatron };
[[nodiscard]] std::string_view name(Side side);

/// Indices of one dimension: begin, begin + step, ... `count` of them.
struct Range {
  std::int64_t begin = 0;
  std::int64_t count = 1;
  std::int64_t step = 1;
  bool operator==(const Range&) const = default;
};
/// One range a dimension.
using Slice = std::vector<Range>;
/// "[16:24, :]", "[3, 0:16:2]"; a whole dimension of `shape` is ":".
[[nodiscard]] std::string slice_text(const Slice& slice, const Shape& shape);

/// Equal blocks on both sides, element by element in row-major order of the Megatron side.
struct Block {
  int source = 0;  // index into Mapping::hf; -1: zero padding, `hf` is empty
  Slice hf;
  Slice megatron;
  bool transposed = false;  // the dimensions stand in another order on the HF side
  bool operator==(const Block&) const = default;
};

/// At most `blocks_max` blocks of a shard, ascending on the Megatron side, and how many more there
/// are. A box that no pair of slices describes is cut into smaller ones.
struct Blocks {
  std::vector<Block> list;
  std::int64_t left_out = 0;
};
[[nodiscard]] Blocks blocks_of(const layout::Shard& shard, const std::vector<Shape>& hf_shapes,
                               std::size_t blocks_max);

struct TraceQuery {
  std::string name;  // HF tensor, global Megatron name, or "pp0_tp1_ep0_etp0:LOCAL_NAME"
  std::optional<Side> from;
  std::optional<Shape> index;     // with fewer numbers than dimensions: all elements behind them
  std::size_t blocks_max = 4096;  // of each place
};

/// One Megatron tensor of one shard file that holds something of what was asked for.
struct Place {
  std::size_t file = 0;    // into plan::Plan::files()
  std::size_t target = 0;  // into plan::ShardFile::targets
  /// With the index of one element: both positions. `hf` is empty for zero padding.
  std::string hf;
  Shape hf_index;
  Shape megatron_index;
  /// Of a whole tensor, or of a row of it.
  Blocks blocks;
};

struct Trace {
  Side from = Side::Hf;
  std::string name;           // without the shard prefix
  std::uint32_t mapping = 0;  // into Model::mappings
  Shape shape;                // of the HF tensor, or of one shard of the Megatron tensor
  bool element = false;       // one element was asked for
  std::vector<Place> places;  // owners first, copies after; replicas are listed
};

/// Errors: BadValue for an unknown name (with the nearest), an unknown shard, and an index outside
/// the shape; Conflict when both sides have the name and `from` is not given.
[[nodiscard]] Result<Trace> trace(const plan::Plan& plan, const TraceQuery& query);

/// "3,5", "[3, 5]", "3". Errors: BadValue.
[[nodiscard]] Result<Shape> parse_index(std::string_view text);

}  // namespace bv::trace
