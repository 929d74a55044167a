#include "core/layout/side.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/layout/notation.hpp"

namespace bv::layout {
namespace {

using Axes = std::set<std::string, std::less<>>;

constexpr const char* kRest = "...";

void add_axes(const Product& product, Axes& out, bool& sums) {
  for (const Factor& factor : product) {
    if (factor.kind == Factor::Kind::Axis) {
      out.insert(factor.axis);
    }
    for (const Choice& choice : factor.choices) {
      sums = true;
      add_axes(choice.product, out, sums);
    }
  }
}

enum class DimRole { Row, Column, Grid, Both };

struct Roles {
  Axes columns;  // of the target
  Axes grid;

  [[nodiscard]] DimRole of(const Dim& dim) const {
    if (dim.rest) {
      return columns.contains(kRest) ? DimRole::Column : DimRole::Row;
    }
    Axes axes;
    bool sums = false;
    add_axes(dim.product, axes, sums);
    for (const std::string& axis : grid) {
      axes.erase(axis);
    }
    if (axes.empty()) {
      return sums ? DimRole::Row : DimRole::Grid;
    }
    const auto in_columns = std::count_if(
        axes.begin(), axes.end(), [&](const std::string& axis) { return columns.contains(axis); });
    return in_columns == 0                                       ? DimRole::Row
           : static_cast<std::size_t>(in_columns) == axes.size() ? DimRole::Column
                                                                 : DimRole::Both;
  }
};

Roles roles_of(const TensorExpr& target) {
  Roles out;
  bool sums = false;
  for (std::size_t i = 1; i < target.dims.size(); ++i) {
    if (target.dims[i].rest) {
      out.columns.insert(kRest);
    }
    add_axes(target.dims[i].product, out.columns, sums);
  }
  for (const GridAxis& axis : target.grid) {
    out.grid.insert(axis.axis);
  }
  return out;
}

Error no_sides(const Rule& rule, const std::string& why) {
  return fail(Code::RulesInvalid, fmt::format("{} has no rows and columns: {}", rule.name, why))
      .pair(print(rule), "one target [rows columns], and sources whose dimensions are either")
      .advise("an adapter needs a weight of two dimensions; merge it instead");
}

/// The dimensions of one side, which must be neighbours: rows are numbered through them.
Result<TensorExpr> source_side(const Rule& rule, const TensorExpr& source, const Roles& roles,
                               DimRole wanted) {
  TensorExpr out;
  out.name = source.name;
  std::size_t last = 0;
  for (std::size_t i = 0; i < source.dims.size(); ++i) {
    const DimRole role = roles.of(source.dims[i]);
    if (role == DimRole::Both) {
      return no_sides(rule, fmt::format("a dimension of {} holds both", source.name));
    }
    if (role != wanted) {
      continue;
    }
    if (!out.dims.empty() && last + 1 != i) {
      return no_sides(rule, fmt::format("the dimensions of {} alternate", source.name));
    }
    last = i;
    out.dims.push_back(source.dims[i]);
  }
  return out;
}

/// Grid axes that still place something: replicas, and those of the sources that are left.
std::vector<GridAxis> grid_left(const TensorExpr& target, const std::vector<TensorExpr>& sources) {
  Axes axes;
  bool sums = false;
  for (const TensorExpr& source : sources) {
    for (const Dim& dim : source.dims) {
      add_axes(dim.product, axes, sums);
    }
  }
  std::vector<GridAxis> out;
  for (const GridAxis& axis : target.grid) {
    if (axis.replica || axes.contains(axis.axis)) {
      out.push_back(axis);
    }
  }
  return out;
}

}  // namespace

bool is_unnamed(const TensorExpr& tensor) {
  return tensor.dims.size() == 1 && tensor.dims.front().rest;
}

Result<Rule> side_of(const Rule& rule, Side side) {
  if (rule.targets.size() != 1) {
    return no_sides(rule, "it makes several tensors");
  }
  const TensorExpr& target = rule.targets.front();
  if (is_unnamed(target)) {
    return rule;
  }
  if (target.dims.size() < 2) {
    return no_sides(rule, "its target has no columns");
  }
  const Roles roles = roles_of(target);
  const bool rows = side == Side::Rows;
  Rule out;
  out.name = fmt::format("{} {}", rule.name, rows ? "rows" : "columns");
  for (const TensorExpr& source : rule.sources) {
    BV_TRY(part, source_side(rule, source, roles, rows ? DimRole::Row : DimRole::Column));
    out.sources.push_back(std::move(part));
  }
  TensorExpr end;
  end.name = target.name;
  if (rows) {
    end.dims = {target.dims.front()};
    out.cut = rule.cut;
  } else {
    end.dims.assign(target.dims.begin() + 1, target.dims.end());
    for (const TensorExpr& source : out.sources) {
      if (!(source.dims == out.sources.front().dims)) {
        return no_sides(rule, "its sources have different columns");
      }
    }
    out.sources.resize(1);
    out.sources.front().name = end.name;
  }
  end.grid = grid_left(target, out.sources);
  out.targets.push_back(std::move(end));
  BV_CHECK(prove_bijection(out));
  return out;
}

bool stores_columns_first(const Rule& rule) {
  if (rule.targets.empty() || is_unnamed(rule.targets.front())) {
    return false;
  }
  const Roles roles = roles_of(rule.targets.front());
  for (const TensorExpr& source : rule.sources) {
    for (const Dim& dim : source.dims) {
      const DimRole role = roles.of(dim);
      if (role != DimRole::Grid) {
        return role == DimRole::Column;
      }
    }
  }
  return false;
}

}  // namespace bv::layout
