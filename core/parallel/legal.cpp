#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/parallel/parallel.hpp"

namespace bv::parallel {
namespace {

constexpr std::size_t kShownValues = 12;

bool satisfies(const Divided& condition, std::int64_t size) {
  if (condition.dividend % size == 0) {
    return true;
  }
  return condition.either_way && condition.dividend > 0 && size % condition.dividend == 0;
}

}  // namespace

std::vector<std::int64_t> legal_values(std::span<const Divided> conditions, std::int64_t bound) {
  std::vector<std::int64_t> legal;
  for (std::int64_t size = 1; size <= std::min(bound, kMaxSize); ++size) {
    if (std::ranges::all_of(conditions, [&](const Divided& one) { return satisfies(one, size); })) {
      legal.push_back(size);
    }
  }
  return legal;
}

std::string legal_text(std::span<const std::int64_t> values) {
  if (values.empty()) {
    return "none";
  }
  if (values.size() <= kShownValues) {
    return fmt::format("{}", fmt::join(values, " "));
  }
  return fmt::format("{} ... {}", fmt::join(values.first(kShownValues - 1), " "), values.back());
}

std::string nearest_text(std::span<const std::int64_t> values, std::int64_t wrong) {
  std::optional<std::int64_t> below;
  std::optional<std::int64_t> above;
  for (const std::int64_t value : values) {
    if (value < wrong) {
      below = std::max(below.value_or(value), value);
    } else if (value > wrong) {
      above = std::min(above.value_or(value), value);
    }
  }
  if (below && above) {
    return fmt::format("{} or {}", *below, *above);
  }
  return below || above ? fmt::format("{}", below ? *below : *above) : "none";
}

}  // namespace bv::parallel
