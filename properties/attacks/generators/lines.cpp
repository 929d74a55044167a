#include "properties/attacks/generators/lines.hpp"

#include <numeric>

namespace bv::generators {
namespace {

using layout::Choice;
using layout::Dim;
using layout::Factor;
using layout::Product;
using layout::TensorExpr;

constexpr std::array kLineFields = {
    field("parts", &Line::parts, {1, 2, 3, 4, 5}),
    field("fused", &Line::fused, {0, 1, 2}),
    field("grouped", &Line::grouped, {0, 1}),
    field("source_outside", &Line::source_outside, {0, 1}),
    field("target_outside", &Line::target_outside, {0, 1}),
    field("alternating", &Line::alternating, {0, 1}),
    field("own", &Line::own, {1, 2}),
    field("reversed", &Line::reversed, {0, 1}),
    field("rotated", &Line::rotated, {0, 1, 2}),
    field("spread", &Line::spread, {0, 1, 2, 3}),
    field("rank_outside", &Line::rank_outside, {0, 1}),
    field("experts", &Line::experts, {0, 1, 2}),
    field("pad", &Line::pad, {0, 1, 2}),
    field("repeat", &Line::repeat, {0, 2, 3}),
    field("carried", &Line::carried, {0, 1, 2}),
    field("rest", &Line::rest, {0, 1, 2}),
    field("targets", &Line::targets, {1, 2}),
    field("t", &Line::t, {1, 2, 3, 4, 8}),
    field("size_a", &Line::size_a, {1, 2, 3, 5}),
    field("size_b", &Line::size_b, {1, 2, 3}),
    field("size_g", &Line::size_g, {1, 2, 3}),
};

constexpr std::array<const char*, 5> kParts = {"p", "q", "r", "s", "u"};
constexpr std::array<const char*, 5> kFirst = {"a", "b", "c", "d", "e"};
constexpr std::array<const char*, 5> kSecond = {"i", "j", "k", "l", "m"};

bool is(const Line& line, Spread spread) {
  return line.spread == static_cast<std::int64_t>(spread);
}

Factor axis(std::string name, bool replica = false) {
  Factor out;
  out.kind = Factor::Kind::Axis;
  out.axis = std::move(name);
  out.replica = replica;
  return out;
}

Dim dim(Product product) {
  Dim out;
  out.product = std::move(product);
  return out;
}

/// Alternating parts share all their axes, so they stand in one source tensor.
bool alternates(const Line& line) {
  return line.alternating != 0 && line.fused == 1 && line.parts > 1;
}
bool fuses_first(const Line& line) {
  return line.fused == 1 || line.parts == 1;
}
/// Parts in the main target; the last one may have a target of its own.
std::size_t main_parts(const Line& line) {
  return static_cast<std::size_t>(line.targets == 2 && line.parts > 1 ? line.parts - 1
                                                                      : line.parts);
}

std::string first_axis(const Line& line, std::size_t part) {
  return alternates(line) ? "a" : kFirst.at(part);
}

Product own_axes(const Line& line, std::size_t part, bool reversed) {
  Product out = {axis(first_axis(line, part))};
  if (line.own == 2) {
    out.push_back(axis(alternates(line) ? "i" : kSecond.at(part)));
  }
  if (reversed) {
    std::reverse(out.begin(), out.end());
  }
  return out;
}

void append(Product& out, const Product& more) {
  out.insert(out.end(), more.begin(), more.end());
}

/// The rows of a source tensor that holds `parts`.
Product source_rows(const Line& line, const std::vector<std::size_t>& parts) {
  const bool spread = is(line, Spread::Grid);
  Product out;
  if (spread && (line.rank_outside != 0 || alternates(line))) {
    out.push_back(axis("t"));
  }
  const bool outside = line.source_outside != 0 || alternates(line);
  if (line.grouped != 0 && outside) {
    out.push_back(axis("g"));
  }
  if (alternates(line)) {
    append(out, own_axes(line, 0, false));
  }
  Factor sum;
  sum.kind = Factor::Kind::Sum;
  for (const std::size_t part : parts) {
    Product inner;
    if (alternates(line)) {
      inner.push_back(Factor{});
    } else {
      if (spread && line.rank_outside == 0) {
        inner.push_back(axis("t"));
      }
      if (line.grouped != 0 && !outside) {
        inner.push_back(axis("g"));
      }
      append(inner, own_axes(line, part, false));
    }
    sum.choices.push_back({kParts.at(part), std::move(inner), {}});
  }
  if (parts.size() == 1) {
    append(out, sum.choices.front().product);
  } else {
    out.push_back(std::move(sum));
  }
  return out;
}

void add_rest(const Line& line, TensorExpr& out) {
  if (line.rest != 0) {
    Dim rest;
    rest.rest = true;
    out.dims.push_back(std::move(rest));
  }
}

TensorExpr source_tensor(const Line& line, const std::vector<std::size_t>& parts) {
  TensorExpr out;
  // A tensor without a sum is the part of its own name.
  out.name = parts.size() == 1 ? kParts.at(parts.front()) : "x";
  if (line.experts != 0) {
    out.dims.push_back(dim({axis("E")}));
  }
  if (line.carried == 2) {
    out.dims.push_back(dim({axis("h")}));
  }
  out.dims.push_back(dim(source_rows(line, parts)));
  if (line.carried == 1) {
    out.dims.push_back(dim({axis("h")}));
  }
  add_rest(line, out);
  return out;
}

std::vector<TensorExpr> sources_of(const Line& line) {
  std::vector<std::size_t> all(static_cast<std::size_t>(line.parts));
  std::iota(all.begin(), all.end(), 0U);
  if (fuses_first(line)) {
    return {source_tensor(line, all)};
  }
  std::vector<TensorExpr> out;
  if (line.fused == 2) {
    out.push_back(source_tensor(line, {0}));
    out.push_back(source_tensor(line, {all.begin() + 1, all.end()}));
    return out;
  }
  for (const std::size_t part : all) {
    out.push_back(source_tensor(line, {part}));
  }
  return out;
}

Choice target_choice(const Line& line, std::size_t part, bool outside) {
  Choice out{kParts.at(part), {}, {}};
  if (line.grouped != 0 && !outside) {
    out.product.push_back(axis("g"));
  }
  append(out.product, own_axes(line, part, line.reversed != 0));
  if (line.repeat != 0 && part + 1 == static_cast<std::size_t>(line.parts)) {
    out.product.push_back(axis("o", true));
  }
  return out;
}

TensorExpr target_tensor(const Line& line, std::string name, const std::vector<std::size_t>& parts,
                         bool padded) {
  TensorExpr out;
  out.name = std::move(name);
  if (line.experts != 0) {
    out.grid.push_back({"E", false});
  }
  if (is(line, Spread::Grid) || is(line, Spread::Replica)) {
    out.grid.push_back({"t", is(line, Spread::Replica)});
  }
  const bool outside = line.target_outside != 0;
  Product rows;
  if (line.grouped != 0 && outside) {
    rows.push_back(axis("g"));
  }
  Factor sum;
  sum.kind = Factor::Kind::Sum;
  for (const std::size_t part : parts) {
    sum.choices.push_back(target_choice(line, part, outside));
  }
  if (padded) {
    sum.choices.push_back({"pad", {axis("z")}, {}});
  }
  if (sum.choices.size() == 1 && out.name == sum.choices.front().name) {
    append(rows, sum.choices.front().product);
  } else {
    rows.push_back(std::move(sum));
  }
  out.dims.push_back(dim(std::move(rows)));
  if (line.carried != 0) {
    out.dims.push_back(dim({axis("h")}));
  }
  add_rest(line, out);
  return out;
}

/// The letters of axes in the order of a binding.
constexpr std::string_view kLetters = "Eabcdefghijklmnopqrstuvwxyz";
/// Sizes by the letter of the axis; 0: not an axis of the line.
using Sizes = std::array<std::int64_t, kLetters.size()>;

std::int64_t& size_of(Sizes& sizes, std::string_view axis) {
  return sizes[axis.front() == 'E' ? 0 : static_cast<std::size_t>(axis.front() - 'a') + 1];
}

/// Rows of a target in units of the group, when each part has so many.
std::int64_t rows_of(const Line& line, Sizes& sizes, std::size_t from, std::size_t to) {
  std::int64_t total = 0;
  for (std::size_t part = from; part < to; ++part) {
    const bool repeated = line.repeat != 0 && part + 1 == static_cast<std::size_t>(line.parts);
    total += size_of(sizes, first_axis(line, part)) * (line.own == 2 ? line.size_b : 1) *
             (repeated ? line.repeat : 1);
  }
  return total;
}

Sizes sizes_of(const Line& line) {
  Sizes out{};
  const auto set = [&](bool used, const char* name, std::int64_t size) {
    if (used) {
      size_of(out, name) = size;
    }
  };
  for (std::size_t part = 0; part < static_cast<std::size_t>(line.parts); ++part) {
    const bool shared = alternates(line) && part > 0;  // the axes of the first part are all
    set(!shared, kFirst.at(part), line.size_a + static_cast<std::int64_t>(part));
    set(!shared && line.own == 2, kSecond.at(part), line.size_b);
  }
  set(line.grouped != 0, "g", line.size_g);
  set(line.carried != 0, "h", 2);
  set(line.experts != 0, "E", line.experts);
  set(line.repeat != 0, "o", line.repeat);
  set(line.pad != 0, "z", line.pad);
  set(!is(line, Spread::None), "t", line.t);
  if (is(line, Spread::Cut)) {
    // The rows of each target must divide: groups where there are some (the cut may fall inside
    // one), else the first axis of each part. Pads in a group count as rows of it.
    const std::size_t split = main_parts(line);
    const bool groups = line.grouped != 0 && (line.target_outside != 0 || line.pad == 0);
    if (groups) {
      const std::int64_t pad = line.pad;
      const std::int64_t main = rows_of(line, out, 0, split) + pad;
      const std::int64_t other = rows_of(line, out, split, static_cast<std::size_t>(line.parts));
      const std::int64_t step =
          std::lcm(line.t / std::gcd(line.t, main), line.t / std::gcd(line.t, other));
      size_of(out, "g") *= step;
    } else {
      for (const char* name : kFirst) {
        size_of(out, name) *= line.t;
      }
      set(line.pad != 0, "z", line.pad * line.t);
    }
  }
  return out;
}

}  // namespace

std::span<const Field<Line>> line_fields() {
  return kLineFields;
}

layout::Rule rule_of(const Line& line) {
  layout::Rule out;
  out.name = "line";
  out.sources = sources_of(line);
  std::vector<std::size_t> order(main_parts(line));
  std::iota(order.begin(), order.end(), 0U);
  std::rotate(order.begin(), order.begin() + line.rotated % static_cast<std::int64_t>(order.size()),
              order.end());
  const bool alone = order.size() == 1 && line.pad == 0;
  out.targets.push_back(
      target_tensor(line, alone ? kParts.at(order.front()) : "y", order, line.pad != 0));
  if (order.size() < static_cast<std::size_t>(line.parts)) {
    const std::size_t last = order.size();
    out.targets.push_back(target_tensor(line, kParts.at(last), {last}, false));
  }
  if (is(line, Spread::Cut)) {
    out.cut = layout::Cut{"t"};
  }
  return out;
}

layout::Binding binding_of(const Line& line) {
  layout::Binding out;
  bind_sizes(line, out);
  return out;
}

void bind_sizes(const Line& line, layout::Binding& out) {
  Sizes sizes = sizes_of(line);
  if (out.axes.empty()) {
    for (const char letter : kLetters) {
      const std::string name(1, letter);
      if (size_of(sizes, name) > 0) {
        out.axes[name] = 0;
      }
    }
  }
  for (auto& [name, size] : out.axes) {
    size = size_of(sizes, name);
  }
  out.rest.clear();
  for (std::int64_t i = 0; i < line.rest; ++i) {
    out.rest.push_back(2 + i);
  }
}

BoundLine make_line(const Line& description) {
  return {rule_of(description), binding_of(description)};
}

}  // namespace bv::generators
