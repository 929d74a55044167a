#include "core/foreign/foreign_line.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/base/text.hpp"
#include "core/family/expression.hpp"
#include "core/foreign/shown.hpp"
#include "core/layout/box.hpp"

namespace bv::foreign {
namespace {

/// Writes the dimensions of the tensors into an expression: "s0d1 / 2 / t" -> "64 / 2 / t".
Result<std::string> sized(std::string_view expression, const std::vector<Shape>& shapes,
                          const ForeignRule& foreign, const family::Rule& rule) {
  std::string out(expression);
  for (std::size_t s = 0; s < shapes.size(); ++s) {
    constexpr std::size_t kDims = 8;
    for (std::size_t d = 0; d < kDims; ++d) {
      const std::string word = fmt::format("s{}d{}", s, d);
      for (std::size_t at = out.find(word); at != std::string::npos; at = out.find(word)) {
        if (d >= shapes[s].size()) {
          return fail(Code::ShapeMismatch,
                      fmt::format("kind {} of {} needs a tensor of {} dimensions",
                                  shown(foreign.kind), named(foreign), d + 1))
              .at(foreign.source)
              .pair(fmt::format("{} {}", shown(rule.hf[s].second), shape_text(shapes[s])),
                    fmt::format("at least {} dimensions", d + 1))
              .advise("use the kind that fits the tensor's shape");
        }
        out.replace(at, word.size(), std::to_string(shapes[s][d]));
      }
    }
  }
  return out;
}

/// Names in an expression that neither the tensors nor the config give.
std::vector<std::string> unknown_numbers(const Sizes& axes, const model::Geometry& geometry) {
  std::vector<std::string> out;
  for (const auto& [axis, expression] : axes) {
    for (const std::string& word : family::identifiers(expression)) {
      const bool dimension = word.size() == 4 && word[0] == 's' && word[2] == 'd';
      if (word != "t" && !dimension && !geometry.get(word) &&
          std::find(out.begin(), out.end(), word) == out.end()) {
        out.push_back(word);
      }
    }
  }
  return out;
}

bool sources_agree(const family::Rule& row, const family::Rule& rule) {
  return std::equal(row.hf.begin(), row.hf.end(), rule.hf.begin(), rule.hf.end(),
                    [](const auto& a, const auto& b) { return a.first == b.first; });
}

class LineChooser {
 public:
  LineChooser(const model::Geometry& geometry, const ForeignKinds& kinds, const LinePlace& place,
              const ForeignRule& foreign, const std::vector<Shape>& shapes, family::Rule& rule)
      : geometry_(geometry),
        kinds_(kinds),
        place_(place),
        foreign_(foreign),
        kind_(*kinds.find(foreign.kind)),
        shapes_(shapes),
        rule_(rule) {}

  Status run() {
    BV_TRY(line, line_of());
    rule_.kind = line.kind;
    rule_.vocabulary = line.kind == "vocabulary";
    const family::Rule* row = place_.row;
    if (row != nullptr && place_.row_sizes && row->kind == rule_.kind &&
        sources_agree(*row, rule_)) {
      rule_.axes = row->axes;  // the sizes come from the config: header shapes are checked against
      rule_.rest = row->rest;
      return Done{};
    }
    return take_sizes(line);
  }

 private:
  Result<Line> line_of() {
    if (kind_.packed) {
      return foreign_.permutation.empty() ? packed_line() : permuted_line(kind_.line.kind);
    }
    Line line = kind_.line;
    for (const auto& [flag, other] : kind_.when) {
      if (place_.text && geometry_.get(flag).value_or(0) != 0) {
        line.kind = other;
      }
    }
    BV_TRY(parallelism, parallelism_of(line.kind));
    const bool one_vector = shapes_.front().size() == 1;
    if (parallelism == "replicated" || (parallelism == "row" && one_vector)) {
      line = kinds_.find("replicated")->line;
    } else if (parallelism == "row") {
      line = kinds_.find("row")->line;
    } else if (parallelism == "column" && place_.vocabulary) {
      line = kinds_.find("vocabulary")->line;
    }
    return foreign_.permutation.empty() ? Result<Line>(line) : permuted_line(line.kind);
  }

  /// The parallelism of an "auto" rule; its kind for any other.
  Result<std::string> parallelism_of(const std::string& kind) const {
    if (!kind_.is_auto) {
      return kind;
    }
    if (!place_.parallelism.empty()) {
      const bool bias = place_.parallelism == "row" && shapes_.front().size() == 1;
      return bias ? std::string("replicated") : place_.parallelism;
    }
    const std::string_view found = kinds_.parallelism(place_.parameter);
    if (found.empty()) {
      return unknown_module(foreign_, place_.parameter);
    }
    // A classification head (LinearForLastLayer) has the name of the output layer.
    const bool head = glob_match("*output_layer.*", place_.parameter) && place_.row != nullptr &&
                      !place_.vocabulary;
    return head ? std::string("replicated") : std::string(found);
  }

