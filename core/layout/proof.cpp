#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/layout/notation.hpp"

namespace bv::layout {
namespace {

constexpr std::string_view kPad = "pad";

/// All ways to choose one alternative at every sum of a product, in order.
std::vector<Part> expand(const Product& product) {
  std::vector<Part> parts(1);
  for (const Factor& factor : product) {
    if (factor.kind == Factor::Kind::Axis) {
      for (Part& part : parts) {
        (factor.replica ? part.replicas : part.axes).push_back(factor.axis);
      }
      continue;
    }
    if (factor.kind == Factor::Kind::One) {
      continue;
    }
    std::vector<Part> longer;
    for (const Part& head : parts) {
      for (const Choice& choice : factor.choices) {
        for (const Part& tail : expand(choice.product)) {
          Part joined = head;
          const std::string inner = tail.name.empty() ? choice.name : tail.name;
          joined.name += (joined.name.empty() ? "" : ".") + inner;
          joined.at = choice.at;
          joined.axes.insert(joined.axes.end(), tail.axes.begin(), tail.axes.end());
          joined.replicas.insert(joined.replicas.end(), tail.replicas.begin(), tail.replicas.end());
          longer.push_back(std::move(joined));
        }
      }
    }
    parts = std::move(longer);
  }
  return parts;
}

std::vector<Part> parts_of(const std::vector<TensorExpr>& tensors) {
  std::vector<Part> out;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const TensorExpr& tensor = tensors[i];
    Product whole;
    for (const GridAxis& axis : tensor.grid) {
      Factor factor;
      factor.kind = Factor::Kind::Axis;
      factor.axis = axis.axis;
      factor.replica = axis.replica;
      whole.push_back(std::move(factor));
    }
    for (const Dim& dim : tensor.dims) {
      if (dim.rest) {
        Factor factor;
        factor.kind = Factor::Kind::Axis;
        factor.axis = "...";
        whole.push_back(std::move(factor));
      } else {
        whole.insert(whole.end(), dim.product.begin(), dim.product.end());
      }
    }
    for (Part& part : expand(whole)) {
      if (part.name.empty()) {
        part.name = tensor.name;
        part.at = tensor.at;
      }
      part.tensor = i;
      out.push_back(std::move(part));
    }
  }
  return out;
}

Error refuted(const Rule& rule, const Part& part, std::string message, std::string help) {
  return fail(Code::RulesInvalid, fmt::format("kind {}: {}", rule.name, message))
      .at(fmt::format("{}:{}:{}", rule.name, part.at.line, part.at.column))
      .advise(std::move(help));
}

Result<std::map<std::string, Part>> by_name(const Rule& rule, std::vector<Part> parts,
                                            std::string_view side) {
  std::map<std::string, Part> out;
  for (Part& part : parts) {
    std::vector<std::string> all = part.axes;
    all.insert(all.end(), part.replicas.begin(), part.replicas.end());
    std::sort(all.begin(), all.end());
    if (const auto twice = std::adjacent_find(all.begin(), all.end()); twice != all.end()) {
      return refuted(
          rule, part,
          fmt::format("part {} has axis {} twice on the {} side", part.name, *twice, side),
          "give the second axis a name of its own, also if both have one size");
    }
    const auto [place, fresh] = out.emplace(part.name, part);
    if (!fresh) {
      return refuted(rule, part,
                     fmt::format("part {} appears twice on the {} side", part.name, side),
                     "every part appears once on each side");
    }
  }
  return out;
}

}  // namespace

std::vector<Part> source_parts(const Rule& rule) {
  return parts_of(rule.sources);
}
std::vector<Part> target_parts(const Rule& rule) {
  return parts_of(rule.targets);
}

std::vector<bool> copied_sources(const Rule& rule) {
  Rule without_grid = rule;
  for (TensorExpr& target : without_grid.targets) {
    target.grid.clear();
  }
  std::set<std::string> copied;
  for (const Part& part : target_parts(without_grid)) {
    if (!part.replicas.empty()) {
      copied.insert(part.name);
    }
  }
  std::vector<bool> out(rule.sources.size(), false);
  for (const Part& part : source_parts(rule)) {
    out[part.tensor] = out[part.tensor] || copied.contains(part.name);
  }
  return out;
}

namespace {

/// A cut counts its ranks by itself: an axis that the grid has taken already would be cut twice.
Status check_cut(const Rule& rule) {
  for (const TensorExpr& target : rule.targets) {
    for (const GridAxis& axis : target.grid) {
      if (rule.cut && axis.axis == rule.cut->axis) {
        Part whole;
        whole.at = target.at;
        return refuted(rule, whole,
                       fmt::format("tensor {} is cut by {}, which is in its grid as well",
                                   target.name, axis.axis),
                       "leave the cut away, or take the axis out of the braces");
      }
    }
  }
  return Done{};
}

/// A HF tensor is read whole by every rank: a grid on its side would count its elements again for
/// each place.
Status check_sources(const Rule& rule) {
  for (const TensorExpr& source : rule.sources) {
    if (!source.grid.empty()) {
      Part whole;
      whole.at = source.at;
      return refuted(rule, whole,
                     fmt::format("tensor {} of the source lies on the process grid ({{{}}})",
                                 source.name, source.grid.front().axis),
                     "write the axis inside the brackets: only the target is cut by the grid");
    }
  }
  return Done{};
}

}  // namespace

Status prove_bijection(const Rule& rule) {
  BV_CHECK(check_sources(rule));
  BV_CHECK(check_cut(rule));
  BV_TRY(sources, by_name(rule, source_parts(rule), "source"));
  BV_TRY(targets, by_name(rule, target_parts(rule), "target"));
  for (const auto& [name, source] : sources) {
    if (!source.replicas.empty()) {
      return refuted(
          rule, source,
          fmt::format("part {} replicates axis {} on the source side", name, source.replicas[0]),
          "replicas are declared on the target side only");
    }
    if (!targets.contains(name)) {
      return refuted(rule, source, fmt::format("part {} of the source goes nowhere", name),
                     fmt::format("add a part named {} to the target", name));
    }
  }
  for (const auto& [name, target] : targets) {
    const auto source = sources.find(name);
    if (source == sources.end()) {
      if (name == kPad) {
        continue;  // declared: zero-filled
      }
      return refuted(
          rule, target, fmt::format("part {} of the target comes from nowhere", name),
          fmt::format("add a source part named {}, or call it pad if it is zero-filled", name));
    }
    for (const std::string& axis : target.axes) {
      if (std::find(source->second.axes.begin(), source->second.axes.end(), axis) ==
          source->second.axes.end()) {
        return refuted(
            rule, target,
            fmt::format("part {}: axis {} appears on the target side only", name, axis),
            fmt::format(
                "add {} to the source, or write *{} if all its positions hold the same elements",
                axis, axis));
      }
    }
    for (const std::string& axis : source->second.axes) {
      if (std::find(target.axes.begin(), target.axes.end(), axis) == target.axes.end()) {
        return refuted(rule, source->second,
                       fmt::format("part {}: axis {} appears on the source side only", name, axis),
                       fmt::format("add {} to part {} of the target", axis, name));
      }
    }
  }
  return Done{};
}

}  // namespace bv::layout
