// Changes of one notation line. Each is made on the tree, so that every line of the catalogue, also
// one that is added later, has its mutants.

#include <algorithm>
#include <functional>

#include "core/layout/notation.hpp"
#include "properties/attacks/mutants/mutant.hpp"

namespace bv::mutants {
namespace {

using layout::Choice;
using layout::Dim;
using layout::Factor;
using layout::Product;
using layout::Rule;
using layout::TensorExpr;

/// Calls `visit` with every product of a tensor, outermost first; the visitor may change it.
void each_product(Product& product, const std::function<void(Product&)>& visit) {
  visit(product);
  for (Factor& factor : product) {
    for (Choice& choice : factor.choices) {
      each_product(choice.product, visit);
    }
  }
}

std::vector<TensorExpr*> tensors_of(Rule& line) {
  std::vector<TensorExpr*> out;
  for (TensorExpr& tensor : line.sources) {
    out.push_back(&tensor);
  }
  for (TensorExpr& tensor : line.targets) {
    out.push_back(&tensor);
  }
  return out;
}

/// Runs `change` on the `which`-th product of a copy of `line`; `change` says whether it did
/// something.
class Products {
 public:
  explicit Products(const Rule& line) : line_(line) {}

  [[nodiscard]] std::size_t count() const {
    Rule copy = line_;
    std::size_t n = 0;
    visit_all(copy, [&](Product&, bool) { ++n; });
    return n;
  }

  [[nodiscard]] std::optional<Rule> with(
      std::size_t which, const std::function<bool(Product&, bool on_target)>& change) const {
    Rule copy = line_;
    std::size_t n = 0;
    bool changed = false;
    visit_all(copy, [&](Product& product, bool on_target) {
      if (n++ == which) {
        changed = change(product, on_target);
      }
    });
    return changed ? std::optional(copy) : std::nullopt;
  }

 private:
  static void visit_all(Rule& line, const std::function<void(Product&, bool)>& visit) {
    const std::size_t sources = line.sources.size();
    std::size_t at = 0;
    for (TensorExpr* tensor : tensors_of(line)) {
      const bool on_target = at++ >= sources;
      for (Dim& dim : tensor->dims) {
        if (dim.rest) {
          continue;
        }
        std::vector<Product*> list;
        each_product(dim.product, [&](Product& one) { list.push_back(&one); });
        for (Product* one : list) {
          visit(*one, on_target);
        }
      }
    }
  }

