// The line of notation that a foreign rule stands for at one place of a family.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/base/text.hpp"
#include "core/foreign/rules_file.hpp"

namespace bv::foreign {
namespace {

/// A line with the sizes that it takes from the shapes of its tensors.
struct Line {
  std::string kind;
  std::map<std::string, std::string, std::less<>> axes;
  std::size_t rest = kNoRest;
};

/// Writes the dimensions of the tensors into an expression: "s0d1 / 2 / t" -> "64 / 2 / t".
Result<std::string> sized(std::string_view expression, const std::vector<Shape>& shapes,
                          const family::Rule& rule) {
  std::string out(expression);
  for (std::size_t s = 0; s < shapes.size(); ++s) {
    constexpr std::size_t kDims = 8;
    for (std::size_t d = 0; d < kDims; ++d) {
      const std::string word = fmt::format("s{}d{}", s, d);
      for (std::size_t at = out.find(word); at != std::string::npos; at = out.find(word)) {
        if (d >= shapes[s].size()) {
          return fail(Code::ShapeMismatch, fmt::format("rule {} needs {} dimensions of {}", rule.id,
                                                       d + 1, escaped(rule.hf[s].second)))
              .at(rule.source)
              .pair(shape_text(shapes[s]), fmt::format("at least {} dimensions", d + 1))
              .advise("use the kind that fits the tensor's shape");
        }
        out.replace(at, word.size(), std::to_string(shapes[s][d]));
      }
    }
  }
  return out;
}

bool sources_agree(const family::Rule& ours, const family::Rule& rule) {
  return std::equal(ours.hf.begin(), ours.hf.end(), rule.hf.begin(), rule.hf.end(),
                    [](const auto& a, const auto& b) { return a.first == b.first; });
}

/// The parallelism of an "auto" rule; its kind for any other.
Result<std::string_view> parallelism_of(const model::Model& wanted, const family::Rule& ours,
                                        const ForeignRule& foreign, const ForeignKinds& kinds,
                                        const ForeignKind& kind) {
  if (!kind.is_auto) {
    return std::string_view(kind.kind);
  }
  const std::string name = wanted.megatron_name({&ours, family::Stage::Decoder, 0, 0, {}}, 0);
  const std::string_view found = kinds.parallelism(name);
  if (found.empty()) {
    return unknown_module(foreign, name);
  }
  // A classification head (LinearForLastLayer) stands under the name of the output layer.
  return glob_match("*output_layer.*", name) && !ours.vocabulary ? std::string_view("replicated")
                                                                 : found;
}

/// The line that holds with permute_dims, which moves dimensions of the HF tensor.
Result<Line> permuted_line(const ForeignRule& foreign, const ForeignKinds& kinds,
                           const std::string& kind) {
  const auto found =
      std::find_if(kinds.permuted.begin(), kinds.permuted.end(),
                   [&kind](const ForeignKind& one) { return one.names.front() == kind; });
  if (found == kinds.permuted.end() || foreign.permutation != std::vector<std::int64_t>{1, 0}) {
    return fail(Code::RulesInvalid,
                fmt::format("rule {} permutes the dimensions of kind {} by [{}], for which there "
                            "is no line of notation",
                            foreign.id, escaped(kind), fmt::join(foreign.permutation, ", ")))
        .at(foreign.source)
        .pair(fmt::format("[{}]", fmt::join(foreign.permutation, ", ")),
              "[1, 0] on column, row or replicated")
        .advise("use a kind that says where each dimension goes");
  }
  return Line{found->kind, found->axes, kNoRest};
}

Result<Line> line_of(const model::Model& wanted, const family::Rule& ours,
                     const ForeignRule& foreign, const ForeignKinds& kinds,
                     const std::vector<Shape>& shapes) {
  const ForeignKind& kind = *kinds.find(foreign.kind);
  Line line{kind.kind, kind.axes, kind.rest};
  for (const auto& [flag, other] : kind.when) {
    if (wanted.geometry.get(flag).value_or(0) != 0) {
      line.kind = other;
    }
  }
  BV_TRY(parallelism, parallelism_of(wanted, ours, foreign, kinds, kind));
  const bool one_vector = shapes.front().size() == 1;
  if (parallelism == "replicated" || (parallelism == "row" && one_vector)) {
    line = {"replicated", {}, 0};
  } else if (parallelism == "row") {
    line = {"row", kinds.find("row")->axes, kNoRest};
  } else if (parallelism == "column" && ours.vocabulary) {
    line = {"vocabulary", kinds.find("vocabulary")->axes, line.rest};
  }
  if (kind.packed) {
    return foreign.transposed.value_or(ours.orientation == "in_out") &&
                   !kind.transposed_kind.empty()
               ? Line{kind.transposed_kind, kind.transposed_axes, kNoRest}
               : line;
  }
  return foreign.permutation.empty() ? Result<Line>(line)
                                     : permuted_line(foreign, kinds, line.kind);
}

}  // namespace

Status choose_line(const model::Model& wanted, const family::Rule& ours, const ForeignRule& foreign,
                   const ForeignKinds& kinds, const std::vector<Shape>& shapes,
                   family::Rule& rule) {
  BV_TRY(line, line_of(wanted, ours, foreign, kinds, shapes));
  rule.kind = line.kind;
  rule.vocabulary = rule.kind == "vocabulary";
  if (rule.kind == ours.kind && sources_agree(ours, rule)) {
    rule.axes = ours.axes;  // the sizes come from the config: header shapes are checked against
    rule.rest = ours.rest;
    return Done{};
  }
  rule.axes.clear();
  for (const auto& [axis, expression] : line.axes) {
    BV_TRY(text, sized(expression, shapes, rule));
    rule.axes[axis] = std::move(text);
  }
  rule.rest.clear();
  for (std::size_t d = line.rest; d < shapes.front().size(); ++d) {
    rule.rest.push_back(std::to_string(shapes.front()[d]));
  }
  return Done{};
}

}  // namespace bv::foreign