  /// The line that holds with permute_dims, which moves dimensions of the HF tensor.
  Result<Line> permuted_line(const std::string& kind) const {
    const auto found =
        std::find_if(kinds_.permuted.begin(), kinds_.permuted.end(),
                     [&kind](const ForeignKind& one) { return one.names.front() == kind; });
    if (found == kinds_.permuted.end() || foreign_.permutation != std::vector<std::int64_t>{1, 0}) {
      return fail(Code::RuleMalformed,
                  fmt::format("{} permutes the dimensions of kind {} by [{}], which no line of "
                              "notation does",
                              named(foreign_), kind, fmt::join(foreign_.permutation, ", ")))
          .at(foreign_.source)
          .pair(fmt::format("[{}]", fmt::join(foreign_.permutation, ", ")),
                "[1, 0] on column, row or replicated")
          .advise("use a kind that says where each dimension goes");
    }
    return found->line;
  }

  /// A stack of AutoMapping is cut as its module is: a first projection without a gate by rows.
  bool is_column() const {
    return kind_.column && (place_.parallelism.empty() ? kinds_.parallelism(place_.parameter)
                                                       : place_.parallelism) == "column";
  }

  Result<Line> packed_line() {
    const std::size_t dimensions = shapes_.front().size();
    if (is_column()) {
      rule_.hf.front().first = kinds_.find(kind_.column->kind)->sources.front().front();
      if (dimensions != 3) {
        return *kind_.column;  // a bias: one dimension less
      }
    }
    if (kind_.bias && dimensions == 2) {
      return *kind_.bias;
    }
    if (kind_.pair && dimensions == 4) {
      return *kind_.pair;
    }
    if (!kind_.transposed || dimensions != 3) {
      return kind_.line;
    }
    BV_TRY(in_out, is_in_out());
    rule_.orientation = in_out ? family::Orientation::InOut : family::Orientation::OutIn;
    if (is_column()) {
      return in_out ? *kind_.column_transposed : *kind_.column;
    }
    return in_out ? *kind_.transposed : kind_.line;
  }

  /// What experts read and write: hidden_size, or what it is projected to for them (Nemotron 3).
  std::string_view width_name() const {
    return geometry_.get("moe_latent_size").value_or(0) > 0 ? "moe_latent_size" : "hidden_size";
  }

  /// The dimension of [E, out, in] that has hidden_size.
  std::size_t hidden_dimension() const { return is_column() ? 3 - kind_.hidden : kind_.hidden; }

  /// How the stack is stored: as declared, else by where hidden_size stands.
  Result<bool> is_in_out() const {
    if (foreign_.orientation != family::Orientation::ByShape) {
      return foreign_.orientation == family::Orientation::InOut;
    }
    const Shape& shape = shapes_.front();
    const std::int64_t out_in = shape[hidden_dimension()];
    const std::int64_t in_out = shape[3 - hidden_dimension()];
    const auto hidden = geometry_.get(width_name());
    if (hidden && out_in != in_out && (out_in == *hidden || in_out == *hidden)) {
      return in_out == *hidden;
    }
    if (out_in == in_out && place_.orientation != family::Orientation::ByShape) {
      return place_.orientation == family::Orientation::InOut;
    }
    const std::string size = hidden ? std::to_string(*hidden) : "not in config.json";
    if (out_in == in_out) {
      return fail(Code::AmbiguousTranspose,
                  fmt::format("the expert stack of {} is square, and nothing says how it is stored",
                              named(foreign_)))
          .at(foreign_.source)
          .pair(fmt::format("{} {}", shown(rule_.hf.front().second), shape_text(shape)),
                "\"orientation\" in the rule's parameters: out_in for [E, out, in], in_out for [E, "
                "in, out]")
          .advise("say it in the rule, or with --expert-orientation");
    }
    return fail(Code::SizeInDoubt,
                fmt::format(
                    "how the expert stack of {} is stored cannot be determined from its shape",
                    named(foreign_)))
        .at(foreign_.source)
        .pair(fmt::format("{} {}, {} {}", shown(rule_.hf.front().second), shape_text(shape),
                          width_name(), size),
              fmt::format("{} as dimension {} or {}", width_name(), hidden_dimension(),
                          3 - hidden_dimension()))
        .advise("say it in the rule: \"parameters\": {\"orientation\": \"out_in\"}");
  }

  /// The sizes of a module outside the text model are its own.
  Result<const Sizes*> sizes_of(const Line& line) const {
    std::vector<std::string> missing = unknown_numbers(line.axes, geometry_);
    if (!place_.text && line.kind == kind_.line.kind && !kind_.vision.empty()) {
      for (const Sizes& sizes : kind_.vision) {
        missing = unknown_numbers(sizes, geometry_);
        if (missing.empty()) {
          return &sizes;
        }
      }
    }
    if (missing.empty()) {
      return &line.axes;
    }
    return fail(Code::SizeInDoubt,
                fmt::format("kind {} of {} needs {}, which config.json does not give here",
                            shown(foreign_.kind), named(foreign_), join(missing, ", ")))
        .at(foreign_.source)
        .pair("no such number for " + shown(place_.parameter), join(missing, ", "))
        .advise("give the number with --set, or name a built-in family with --family");
  }