  const Rule& line_;
};

bool is_sum(const Factor& factor) {
  return factor.kind == Factor::Kind::Sum;
}

bool has_pad(const Factor& sum) {
  return std::any_of(sum.choices.begin(), sum.choices.end(),
                     [](const Choice& choice) { return choice.name == "pad"; });
}

/// Two parts of one sum stand in each other's place.
void swap_choices(const Rule& line, std::vector<LineChange>& out) {
  const Products products(line);
  for (std::size_t p = 0; p < products.count(); ++p) {
    for (std::size_t i = 0; i < 6; ++i) {
      for (std::size_t j = i + 1; j < 6; ++j) {
        bool pad = false;
        auto changed = products.with(p, [&](Product& product, bool) {
          if (product.empty() || !is_sum(product.back()) || j >= product.back().choices.size()) {
            return false;
          }
          pad = has_pad(product.back());
          std::swap(product.back().choices[i], product.back().choices[j]);
          return true;
        });
        if (changed) {
          out.push_back({pad ? Operator::Pad : Operator::Swap, std::move(*changed), {}, false});
        }
      }
    }
  }
}

/// Two neighbouring axes exchanged: head-major for group-major, rank-minor for rank-major.
void swap_axes(const Rule& line, std::vector<LineChange>& out) {
  const Products products(line);
  for (std::size_t p = 0; p < products.count(); ++p) {
    for (std::size_t i = 0; i < 6; ++i) {
      auto changed = products.with(p, [&](Product& product, bool) {
        if (i + 1 >= product.size() || is_sum(product[i + 1]) || is_sum(product[i])) {
          return false;
        }
        std::swap(product[i], product[i + 1]);
        return true;
      });
      if (changed) {
        out.push_back({Operator::Perm, std::move(*changed), {}, false});
      }
    }
  }
}

/// The axis before a sum goes into its parts: all queries, all keys, all values. On the target that
/// is another order of the rows; on the source it is a wrong cut point.
void hoist_sums(const Rule& line, std::vector<LineChange>& out) {
  const Products products(line);
  for (std::size_t p = 0; p < products.count(); ++p) {
    bool target = false;
    auto changed = products.with(p, [&](Product& product, bool on_target) {
      if (product.size() < 2 || !is_sum(product.back()) || has_pad(product.back())) {
        return false;
      }
      target = on_target;
      const std::size_t at = product.size() - 2;
      const Factor axis = product[at];
      product.erase(product.begin() + static_cast<std::ptrdiff_t>(at));
      for (Choice& choice : product.back().choices) {
        choice.product.insert(choice.product.begin(), axis);
      }
      return true;
    });
    if (changed) {
      out.push_back({target ? Operator::Perm : Operator::Split, std::move(*changed), {}, false});
    }
  }
}

/// The line with its axis t at the front of every part of the target's rows, in place of the grid:
/// the parts of all ranks, joined. nullopt when it is not cut by t.
std::optional<Rule> joined(const Rule& line) {
  if (line.cut || line.targets.size() != 1 || line.targets[0].dims.empty() ||
      line.targets[0].dims[0].rest) {
    return std::nullopt;
  }
  Rule changed = line;
  TensorExpr& target = changed.targets[0];
  const auto grid = std::find_if(target.grid.begin(), target.grid.end(), [](const auto& axis) {
    return axis.axis == "t" && !axis.replica;
  });
  if (grid == target.grid.end()) {
    return std::nullopt;
  }
  Factor t;
  t.kind = Factor::Kind::Axis;
  t.axis = "t";
  target.grid.erase(grid);
  Product& rows = target.dims[0].product;
  if (!rows.empty() && is_sum(rows.back())) {
    for (Choice& choice : rows.back().choices) {
      choice.product.insert(choice.product.begin(), t);
    }
  } else {
    rows.insert(rows.begin(), t);
  }
  return changed;
}

/// The whole is joined first and cut then, instead of each part being cut. Of one part that would
/// be the same.
void cut_after_joining(const Rule& line, std::vector<LineChange>& out) {
  auto changed = joined(line);
  if (changed && !changed->targets[0].dims[0].product.empty() &&
      is_sum(changed->targets[0].dims[0].product.back())) {
    changed->cut = layout::Cut{"t"};
    out.push_back({Operator::FlatChunk, std::move(*changed), {}, false});
  }
}

void rename_axis(Rule& line, std::string_view from, const std::string& to) {
  for (TensorExpr* tensor : tensors_of(line)) {
    for (Dim& dim : tensor->dims) {
      each_product(dim.product, [&](Product& product) {
        for (Factor& factor : product) {
          factor.axis = factor.axis == from ? to : factor.axis;
        }
      });
    }
  }
}

/// What is cut stands whole on every rank, and the other way round.
void replicate_or_shard(const Rule& line, std::vector<LineChange>& out) {
  Rule changed = line;
  TensorExpr& target = changed.targets[0];
  for (std::size_t i = 0; i < target.grid.size(); ++i) {
    if (target.grid[i].axis != "t") {
      continue;
    }
    if (target.grid[i].replica) {
      target.grid.erase(target.grid.begin() + static_cast<std::ptrdiff_t>(i));
      changed.cut = layout::Cut{"t"};
      out.push_back({Operator::ReplShard, std::move(changed), {}, false});
    } else if (auto whole = joined(line)) {
      rename_axis(*whole, "t", "ranks");
      whole->targets[0].grid.push_back({"t", true});
      out.push_back({Operator::ReplShard, std::move(*whole), {{"ranks", "t"}}, false});
    }
    return;
  }
  if (line.cut) {
    changed.cut = std::nullopt;
    out.push_back({Operator::ReplShard, changed, {}, false});
  }
}

/// Two dimensions of a source exchanged. A carried dimension becomes an axis first.
void transpose_sources(const Rule& line, const std::vector<std::string>& rest,
                       std::vector<LineChange>& out) {
  Rule named = line;
  LineChange change{Operator::Transpose, {}, {}, false};
  const bool carries = std::any_of(line.sources.begin(), line.sources.end(), [](const auto& one) {
    return !one.dims.empty() && one.dims.back().rest;
  });
  if (carries && (rest.size() != 1 || line.sources[0].dims.size() < 2)) {
    return;
  }
  if (carries) {
    change.axes["carried"] = rest[0];
    change.drops_rest = true;
    Factor axis;
    axis.kind = Factor::Kind::Axis;
    axis.axis = "carried";
    for (TensorExpr* tensor : tensors_of(named)) {
      if (!tensor->dims.empty() && tensor->dims.back().rest) {
        tensor->dims.back() = Dim{{axis}, false, {}};
      }
    }
  }
  for (TensorExpr& source : named.sources) {
    const std::size_t n = source.dims.size();
    if (n >= 2 && !source.dims[n - 1].rest && !source.dims[n - 2].rest) {
      std::swap(source.dims[n - 1], source.dims[n - 2]);
    }
  }
  change.line = std::move(named);
  out.push_back(std::move(change));
}

}  // namespace

std::vector<LineChange> line_changes(const Rule& line, const std::vector<std::string>& rest) {
  std::vector<LineChange> out;
  replicate_or_shard(line, out);
  swap_choices(line, out);
  swap_axes(line, out);
  hoist_sums(line, out);
  cut_after_joining(line, out);
  transpose_sources(line, rest, out);
  std::erase_if(out, [&](const LineChange& change) { return change.line == line; });
  return out;
}

}  // namespace bv::mutants
