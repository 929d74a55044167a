#pragma once
// Where each element of an adapter's factors lies on the two sides: the base rule seen along one
// side, once for each rank of the adapter. Nothing here knows a name of a projection.

#include <cstdint>
#include <optional>
#include <vector>

#include "core/layout/box.hpp"
#include "core/lora/sites.hpp"

namespace bv::lora {

/// A matrix inside a numbered source tensor, in elements.
struct Slot {
  std::int32_t source = 0;  // Box::source
  std::int64_t offset = 0;
  std::int64_t row_stride = 0;
  std::int64_t column_stride = 0;
};

/// One pair of an HF tensor of the site: B stands on the rows first, first + step, ... of the HF
/// tensor `hf`, and its rank axis on columns at .. at + rank of the layer's B.
struct Block {
  std::size_t hf = 0;
  std::int64_t first_row = 0, row_step = 1, rows = 0;
  std::int64_t rank = 0;
  std::int64_t at = 0;
  Slot a, b;
  bool owns_a = true;  // false: an earlier block brings the same A to the same place
};

/// One matrix of a layer, or of one of its experts, at its place in the shard.
struct LayerFactors {
  std::vector<Block> blocks;
  std::int64_t rank = 0;  // of the layer: at least that of every block
};

/// How the adapter of a site lies on T ranks.
struct AdapterCut {
  std::int64_t ways = 1;
  bool a_by_rank = true;       // A is cut along the rank axis; else A's columns lie as the weight's
  bool b_as_base = true;       // B's rows lie as the weight's; else an even cut of all rows
  bool whole = false;          // plain nn.Linear: nothing is cut
  std::optional<KeyRows> key;  // canonical: B has these rows alone, in their order
};
[[nodiscard]] AdapterCut adapter_cut(const Site& site, std::int64_t ways);

/// Shapes of the local factors. Errors: IndivisibleDim naming the layer, r % T or out % T.
struct FactorShapes {
  Shape a;
  Shape b;
};
[[nodiscard]] Result<FactorShapes> local_shapes(const Site& site, const AdapterCut& cut,
                                                std::int64_t rank);

/// Boxes of the local A and B of rank `t`, tiling them: what no block covers is zero. Target
/// offsets start at `origin`. Sources are those of the slots.
void add_a_boxes(const Site& site, const AdapterCut& cut, std::int64_t t,
                 const LayerFactors& factors, std::int64_t origin, std::vector<layout::Box>& out);
void add_b_boxes(const Site& site, const AdapterCut& cut, std::int64_t t,
                 const LayerFactors& factors, std::int64_t origin, std::vector<layout::Box>& out);
/// A vector with one number a row, such as magnitudes: B of rank 1.
void add_row_boxes(const Site& site, const AdapterCut& cut, std::int64_t t,
                   const LayerFactors& factors, std::int64_t origin, std::vector<layout::Box>& out);

}  // namespace bv::lora
