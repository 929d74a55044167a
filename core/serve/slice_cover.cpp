#include <fmt/format.h>
#include <fmt/ranges.h>

#include <numeric>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/serve/slice.hpp"

namespace bv::lora {
namespace {

using Rows = std::span<const std::optional<std::int64_t>>;

std::string rows_text(Rows rows) {
  std::vector<std::string> out;
  for (const auto& one : rows) {
    out.push_back(one ? fmt::format("{}", *one) : "missing");
  }
  return join(out, ", ");
}

/// Reachability from both ends over (members placed, slices covered).
class Cover {
 public:
  Cover(std::span<const std::int64_t> slices, Rows rows) : rows_(rows), sums_(slices.size() + 1) {
    std::partial_sum(slices.begin(), slices.end(), sums_.begin() + 1);
    const std::size_t members = rows.size();
    from_left_.assign(members + 1, std::vector<bool>(sums_.size(), false));
    to_right_ = from_left_;
    from_left_[0][0] = true;
    to_right_[members][slices.size()] = true;
    for (std::size_t j = 0; j < members; ++j) {
      each(j, [&](std::size_t p, std::size_t q) {
        from_left_[j + 1][q] = from_left_[j + 1][q] || from_left_[j][p];
      });
    }
    for (std::size_t j = members; j-- > 0;) {
      each(j, [&](std::size_t p, std::size_t q) {
        to_right_[j][p] = to_right_[j][p] || to_right_[j + 1][q];
      });
    }
  }

  [[nodiscard]] bool exists() const { return from_left_.back().back(); }
  /// The first member that cannot follow those before it; else the last one, which leaves slices.
  [[nodiscard]] std::size_t first_failing() const {
    for (std::size_t j = 0; j + 1 < from_left_.size(); ++j) {
      const auto& reached = from_left_[j + 1];
      if (std::find(reached.begin(), reached.end(), true) == reached.end()) {
        return j;
      }
    }
    return rows_.size() - 1;
  }
  /// Every place of a member in a cover of all slices.
  [[nodiscard]] std::vector<Interval> places(std::size_t j) const {
    std::vector<Interval> out;
    each(j, [&](std::size_t p, std::size_t q) {
      if (from_left_[j][p] && to_right_[j + 1][q]) {
        out.push_back({static_cast<std::int64_t>(p), static_cast<std::int64_t>(q)});
      }
    });
    return out;
  }

 private:
  /// Intervals that fit member j by itself.
  template <class Visit>
  void each(std::size_t j, const Visit& visit) const {
    for (std::size_t p = 0; p < sums_.size(); ++p) {
      for (std::size_t q = p + 1; q < sums_.size(); ++q) {
        if (!rows_[j] || sums_[q] - sums_[p] == *rows_[j]) {
          visit(p, q);
        }
      }
    }
  }

