#pragma once
// Adapters for serving: members of a fused layer (q, k, v; in_proj_qkv, in_proj_z) to its slices,
// and slices to tensor-parallel ranks, where the base layer puts its own rows.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/result.hpp"

namespace bv::lora {

/// A half-open range of slices, rows or columns.
struct Interval {
  std::int64_t begin = 0, end = 0;
  [[nodiscard]] std::int64_t size() const { return end - begin; }
  bool operator==(const Interval&) const = default;
};

/// Which consecutive slices each member covers, in order, together all of them. `rows`: of each
/// member's B, nullopt for a member that the adapter lacks; a place is returned for present
/// members. `declared` (one interval a member) decides when it is there and is held against the
/// rows.
///
/// A present member has one place or it is an error: two places would be a guess. Errors, with
/// `layer` in the message: SliceSum (no way to cover the slices, with their sizes and the first
/// member that fails), SliceAmbiguous (every place of the member). A slice that no present member
/// covers takes a delta of zero.
[[nodiscard]] Result<std::vector<std::optional<Interval>>> cover_slices(
    std::span<const std::int64_t> slices, std::span<const std::optional<std::int64_t>> rows,
    const std::vector<Interval>& declared, const std::string& layer);

enum class LayerKind { Column, MergedColumn, Qkv, Row, Replicated };

/// A layer of the served model. A subclass counts as its base kind.
struct ServedLayer {
  std::string name;  // "layers.0.linear_attn.in_proj_qkvz"
  LayerKind kind = LayerKind::Column;
  std::vector<std::int64_t> slices;  // rows of each before it is cut; Column, Row, Replicated: one
  std::int64_t columns = 0;          // input size before it is cut
  /// Qkv: heads of k and v; with more ranks than heads each head stands on several.
  std::int64_t kv_heads = 0;
  /// Slices that every rank holds whole; empty: none.
  std::vector<bool> whole = {};
};

/// How many members an adapter may bring for the layer, from what the runtime packs into it
/// (`packed`, 0 when it is not in the mapping) and whether the adapter names the layer itself: a
/// function of these alone, whatever is fully sharded and on any rank. Errors: SliceLayer naming
/// layer, kind and both numbers.
[[nodiscard]] Result<std::int64_t> members_served(const ServedLayer& layer, std::int64_t packed,
                                                  bool is_target);

/// Factors of one member: A [a_rows, a_columns], B [b_rows, b_columns].
struct Member {
  std::int64_t a_rows = 0, a_columns = 0, b_rows = 0, b_columns = 0;
};

struct Serving {
  std::int64_t tp = 1;
  bool fully_sharded = false;
  std::int64_t rank_max = 0;  // rows of the buffer of A before it is cut
};

/// What one rank holds of one slice: a buffer of A and one of B, zero beyond what is taken from the
/// member. Without a member both are zero.
struct SliceShard {
  std::optional<std::size_t> member;
  std::int64_t a_rows = 0, a_columns = 0;  // of the buffer
  std::int64_t b_rows = 0, b_columns = 0;
  Interval a_from_rows, a_from_columns;  // of the member's A
  Interval b_from_rows, b_from_columns;  // of the member's B
  bool operator==(const SliceShard&) const = default;
};

/// [rank][slice]. Everything is checked before anything is placed. Errors: those of cover_slices
/// and members_served; IndivisibleDim for rows, columns, heads or rank_max that tp does not divide;
/// AdapterPairBroken for a rank above rank_max or factors of two ranks; AdapterShape for columns
/// of A that are not the layer's.
[[nodiscard]] Result<std::vector<std::vector<SliceShard>>> slice_layer(
    const ServedLayer& layer, std::span<const std::optional<Member>> members,
    const std::vector<Interval>& declared, const Serving& serving);

}  // namespace bv::lora
