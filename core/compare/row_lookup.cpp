#include "core/compare/row_lookup.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/compare/explain_diff.hpp"
#include "core/compare/found_rows.hpp"

namespace bv::compare {
namespace {

/// The rows of one found tensor, looked up among all wanted rows.
class Lookup {
 public:
  Lookup(const Comparison& comparison, const RowTable& table)
      : comparison_(comparison), table_(table) {}

  void add(std::int64_t row, std::uint64_t hash) {
    if (!table_.takes_part(hash)) {
      return;
    }
    ++looked_up_;
    bool hit = false;
    std::set<std::uint32_t> same;
    table_.for_each(hash, [&](const RowPlace& place) {
      if (place.row == row && same.insert(place.subject).second) {
        ++identity_[place.subject];
      }
      moves_[place.subject].push_back({row, place.row});
      if (!hit) {
        places_.emplace_back(row, place);
      }
      hit = true;
    });
    hits_ += hit;
  }

  /// The best statement about where the rows came from; `self` is the subject they should be of.
  [[nodiscard]] Explanation explain(std::optional<std::uint32_t> self, const std::string& global,
                                    std::int64_t rows, bool all_over) const {
    Explanation best;
    const auto offer = [&best](Explanation one) {
      if (one.confidence() >= kNamedShare && one.confidence() > best.confidence()) {
        best = std::move(one);
      }
    };
    std::uint32_t whose = 0;
    std::int64_t most = 0;
    for (const auto& [subject, count] : identity_) {
      if (count > most && (!self || subject != *self)) {
        whose = subject;
        most = count;
      }
    }
    if (most > 0) {
      const Subject& other = comparison_.subjects[whose];
      NameShift shift = compare_names(global, other.global_name());
      shift.text = fmt::format("holds the rows of {}{}{}", other.global_name(),
                               other.place.empty() ? "" : " on " + other.place, shift.text);
      offer({shift.cause, shift.text, looked_up_, most, false, runs(), shift.shift});
    }
    if (self && moves_.contains(*self)) {
      offer(order(global, rows, moves_.at(*self), all_over));
    }
    offer({Cause::OtherTensor, "the rows are elsewhere", looked_up_, hits_, false, runs()});
    return best;
  }

 private:
  [[nodiscard]] Explanation order(const std::string& global, std::int64_t rows,
                                  const std::vector<RowMove>& moves, bool all_over) const {
    if (moves.size() == 2 && moves[0].wanted == moves[1].found &&
        moves[1].wanted == moves[0].found) {
      return {Cause::Regrouped,
              fmt::format("rows {} and {} are exchanged", moves[0].found, moves[1].found),
              looked_up_,
              looked_up_,
              false,
              runs()};
    }
    // A rule of rows that holds for a few of them is none.
    const HalvesExchanged halves = all_over ? find_exchange(rows, moves) : HalvesExchanged{};
    const Regrouping how = all_over ? find_regrouping(rows, moves) : Regrouping{};
    if (halves.explained > 0 && halves.explained >= how.explained) {
      return {Cause::SwappedParts,
              fmt::format("the two halves of each block of {} rows are exchanged", halves.block),
              looked_up_,
              std::min(halves.explained, looked_up_),
              false,
              runs()};
    }
    Explanation out{Cause::Regrouped,
                    "holds its own rows in another order",
                    looked_up_,
                    static_cast<std::int64_t>(
                        std::min<std::size_t>(moves.size(), static_cast<std::size_t>(looked_up_))),
                    false,
                    runs()};
    if (how.explained == 0) {
      return out;
    }
    out.rows_explained = std::min(how.explained, looked_up_);
    const bool gated = global.find("gate_up") != std::string::npos ||
                       global.find("linear_fc1") != std::string::npos;
    const std::string shape =
        fmt::format("rows [{} {} {} {}] are ordered [{} {} {} {}]", how.outer, how.a, how.b,
                    how.inner, how.outer, how.b, how.a, how.inner);
    if (gated && (how.a == 2 || how.b == 2)) {
      out.cause = Cause::Alternating;
      out.text =
          "gate and up rows alternate where they should follow each other, or the other way "
          "round: " +
          shape;
    } else if (how.inner == 1) {
      out.text =
          "rows are interleaved in blocks (rotary order half-split for interleaved?): " + shape;
    } else {
      out.cause = Cause::HeadMajor;
      out.text = "head-major order for group-major, or the other way round: " + shape;
    }
    return out;
  }

  [[nodiscard]] std::vector<std::string> runs() const {
    constexpr std::size_t kShown = 4;
    std::vector<std::string> out;
    for (std::size_t i = 0; i < places_.size() && out.size() < kShown;) {
      std::size_t end = i + 1;
      while (end < places_.size() && places_[end].second.subject == places_[i].second.subject &&
             places_[end].first - places_[end - 1].first == 1 &&
             places_[end].second.row - places_[end - 1].second.row == 1) {
        ++end;
      }
      const auto count = static_cast<std::int64_t>(end - i);
      const Subject& from = comparison_.subjects[places_[i].second.subject];
      out.push_back(fmt::format("rows {}:{} hold {}[{}:{}]{}", places_[i].first,
                                places_[i].first + count, from.global_name(), places_[i].second.row,
                                places_[i].second.row + count,
                                from.place.empty() ? "" : " of " + from.place));
      i = end;
    }
    return out;
  }

  const Comparison& comparison_;
  const RowTable& table_;
  std::map<std::uint32_t, std::int64_t> identity_;
  std::map<std::uint32_t, std::vector<RowMove>> moves_;
  std::vector<std::pair<std::int64_t, RowPlace>> places_;  // one for each row that was found
  std::int64_t looked_up_ = 0;
  std::int64_t hits_ = 0;
};

}  // namespace

const checkpoint::SourceTensor& found_of(const Comparison& comparison,
                                         const Difference& difference) {
  const std::size_t subjects = comparison.subjects.size();
  return difference.subject < subjects ? *comparison.subjects[difference.subject].found
                                       : comparison.strays[difference.subject - subjects].found;
}

void look_up_rows(const Comparison& comparison, const RowTable& table, Difference& difference) {
  const checkpoint::SourceTensor& found = found_of(comparison, difference);
  const RowShape rows = table_rows_of(*found.spec);
  const FoundRows there(found, rows);
  if (!there.usable()) {
    return;
  }
  const bool stray = difference.subject >= comparison.subjects.size();
  const bool vector = found.spec->shape.size() < 2;
  const bool everywhere = stray || vector || difference.shape_differs;
  Lookup lookup(comparison, table);
  for (const std::int64_t row :
       everywhere ? spread_all(rows.count, kRowsExamined) : difference.wrong_rows) {
    lookup.add(row, there.hash(row));
  }
  const std::string& global =
      stray ? comparison.strays[difference.subject - comparison.subjects.size()].tensor
            : comparison.subjects[difference.subject].global_name();
  Explanation where = lookup.explain(
      stray ? std::nullopt : std::optional(static_cast<std::uint32_t>(difference.subject)), global,
      rows.count, everywhere || 2 * difference.rows_wrong >= rows.count);
  if (stray && where.confidence() >= kNamedShare) {
    where.cause = Cause::Renamed;
  }
  if (where.confidence() >= kNamedShare &&
      where.confidence() > difference.explanation.confidence()) {
    difference.explanation = std::move(where);
  }
}

}  // namespace bv::compare
