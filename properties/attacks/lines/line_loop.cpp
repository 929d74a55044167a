#include "properties/attacks/lines/line_loop.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>

#include "core/base/text.hpp"
#include "core/layout/notation.hpp"

namespace bv::lines {
namespace {

using generators::Line;
using nlohmann::json;

using SizeField = generators::Field<Line>;

/// Fields that change sizes and leave the line as it is.
std::vector<const SizeField*> size_fields() {
  constexpr std::array kSizes = {&Line::t, &Line::size_a, &Line::size_b, &Line::size_g};
  std::vector<const SizeField*> out;
  for (const SizeField& one : generators::line_fields()) {
    if (std::find(kSizes.begin(), kSizes.end(), one.member) != kSizes.end()) {
      out.push_back(&one);
    }
  }
  return out;
}

/// In a small case one of them has all its choices, and the others their two least.
void draw_sizes(std::span<const SizeField* const> fields, Line& line, generators::Random& random,
                std::uint64_t small_of_eight) {
  constexpr std::size_t kSmall = 2;
  const bool small = random.below(8) < small_of_eight;
  const std::size_t large = random.below(fields.size());
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const SizeField& one = *fields[i];
    line.*one.member = one.list[random.below(small && i != large ? kSmall : one.count)];
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

LineLoop::LineLoop(std::uint64_t seed, std::uint64_t small_of_eight)
    : random_(seed), small_of_eight_(small_of_eight), size_fields_(size_fields()), runner_(seed) {}

Status LineLoop::run() {
  generators::bind_sizes(description_, binding_);
  if (!bound_) {
    BV_TRY(bound, layout::BoundRule::bind(rule_, binding_));
    bound_ = std::move(bound);
  } else {
    BV_CHECK(bound_->bind_again(binding_));
  }
  return runner_.run(*bound_, element_bytes_, copied_);
}

Status LineLoop::draw_and_run() {
  element_bytes_ = std::size_t{1} << random_.below(4);
  if (cases_++ % kSizesOfALine != 0) {
    draw_sizes(size_fields_, description_, random_, small_of_eight_);
    return run();
  }
  description_ = generators::draw(generators::line_fields(), random_);
  rule_ = generators::rule_of(description_);
  binding_ = {};
  bound_.reset();
  copied_ = has_copies(rule_);
  ++lines_;
  BV_CHECK(layout::prove_bijection(rule_));
  return run();
}

std::optional<LineFault> LineLoop::next() {
  const Status status = draw_and_run();
  if (status) {
    return std::nullopt;
  }
  bound_.reset();
  LineFault out;
  out.description = shrink(runner_, description_, element_bytes_);
  const generators::BoundLine made = generators::make_line(out.description);
  out.line = {made.rule, made.binding, element_bytes_};
  const Status again = check(runner_, out.line);
  out.error = again ? status.error() : again.error();
  return out;
}

}  // namespace bv::lines
