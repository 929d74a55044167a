#pragma once
// Which layouts a run looks at, and what has to be said about them.

#include <string>
#include <vector>

#include "core/plan/legality.hpp"

namespace bv::plan {

/// The one rule for a vocabulary that TP does not divide: where no divisor was asked for, its rows
/// are padded to a multiple of TP, as Megatron pads with --make-vocab-size-divisible-by 1. Every
/// layout that a command is given or finds goes through here.
[[nodiscard]] parallel::Layout with_padding(const model::Model& model, parallel::Layout layout);
/// "83 vocabulary rows padded to a multiple of TP"; "" when no layout pads, or a divisor was asked
/// for (`asked`).
[[nodiscard]] std::string padding_note(const model::Model& model, const parallel::Layout& asked,
                                       const std::vector<parallel::Layout>& layouts);

/// Sizes that no layout of the model can have, among the powers of two up to `bound`, each with the
/// first condition that it breaks: "TP 8 (28 query heads), PP 4 8 (6 layers)"; "" when all can be.
[[nodiscard]] std::string impossible_sizes(const model::Model& model, const parallel::Layout& base,
                                           std::int64_t bound);

struct LayoutSet {
  std::vector<parallel::Layout> layouts;
  std::size_t legal = 0;
};
/// legal_layouts with the vocabulary padded where TP does not divide it, and at most `count` of
/// them (0: all).
[[nodiscard]] LayoutSet layouts_up_to(const model::Model& model, const parallel::Layout& base,
                                      std::int64_t max_ranks, std::size_t count);

}  // namespace bv::plan
