#include "properties/attacks/lines/line_loop.hpp"

#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/layout/notation.hpp"

namespace bv::lines {
namespace {

using generators::Line;
using nlohmann::json;

/// Fields that change sizes and leave the line as it is.
void draw_sizes(Line& line, generators::Random& random) {
  for (const generators::Field<Line>& one : generators::line_fields()) {
    const bool is_size = one.member == &Line::t || one.member == &Line::size_a ||
                         one.member == &Line::size_b || one.member == &Line::size_g;
    if (is_size) {
      line.*one.member = one.list[random.below(one.count)];
    }
  }
}

}  // namespace

std::string to_text(const SavedLine& line) {
  json axes = json::object();
  for (const auto& [name, size] : line.binding.axes) {
    axes[name] = size;
  }
  const json out = {{"line", layout::print(line.rule)},
                    {"axes", axes},
                    {"rest", line.binding.rest},
                    {"element_bytes", line.element_bytes}};
  return out.dump(1) + "\n";
}

Result<SavedLine> line_from_text(std::string_view text, const std::string& file) {
  try {
    const json value = json::parse(text);
    SavedLine out;
    BV_TRY(rule, layout::parse_rule(value.at("line").get<std::string>(), file));
    out.rule = std::move(rule);
    const json axes = value.at("axes");
    for (const auto& [name, size] : axes.items()) {
      out.binding.axes[name] = size.get<std::int64_t>();
    }
    out.binding.rest = value.value("rest", std::vector<std::int64_t>());
    out.element_bytes = value.value("element_bytes", std::size_t{2});
    return out;
  } catch (const json::exception& problem) {
    return fail(Code::BadValue, std::string("this is not a saved line: ") + problem.what())
        .at(file)
        .pair(escaped(text.substr(0, 60)), "an object with line, axes, rest and element_bytes")
        .advise("give a file that bridge-verify fuzz --out DIR has written");
  }
}

Status check(LineRunner& runner, const SavedLine& line) {
  BV_CHECK(layout::prove_bijection(line.rule));
  BV_TRY(bound, layout::BoundRule::bind(line.rule, line.binding));
  return runner.run(bound, line.element_bytes);
}

Line shrink(LineRunner& runner, const Line& from, std::size_t element_bytes) {
  return generators::shrink(generators::line_fields(), from, [&](const Line& candidate) {
    const generators::BoundLine made = generators::make_line(candidate);
    return !check(runner, {made.rule, made.binding, element_bytes});
  });
}

LineLoop::LineLoop(std::uint64_t seed) : random_(seed), runner_(seed) {}

Status LineLoop::run(const Line& description, std::size_t element_bytes) {
  BV_TRY(bound, layout::BoundRule::bind(rule_, generators::binding_of(description)));
  return runner_.run(bound, element_bytes);
}

std::optional<LineFault> LineLoop::next() {
  const std::size_t element_bytes = std::size_t{1} << random_.below(4);
  Status status = Done{};
  if (cases_++ % kSizesOfALine == 0) {
    description_ = generators::draw(generators::line_fields(), random_);
    rule_ = generators::rule_of(description_);
    ++lines_;
    status = layout::prove_bijection(rule_);
  } else {
    draw_sizes(description_, random_);
  }
  if (status) {
    status = run(description_, element_bytes);
  }
  if (status) {
    return std::nullopt;
  }
  LineFault out;
  out.description = shrink(runner_, description_, element_bytes);
  const generators::BoundLine made = generators::make_line(out.description);
  out.line = {made.rule, made.binding, element_bytes};
  const Status again = check(runner_, out.line);
  out.error = again ? status.error() : again.error();
  return out;
}

}  // namespace bv::lines