  Status take_sizes(const Line& line) {
    BV_TRY(axes, sizes_of(line));
    rule_.axes.clear();
    for (const auto& [axis, expression] : *axes) {
      BV_TRY(text, sized(expression, shapes_, foreign_, rule_));
      rule_.axes[axis] = std::move(text);
    }
    rule_.rest.clear();
    for (std::size_t d = line.rest; d < shapes_.front().size(); ++d) {
      rule_.rest.push_back(std::to_string(shapes_.front()[d]));
    }
    return Done{};
  }

  const model::Geometry& geometry_;
  const ForeignKinds& kinds_;
  const LinePlace& place_;
  const ForeignRule& foreign_;
  const ForeignKind& kind_;
  const std::vector<Shape>& shapes_;
  family::Rule& rule_;
};

/// The line on one rank, uncut; an error when its sizes do not divide.
Result<layout::BoundRule> bound_alone(const model::Geometry& geometry, const ForeignKinds& kinds,
                                      const family::Rule& rule) {
  const layout::Rule* line = kinds.lines.find(rule.kind);
  if (line == nullptr) {
    return fail(Code::Assertion, "there is no line " + rule.kind);
  }
  auto symbols = geometry.with(rule.sizes);
  symbols["t"] = 1;
  layout::Binding binding;
  for (const auto& [axis, expression] : rule.axes) {
    BV_TRY(size, family::evaluate(expression, symbols));
    binding.axes[axis] = size;
  }
  binding.axes["t"] = 1;
  if (rule.vocabulary) {
    binding.axes["p"] = 0;
  }
  for (const std::string& expression : rule.rest) {
    BV_TRY(size, family::evaluate(expression, symbols));
    binding.rest.push_back(size);
  }
  return layout::BoundRule::bind(*line, std::move(binding));
}

}  // namespace

Status choose_line(const model::Geometry& geometry, const ForeignKinds& kinds,
                   const LinePlace& place, const ForeignRule& foreign,
                   const std::vector<Shape>& shapes, family::Rule& rule) {
  if (rule.sizes.empty()) {
    return LineChooser(geometry, kinds, place, foreign, shapes, rule).run();
  }
  model::Geometry own = geometry;  // of the layers that the family's row is for
  own.symbols = geometry.with(rule.sizes);
  return LineChooser(own, kinds, place, foreign, shapes, rule).run();
}

bool line_fits(const model::Geometry& geometry, const ForeignKinds& kinds, const family::Rule& rule,
               const std::vector<Shape>& shapes) {
  const auto bound = bound_alone(geometry, kinds, rule);
  return bound && bound->source_shapes() == shapes;
}

std::optional<Shape> uncut_shape(const model::Geometry& geometry, const ForeignKinds& kinds,
                                 const family::Rule& rule) {
  const auto bound = bound_alone(geometry, kinds, rule);
  return bound ? std::optional(bound->target_shapes().front()) : std::nullopt;
}

std::vector<family::Constraint> layout_conditions(const model::Geometry& geometry,
                                                  const ForeignKinds& kinds,
                                                  const family::Rule& rule,
                                                  const std::string& parameter) {
  constexpr std::string_view kPerRank = " / t";
  std::vector<family::Constraint> out;
  const auto add = [&](std::string dividend, std::string noun) {
    family::Constraint one;
    one.divisor = family::Divisor{{rule.expert ? family::RankGroup::Etp : family::RankGroup::Tp}};
    one.dividend = std::move(dividend);
    one.of = parameter;
    one.noun = std::move(noun);
    out.push_back(std::move(one));
  };
  for (const auto& [axis, expression] : rule.axes) {
    if (expression.ends_with(kPerRank)) {
      add(expression.substr(0, expression.size() - kPerRank.size()),
          rule.kind.starts_with("row") ? "columns" : "rows");
    }
  }
  const layout::Rule* line = kinds.lines.find(rule.kind);
  const auto bound = line != nullptr && line->cut && !rule.vocabulary
                         ? bound_alone(geometry, kinds, rule)
                         : Result<layout::BoundRule>(Error{});
  if (bound && !bound->target_shapes().front().empty()) {
    add(std::to_string(bound->target_shapes().front().front()), "rows");
  }
  if (rule.vocabulary) {
    family::Constraint rows;
    rows.code = "E023";  // lifted by padding
    rows.divisor = family::Divisor{{family::RankGroup::Tp}};
    rows.dividend = rule.axes.at("v");
    rows.of = parameter;
    rows.noun = "vocabulary rows";
    out.push_back(std::move(rows));
  }
  return out;
}

}  // namespace bv::foreign
