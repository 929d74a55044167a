#pragma once
// The proof of every rule of a model over every legal layout at once. Its cost grows with distinct
// rules and distinct sizes, not with layers, experts, ranks or layouts.

#include <cstdint>
#include <vector>

#include "core/kinds/catalogue.hpp"
#include "core/model/model.hpp"
#include "core/parallel/parallel.hpp"

namespace bv::plan {

/// The legal values of each size on its own, ascending; the other sizes are those of a base layout.
/// Every condition of a family cuts by one of them (or by a product with CP, which is fixed).
struct LegalSizes {
  std::vector<std::int64_t> tp;
  std::vector<std::int64_t> pp;
  std::vector<std::int64_t> ep;
  std::vector<std::int64_t> etp;
};
/// Sizes 1..bound. A size that no rule knows (EP and ETP of a dense model) is 1.
[[nodiscard]] LegalSizes legal_sizes(const model::Model& model, const parallel::Layout& base,
                                     std::int64_t bound);

struct AllLayoutsProof {
  LegalSizes sizes;
  std::int64_t layouts = 0;   // legal layouts that the proof covers
  std::int64_t rules = 0;     // distinct rules of the model
  std::int64_t bindings = 0;  // (rule, size) pairs whose divisibility was checked
};

/// Proves, for every layout with TP, PP, EP and ETP of at most `bound`: each rule is a bijection
/// (on its text, for all sizes), each legal size divides what the rule cuts by it, every layer
/// stands on one stage, every expert on one rank. Errors: RulesInvalid (the text), IndivisibleDim
/// (a size that the conditions allow and a rule does not), LayerOnNoStage, with rule and size.
[[nodiscard]] Result<AllLayoutsProof> prove_all_layouts(const model::Model& model,
                                                        const kinds::Catalogue& kinds,
                                                        const parallel::Layout& base,
                                                        std::int64_t bound);

}  // namespace bv::plan
