#pragma once
// Parallel layouts: stages first, so that the number of layers follows from them and every split is
// legal; then the sizes, each an index into what the model allows.

#include "core/model/model.hpp"
#include "core/parallel/parallel.hpp"
#include "properties/attacks/generators/fields.hpp"

namespace bv::generators {

/// How the decoder layers are split over the stages.
enum class Split : std::int64_t {
  Even,
  CountEmbedding,
  CountLoss,
  CountBoth,
  First,
  Last,
  Ends,
  Text
};

struct Layout {
  std::int64_t pp = 1;
  std::int64_t vpp = 1;
  std::int64_t split = 0;      // Split
  std::int64_t each = 1;       // layers of a middle stage
  std::int64_t ends = 1;       // layers of an uneven end stage; what a text stage gets
  std::int64_t mtp_alone = 0;  // Text: the MTP layer has the last stage for itself
  std::int64_t tp = 0;         // index into the legal TP
  std::int64_t ep = 0;         // index into the legal EP
  std::int64_t etp = 0;        // index into the legal ETP
  std::int64_t vocab_divisor = 4;
  std::int64_t pp_before_dp = 0;
  bool operator==(const Layout&) const = default;
};

[[nodiscard]] std::span<const Field<Layout>> layout_fields();

/// The decoder layers that the stages of a draw hold, at least 1.
[[nodiscard]] std::int64_t layers_of(const Layout& draw);

/// The stages of a draw, every other size 1.
[[nodiscard]] parallel::Layout pipeline_of(const Layout& draw, std::int64_t mtp_layers);

/// The layout of a draw for a model of layers_of(draw) decoder layers. Sizes stay within a world of
/// `ranks_max` processes. Errors: those of check_layout; a valid draw has none.
[[nodiscard]] Result<parallel::Layout> layout_of(const Layout& draw, const model::Model& model,
                                                 std::int64_t ranks_max);

}  // namespace bv::generators
