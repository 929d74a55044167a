#pragma once
// Which parallel layouts a model allows: the conditions of its family file and of the pipeline.

#include "core/model/model.hpp"
#include "core/parallel/parallel.hpp"

namespace bv::plan {

/// Checks every condition (docs/reference/semantics.md#conditions) that holds for this model.
/// Errors: IndivisibleDim, BadValue, Conflict, LayerOnNoStage: rule code, numbers, and the legal
/// values nearest.
[[nodiscard]] Status check_layout(const model::Model& model, const parallel::Layout& layout);

/// Every legal layout whose smallest world has at most `max_ranks` processes, in a fixed order: by
/// world, then TP, PP, EP, ETP. Sizes that differ from 1 only in DP or CP are left out: they do not
/// move weights.
[[nodiscard]] std::vector<parallel::Layout> legal_layouts(const model::Model& model,
                                                          const parallel::Layout& base,
                                                          std::int64_t max_ranks);

/// At most `count` of them, so that each size that occurs anywhere occurs in the choice.
[[nodiscard]] std::vector<parallel::Layout> choose_layouts(std::vector<parallel::Layout> legal,
                                                           std::size_t count);

}  // namespace bv::plan