  Rows rows_;
  std::vector<std::int64_t> sums_;
  std::vector<std::vector<bool>> from_left_, to_right_;
};

Error wrong_sum(const std::string& layer, std::span<const std::int64_t> slices, Rows rows,
                std::size_t member) {
  const std::int64_t sum = std::accumulate(slices.begin(), slices.end(), std::int64_t{0});
  std::string title;
  if (rows.size() == 1 && rows[0]) {
    title = fmt::format("lora_B of {} has {} rows, its slices need {}", layer, thousands(*rows[0]),
                        thousands(sum));
  } else {
    title = fmt::format("lora_B of member {} of {} ({}) does not cover whole slices", member + 1,
                        layer, rows[member] ? thousands(*rows[member]) + " rows" : "missing");
  }
  return fail(Code::SliceSum, std::move(title))
      .fact(fmt::format("slices of {}, {} rows together", fmt::join(slices, ", "), thousands(sum)))
      .pair("members of " + rows_text(rows),
            "consecutive slices for each member, all of them covered")
      .advise("give the adapter that was trained on this model, whole");
}

Status check_slices(std::span<const std::int64_t> slices, Rows rows, const std::string& layer) {
  std::int64_t sum = 0;
  for (const std::int64_t slice : slices) {
    const auto next = checked_add(sum, slice);
    if (slice <= 0 || !next) {
      return fail(Code::SliceSum, fmt::format("slices of {} have {} rows", layer, slice))
          .pair(fmt::format("{}", fmt::join(slices, ", ")), "at least one row each")
          .advise("correct the sizes of the served model");
    }
    sum = *next;
  }
  if (rows.empty() || rows.size() > slices.size()) {
    return fail(Code::SliceSum, fmt::format("{} members cannot cover the {} of {}", rows.size(),
                                            counted(slices.size(), "slice"), layer))
        .pair("members of " + rows_text(rows), "one to as many members as slices")
        .advise("give the adapter that was trained on this model");
  }
  return Done{};
}

Result<std::vector<std::optional<Interval>>> as_declared(std::span<const std::int64_t> slices,
                                                         Rows rows,
                                                         const std::vector<Interval>& declared,
                                                         const std::string& layer) {
  const auto count = static_cast<std::int64_t>(slices.size());
  std::vector<std::optional<Interval>> out(rows.size());
  std::int64_t next = 0;
  bool in_order = declared.size() == rows.size();
  for (const Interval& one : declared) {
    in_order = in_order && one.begin == next && one.end > one.begin && one.end <= count;
    next = one.end;
  }
  if (!in_order || next != count) {
    return fail(Code::SliceSum, fmt::format("the members that {} declares do not cover its {}",
                                            layer, counted(slices.size(), "slice")))
        .pair(fmt::format("{} intervals", declared.size()),
              "one interval a member, in order, without gaps")
        .advise("correct the declared slices");
  }
  for (std::size_t j = 0; j < rows.size(); ++j) {
    if (!rows[j]) {
      continue;
    }
    std::int64_t sum = 0;
    for (std::int64_t i = declared[j].begin; i < declared[j].end; ++i) {
      sum += slices[static_cast<std::size_t>(i)];
    }
    if (sum != *rows[j]) {
      return fail(Code::SliceSum,
                  fmt::format("lora_B of member {} of {} has {} rows, its slices need {}", j + 1,
                              layer, thousands(*rows[j]), thousands(sum)))
          .fact(fmt::format("slices of {}", fmt::join(slices, ", ")))
          .pair("members of " + rows_text(rows), thousands(sum) + " rows")
          .advise("give the adapter that was trained on this model");
    }
    out[j] = declared[j];
  }
  return out;
}

}  // namespace

Result<std::vector<std::optional<Interval>>> cover_slices(std::span<const std::int64_t> slices,
                                                          Rows rows,
                                                          const std::vector<Interval>& declared,
                                                          const std::string& layer) {
  BV_CHECK(check_slices(slices, rows, layer));
  if (!declared.empty()) {
    return as_declared(slices, rows, declared, layer);
  }
  const Cover cover(slices, rows);
  if (!cover.exists()) {
    return wrong_sum(layer, slices, rows, cover.first_failing());
  }
  std::vector<std::optional<Interval>> out(rows.size());
  for (std::size_t j = 0; j < rows.size(); ++j) {
    if (!rows[j]) {
      continue;
    }
    const std::vector<Interval> places = cover.places(j);
    if (places.size() > 1) {
      std::vector<std::string> texts;
      for (const Interval& place : places) {
        texts.push_back(fmt::format("[{}, {})", place.begin, place.end));
      }
      return fail(Code::SliceAmbiguous,
                  fmt::format("member {} of {} fits at {} places", j + 1, layer, places.size()))
          .fact(fmt::format("slices of {}", fmt::join(slices, ", ")))
          .pair("members of " + rows_text(rows) + "; places " + join(texts, ", "),
                "one place for each member that is there")
          .advise("declare which slices each member covers");
    }
    out[j] = places.front();
  }
  return out;
}

}  // namespace bv::lora
