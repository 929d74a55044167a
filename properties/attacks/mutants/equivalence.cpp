#include "properties/attacks/mutants/equivalence.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/base/text.hpp"
#include "core/family/expression.hpp"
#include "core/kinds/values.hpp"
#include "core/layout/notation.hpp"
#include "properties/attacks/mutants/move_changes.hpp"
#include "properties/attacks/mutants/tags.hpp"

namespace bv::mutants {
namespace {

using layout::Choice;
using layout::Dim;
using layout::Factor;
using layout::Product;
using layout::Rule;
using layout::TensorExpr;

constexpr std::array<std::string_view, kReasons> kNames = {"fixed axis", "one rank", "no padding",
                                                           "unit axis", "these sizes"};

/// Moves by the tensor that they write: a mutant may leave out or add some.
using ByTarget = std::map<std::pair<std::size_t, std::string>, const Move*>;
ByTarget by_target(const Program& program) {
  ByTarget out;
  for (const Move& move : program.moves) {
    out.emplace(std::pair(move.file, move.name), &move);
  }
  return out;
}

/// Both compute the same bits of every value of a 16-bit type, there and back.
bool same_for_every_pattern(const Move& a, const Move& b, DType dtype) {
  if (bytes(dtype) != 2 || a.arithmetic.in_place || b.arithmetic.in_place) {
    return false;
  }
  Tensor all{dtype, {1 << 16}, std::vector<std::byte>(std::size_t{2} << 16U)};
  for (std::uint32_t pattern = 0; pattern < 1U << 16U; ++pattern) {
    const auto bits = static_cast<std::uint16_t>(pattern);
    std::memcpy(all.bytes.data() + std::size_t{2} * pattern, &bits, sizeof bits);
  }
  return computed(a, all) == computed(b, all);
}

bool same_arithmetic(const Reference& reference, const Program& found) {
  const ByTarget moves = by_target(found);
  for (const Move& right : reference.right().moves) {
    const auto match = moves.find({right.file, right.name});
    if (match == moves.end()) {
      continue;  // an owner that is not read; the tags say that another gives the same
    }
    const Move& move = *match->second;
    if (move.stale || right.stale) {
      return false;
    }
    if (move.arithmetic == right.arithmetic) {
      continue;
    }
    for (const std::string& hf : right.hf) {
      const DType dtype = reference.model().headers.find(hf)->second.dtype;
      if (!same_for_every_pattern(move, right, dtype)) {
        return false;
      }
    }
  }
  return true;
}

/// Every shard and every exported tensor has the tags of the right bridge.
bool same_places(const Reference& reference, const Attack& attack) {
  Tensors right_tags = reference.tags();
  const Image right = run_import(reference.right(), reference.right(), right_tags, poison);
  Tensors tags = reference.tags();
  const Image found = run_import(reference.right(), attack.way_there, tags, poison);
  if (!found.loud.empty() || !found.refusals.empty() || found.filled != right.filled ||
      found.files != right.files) {
    return false;
  }
  const Export back = run_export(attack.way_back, found, reference.tag_headers(), kPoison);
  return back.loud.empty() && back.tensors == reference.tags();
}

void drop_axes(Product& product, const std::vector<std::string>& axes, bool without_pad) {
  std::erase_if(product, [&](const Factor& factor) {
    return factor.kind == Factor::Kind::One ||
           (factor.kind == Factor::Kind::Axis &&
            std::find(axes.begin(), axes.end(), factor.axis) != axes.end());
  });
  for (std::size_t i = 0; i < product.size(); ++i) {
    std::vector<Choice>& choices = product[i].choices;
    if (without_pad) {
      std::erase_if(choices, [](const Choice& choice) { return choice.name == "pad"; });
    }
    for (Choice& choice : choices) {
      drop_axes(choice.product, axes, without_pad);
    }
    if (choices.size() == 1) {
      const Product only = choices.front().product;
      product.erase(product.begin() + static_cast<std::ptrdiff_t>(i));
      product.insert(product.begin() + static_cast<std::ptrdiff_t>(i), only.begin(), only.end());
      --i;
    }
  }
}

/// Axes of size 1, those that the rule itself says are 1 first.
struct UnitAxes {
  std::vector<std::string> fixed;
  std::vector<std::string> sized;
  std::vector<std::string> ranks;  // axes of the changed line that are the ranks of the group
  bool one_rank = false;
  bool no_padding = false;
};

/// "1", or the ratio of two numbers that the family wants equal.
bool is_one_for_every_config(const family::Family& family, const std::string& expression) {
  const std::size_t slash = expression.find(" / ");
  return expression == "1" ||
         (slash != std::string::npos &&
          family::must_be_equal(family, expression.substr(0, slash), expression.substr(slash + 3)));
}

UnitAxes unit_axes(const Reference& reference, const family::Rule& rule, const Mutant& mutant) {
  UnitAxes out;
  const auto binding =
      plan::binding_of(reference.model().model.geometry, rule, reference.right().layout);
  if (!binding) {
    return out;
  }
  for (const auto& [axis, size] : binding->axes) {
    const auto expression = rule.axes.find(axis);
    if (axis == "p") {
      out.no_padding = size == 0;
    } else if (axis == "t") {
      out.one_rank = size == 1;
    } else if (size == 1) {
      const bool fixed =
          expression != rule.axes.end() &&
          is_one_for_every_config(*reference.model().model.family, expression->second);
      (fixed ? out.fixed : out.sized).push_back(axis);
    }
  }
  auto symbols = reference.model().model.geometry.with(rule.sizes);
  symbols["t"] = binding->axes.find("t")->second;
  for (const auto& [key, expression] : mutant.parameters) {
    if (!key.starts_with("axis ")) {
      continue;
    }
    const auto size = family::evaluate(expression, symbols);
    if (size && *size == 1) {
      (expression == "t" ? out.ranks : out.sized).push_back(key.substr(5));
    }
  }
  return out;
}

/// The reason of a changed line: the smallest set of unit axes without which the two lines are one.
std::optional<Equivalence> reason_on_the_text(const Rule& right, const Rule& changed,
                                              const UnitAxes& unit) {
  const auto one_line = [&](const std::vector<std::string>& axes, bool no_padding) {
    Rule a = without_axes(right, axes, no_padding);
    a.name = changed.name;
    return a == without_axes(changed, axes, no_padding);
  };
  const auto sentence = [](std::string_view what) {
    return fmt::format("{}; without it the changed line is the right one", what);
  };
  if (one_line(unit.fixed, false)) {
    return Equivalence{Reason::FixedAxis, sentence(fmt::format("the rule gives {} the size 1",
                                                               join(unit.fixed, ", ")))};
  }
  std::vector<std::string> ranks = unit.ranks;
  ranks.emplace_back("t");
  if (unit.one_rank && one_line(ranks, false)) {
    return Equivalence{Reason::OneRank, sentence("the group has one rank, axis t has size 1")};
  }
  if (unit.no_padding && one_line({}, true)) {
    return Equivalence{Reason::NoPadding, sentence("the part pad has no rows")};
  }
  std::vector<std::string> all = unit.fixed;
  all.insert(all.end(), unit.sized.begin(), unit.sized.end());
  if (unit.one_rank) {
    all.insert(all.end(), ranks.begin(), ranks.end());
  }
  if (!all.empty() && one_line(all, unit.no_padding)) {
    return Equivalence{Reason::UnitAxis, sentence(fmt::format("{} {} size 1", join(all, ", "),
                                                              all.size() > 1 ? "have" : "has"))};
  }
  return std::nullopt;
}

/// A tensor of one element, whatever the sizes of the model: nothing in it can change places.
bool has_one_element(const family::Rule& rule) {
  const auto one = [](std::string_view text) { return text == "1"; };
  return !rule.rest.empty() && std::ranges::all_of(rule.rest, one) &&
         std::ranges::all_of(rule.axes, [&](const auto& axis) { return one(axis.second); });
}

Equivalence reason_of(const Library& library, const Reference& reference, const Mutant& mutant) {
  const Equivalence sizes{Reason::TheseSizes,
                          "every element carries its tag to the same place, there and back"};
  const Program& right = reference.right();
  const auto hit = std::find_if(right.moves.begin(), right.moves.end(),
                                [&](const Move& move) { return hits(mutant, move); });
  const family::Rule& rule = *reference.model().model.mappings[hit->mapping].rule;
  const Rule* line = library.kinds.find(rule.kind);
  if (line == nullptr) {
    return sizes;
  }
  if (has_one_element(rule)) {
    return {Reason::FixedAxis, "the rule gives the tensor one element"};
  }
  const auto changed = mutant.parameters.find("line");
  if (changed == mutant.parameters.end()) {
    return sizes;
  }
  auto parsed = layout::parse_rule(changed->second, "mutant");
  if (!parsed) {
    return sizes;
  }
  return reason_on_the_text(*line, *parsed, unit_axes(reference, rule, mutant)).value_or(sizes);
}

}  // namespace

std::string_view name(Reason reason) {
  return kNames[static_cast<std::size_t>(reason)];
}

bool holds_everywhere(Reason reason) {
  return reason == Reason::FixedAxis;
}

Rule without_axes(const Rule& line, const std::vector<std::string>& axes, bool without_pad) {
  Rule out = line;
  const auto reduce = [&](std::vector<TensorExpr>& tensors) {
    for (TensorExpr& tensor : tensors) {
      std::erase_if(tensor.grid, [&](const layout::GridAxis& axis) {
        return std::find(axes.begin(), axes.end(), axis.axis) != axes.end();
      });
      for (Dim& dim : tensor.dims) {
        drop_axes(dim.product, axes, without_pad);
      }
    }
  };
  reduce(out.sources);
  reduce(out.targets);
  if (out.cut && std::find(axes.begin(), axes.end(), out.cut->axis) != axes.end()) {
    out.cut.reset();
  }
  return out;
}

std::optional<Equivalence> prove_equivalent(const Library& library, const Reference& reference,
                                            const Mutant& mutant, const Attack& attack) {
  if (attack.refused || !same_places(reference, attack) ||
      !same_arithmetic(reference, attack.way_there) ||
      !same_arithmetic(reference, attack.way_back)) {
    return std::nullopt;
  }
  return reason_of(library, reference, mutant);
}

}  // namespace bv::mutants
