#pragma once
// A line of notation seen along one side of its matrix: the rows alone, or the columns alone. That
// is the line with the other side rebound to a single new axis, such as the rank of an adapter.
//
// Example: row  x[o (t i)] -> x{t}[o i]
//   rows     x[o] -> x[o]               B of an adapter: [o, rank], the same on every rank
//   columns  x[(t i)] -> x{t}[i]        A of an adapter: [rank, (t i)], cut as the weight is

#include "core/base/result.hpp"
#include "core/layout/ast.hpp"

namespace bv::layout {

enum class Side { Rows, Columns };

/// Rows: every source with what becomes rows of the target, and the line's cut. Columns: one
/// source, since all sources of a line share their columns. Axes that only the grid places
/// (experts) are left out: the result is that of one expert. A tensor that is "..." as a whole
/// stays so; the caller binds it to the one dimension. Errors: RulesInvalid for a line that has no
/// two such sides: a target without columns, a source dimension that holds both, or columns that
/// differ.
[[nodiscard]] Result<Rule> side_of(const Rule& rule, Side side);

/// Do the sources store columns first: [in, out]? false for "..." as a whole.
[[nodiscard]] bool stores_columns_first(const Rule& rule);

/// Is a tensor "..." as a whole: neither side is named?
[[nodiscard]] bool is_unnamed(const TensorExpr& tensor);

}  // namespace bv::layout
