#include "properties/attacks/lines/tilings.hpp"

#include <fmt/format.h>

#include <set>

#include "core/base/arith.hpp"
#include "core/layout/notation.hpp"

namespace bv::lines {
namespace {

using Hits = std::vector<std::uint32_t>;

Hits hits_for(const Shape& shape) {
  return Hits(static_cast<std::size_t>(element_count(shape).value()), 0);
}

/// Counts one element; nullopt when it lies outside the tensor.
bool count(Hits& hits, std::int64_t at) {
  if (at < 0 || at >= static_cast<std::int64_t>(hits.size())) {
    return false;
  }
  ++hits[static_cast<std::size_t>(at)];
  return true;
}

std::set<std::string> repeated_parts(const layout::Rule& rule) {
  std::set<std::string> out;
  for (const layout::Part& part : layout::target_parts(rule)) {
    if (!part.replicas.empty()) {
      out.insert(part.name);
    }
  }
  return out;
}

Status once_each(const Hits& hits, const std::string& tensor) {
  for (std::size_t i = 0; i < hits.size(); ++i) {
    if (hits[i] != 1) {
      return fail(hits[i] == 0 ? Code::Gap : Code::Overlap,
                  fmt::format("element {} of {} is touched {} times", i, tensor, hits[i]));
    }
  }
  return Done{};
}

Status check_shard(const layout::Shard& shard, const std::string& name) {
  Hits hits = hits_for(shard.shape);
  bool inside = true;
  for (const layout::Box& box : shard.boxes) {
    for_each_element(
        box, [&](std::int64_t, std::int64_t target) { inside = count(hits, target) && inside; });
  }
  const Status counted =
      inside ? once_each(hits, name) : Status(fail(Code::Overlap, name + " is written outside"));
  const Status swept = layout::check_tiling(shard.boxes, static_cast<std::int64_t>(hits.size()));
  if (counted.has_value() != swept.has_value()) {
    return fail(Code::Assertion, fmt::format("the sweep of {} says {}, the count says {}", name,
                                             swept ? "whole" : swept.error().message,
                                             counted ? "whole" : counted.error().message));
  }
  return counted;
}

}  // namespace

std::vector<GridPlace> grid_places(const layout::BoundRule& bound) {
  std::vector<GridPlace> out;
  const Status all = for_each_place(bound, [&](const GridPlace& place) -> Status {
    out.push_back(place);
    return Done{};
  });
  BV_ASSERT(all);
  return out;
}

Status check_line(const layout::BoundRule& bound) {
  const layout::Rule& rule = bound.rule();
  const std::set<std::string> repeated = repeated_parts(rule);
  std::vector<Hits> read;
  std::vector<std::vector<bool>> copied;  // elements of parts that stand more than once
  for (const Shape& shape : bound.source_shapes()) {
    read.push_back(hits_for(shape));
    copied.emplace_back(read.back().size(), false);
  }
  for (const GridPlace& place : grid_places(bound)) {
    const layout::Shard shard = bound.shard(place.target, place.grid);
    BV_CHECK(check_shard(shard, rule.targets[place.target].name));
    for (const layout::Box& box : shard.boxes) {
      if (box.source < 0) {
        continue;
      }
      const auto source = static_cast<std::size_t>(box.source);
      bool inside = true;
      // The way back, as the engine takes it.
      for_each_element(layout::inverse(box, 0), [&](std::int64_t, std::int64_t at) {
        inside = count(read[source], at) && inside;
        if (inside && repeated.contains(bound.part_names()[static_cast<std::size_t>(box.part)])) {
          copied[source][static_cast<std::size_t>(at)] = true;
        }
      });
      if (!inside) {
        return fail(Code::Overlap, rule.sources[source].name + " is read outside");
      }
    }
  }
  for (std::size_t i = 0; i < read.size(); ++i) {
    for (std::size_t at = 0; at < read[i].size(); ++at) {
      if (copied[i][at] && read[i][at] > 1) {
        read[i][at] = 1;
      }
    }
    BV_CHECK(once_each(read[i], rule.sources[i].name));
  }
  return Done{};
}

std::int64_t elements_of(const layout::BoundRule& bound) {
  std::int64_t total = 0;
  for (const GridPlace& place : grid_places(bound)) {
    total += element_count(bound.target_shapes()[place.target]).value();
  }
  return total;
}

}  // namespace bv::lines
