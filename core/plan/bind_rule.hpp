#pragma once
// Rules of a family bound to the sizes of one model on one layout.

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/kinds/catalogue.hpp"
#include "core/layout/box.hpp"
#include "core/model/model.hpp"
#include "core/parallel/parallel.hpp"

namespace bv::plan {

/// Sizes in place of those that the model gives; empty for a weight. A claim that need not see
/// every element makes what a rule carries along small; a factor of an adapter is its base rule
/// with one axis bound to the rank.
///
/// Example, adapters of rank 16: B of linear_qkv [24, 8] is `qkv` with rest := [16], a tensor
/// [24, 16]; A of linear_proj [8, 24] is `row` with o := 16, a tensor [16, 24]. Where the other
/// axis is not one axis of the line (A of a fused parameter, B of a row-parallel one), `side` binds
/// the rows or the columns alone; a factor is that many vectors of the rank.
struct Rebinding {
  std::map<std::string, std::int64_t, std::less<>> symbols = {};  // of the geometry
  std::map<std::string, std::int64_t, std::less<>> axes = {};     // of the rule's line
  std::optional<std::vector<std::int64_t>> rest = {};             // "..."
  std::optional<layout::Side> side = {};                          // this side of the line alone

  [[nodiscard]] auto operator<=>(const Rebinding&) const = default;
};

/// The axis sizes of one rule on one layout, in elements: expressions of the family file over the
/// geometry and `t`, the ranks that cut the parameter. Errors: IndivisibleDim naming what does not
/// divide; RulesInvalid for a rebinding of an axis that the rule does not have.
[[nodiscard]] Result<layout::Binding> binding_of(const model::Geometry& geometry,
                                                 const family::Rule& rule,
                                                 const parallel::Layout& layout,
                                                 const Rebinding& rebinding = {});

/// The rule's line of the catalogue with these sizes; it keeps a pointer to the line. Errors: those
/// of binding_of and BoundRule::bind; RulesInvalid for a kind that is not in the catalogue, and for
/// a side of a rule whose parameter is no matrix.
[[nodiscard]] Result<layout::BoundRule> bind_rule(const kinds::Catalogue& kinds,
                                                  const model::Geometry& geometry,
                                                  const family::Rule& rule,
                                                  const parallel::Layout& layout,
                                                  const Rebinding& rebinding = {});

/// Vpad = ceil(V / (D*t)) * D*t with --make-vocab-size-divisible-by D, else V
/// (docs/reference/semantics.md#vocabulary). Errors: SizeOutOfBounds for a D below 1 or a Vpad that
/// leaves 63 bits.
[[nodiscard]] Result<std::int64_t> padded_rows(std::int64_t rows, const parallel::Layout& layout);

}  // namespace bv::plan
