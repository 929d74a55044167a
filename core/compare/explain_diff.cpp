#include "core/compare/explain_diff.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/base/workers.hpp"
#include "core/compare/found_rows.hpp"
#include "core/compare/hash_rows.hpp"
#include "core/compare/plain_causes.hpp"
#include "core/compare/row_lookup.hpp"
#include "core/kinds/values.hpp"

namespace bv::compare {
namespace {

constexpr double kSettled = 0.98;  // a cause that explains this much needs no row table
constexpr std::int64_t kBytesExamined = std::int64_t{4} << 20;
constexpr std::size_t kQuickRows = 24;

using Row = std::vector<std::byte>;
/// Makes the row that one fault would have left; false when the fault cannot be told.
using MakeRow = std::function<void(std::int64_t row, Row& out)>;

/// Tries candidates on the wrong rows of one tensor and keeps the best.
class Trial {
 public:
  Trial(const FoundRows& found, std::vector<std::int64_t> rows)
      : found_(found), rows_(spread(rows, rows_max(found))), quick_(spread(rows_, kQuickRows)) {}

  void attempt(Cause cause, const std::string& text, const MakeRow& make,
               std::size_t count_max = kRowsExamined) {
    if (best_.confidence() == 1 || rows_.empty()) {
      return;
    }
    const auto hits = [&](const std::vector<std::int64_t>& rows) {
      std::int64_t count = 0;
      for (const std::int64_t row : rows) {
        make(row, row_);
        const auto there = found_.at(row);
        count += row_.size() == there.size() &&
                 std::memcmp(row_.data(), there.data(), there.size()) == 0;
      }
      return count;
    };
    if (static_cast<double>(hits(quick_)) < kNamedShare / 2 * static_cast<double>(quick_.size())) {
      return;
    }
    const std::vector<std::int64_t> rows = spread(rows_, count_max);
    offer({cause, text, static_cast<std::int64_t>(rows.size()), hits(rows), false, {}});
  }

  void offer(Explanation explanation) {
    if (explanation.confidence() >= kNamedShare && explanation.confidence() > best_.confidence()) {
      best_ = std::move(explanation);
    }
  }
  [[nodiscard]] Explanation take() && { return std::move(best_); }
  [[nodiscard]] const std::vector<std::int64_t>& rows() const { return rows_; }

 private:
  static std::size_t rows_max(const FoundRows& found) {
    const auto by_bytes =
        static_cast<std::size_t>(kBytesExamined) / std::max<std::size_t>(found.row_bytes(), 1);
    return std::clamp<std::size_t>(by_bytes, 16, kRowsExamined);
  }
  const FoundRows& found_;
  std::vector<std::int64_t> rows_;
  std::vector<std::int64_t> quick_;
  Row row_;
  Explanation best_;
};

MakeRow rows_of_view(ViewReader& reader, ElementOffset row_elements) {
  return [&reader, row_elements](std::int64_t row, Row& out) {
    const ElementOffset begin = row * row_elements;
    if (begin + row_elements > reader.elements()) {
      out.clear();
      return;
    }
    const auto bytes = reader.read(begin, begin + row_elements);
    out.assign(bytes.begin(), bytes.end());
  };
}

void try_view(Trial& trial, const Candidate& candidate, ElementOffset row_elements) {
  ViewReader reader(candidate.view);
  trial.attempt(candidate.cause, candidate.text, rows_of_view(reader, row_elements));
  reader.release();
}

/// Wanted values that one calculation changed: +-1 too much, a narrower type on the way.
void try_values(Trial& trial, const View& wanted, const FoundRows& found,
                ElementOffset row_elements) {
  const DType dtype = wanted.spec.dtype;
  if (!kinds::is_computable(dtype)) {
    return;
  }
  ViewReader reader(wanted);
  const MakeRow make = rows_of_view(reader, row_elements);
  for (const double delta : {1.0, -1.0}) {
    const auto cause = delta > 0 ? Cause::PlusOne : Cause::MinusOne;
    const std::string text = fmt::format("every value is wanted {:+g}", delta);
    trial.attempt(cause, text, [&](std::int64_t row, Row& out) {
      make(row, out);
      kinds::add_constant(out, dtype, delta);
    });
    // The wanted value may be the rounded one: then the found one gives it back.
    trial.attempt(cause, text, [&](std::int64_t row, Row& out) {
      make(row, out);
      const auto there = found.at(row);
      Row back(there.begin(), there.end());
      kinds::add_constant(back, dtype, -delta);
      out = back == out ? Row(there.begin(), there.end()) : Row{};
    });
  }
  for (const DType narrow : {DType::BF16, DType::F16}) {
    if (kinds::precision(narrow) >= kinds::precision(dtype)) {
      continue;
    }
    trial.attempt(Cause::Narrowed,
                  fmt::format("the values were rounded through {}", bv::name(narrow)),
                  [&](std::int64_t row, Row& out) {
                    make(row, out);
                    Row low(ElementWidth(narrow).to_bytes(row_elements).size());
                    kinds::cast(out.data(), dtype, low.data(), narrow, row_elements.value);
                    kinds::cast(low.data(), narrow, out.data(), dtype, row_elements.value);
                  });
  }
  reader.release();
}

/// Row r of the found matrix [rows, columns] is column r of the wanted one [columns, rows].
void try_transposed(Trial& trial, const View& wanted, const Shape& found) {
  const bool addressed = units_of(wanted.spec).dtype == wanted.spec.dtype;  // element by element
  if (!addressed || found.size() != 2 || wanted.spec.shape.size() != 2 ||
      found[0] != wanted.spec.shape[1] || found[1] != wanted.spec.shape[0] || found[0] < 2 ||
      found[1] < 2) {
    return;
  }
  ViewReader reader(wanted);
  constexpr std::int64_t kElements = 65536;  // each is read alone
  const auto rows =
      static_cast<std::size_t>(std::clamp<std::int64_t>(kElements / found[1], 4, 512));
  trial.attempt(
      Cause::Transposed,
      fmt::format("the matrix is transposed: [in, out] in place of [out, in], {}",
                  shape_text(found)),
      [&](std::int64_t row, Row& out) {
        out.clear();
        for (std::int64_t column = 0; column < found[1]; ++column) {
          const ElementOffset at(column * found[0] + row);
          const auto element = reader.read(at, at + ElementOffset(1));
          out.insert(out.end(), element.begin(), element.end());
        }
      },
      rows);
  reader.release();
}

/// The wanted tensor with rows cut from or added to its first dimension.
std::optional<Candidate> resized(const Subject& subject, const Shape& found) {
  const Shape& wanted = subject.spec.shape;
  if (found.size() != wanted.size() || found.empty() || found[0] == wanted[0] ||
      !std::equal(found.begin() + 1, found.end(), wanted.begin() + 1)) {
    return std::nullopt;
  }
  Candidate out;
  const View all = subject.wanted();
  out.view = all;
  out.view.spec.shape = found;
  out.view.boxes.clear();
  const std::int64_t elements = element_count(found).value_or(0);
  for (const layout::Box& box : all.boxes) {
    layout::clip_to_target(box, 0, elements, out.view.boxes);
  }
  const bool more = found[0] > wanted[0];
  out.cause = more ? Cause::Padded : Cause::Truncated;
  out.text = more ? fmt::format("{} after the {} wanted", counted(found[0] - wanted[0], "zero row"),
                                wanted[0])
                  : fmt::format("rows after the first {} of {} are cut off", found[0], wanted[0]);
  return out;
}

Explanation explain_shape(const Subject& subject) {
  const TensorSpec& found = *subject.found->spec;
  const RowShape rows = rows_of(units_of(found).shape);
  const FoundRows there(*subject.found, rows);
  Explanation unexplained;
  unexplained.text = fmt::format("the shape is {}, wanted {}", shape_text(found.shape),
                                 shape_text(subject.spec.shape));
  if (!there.usable() ||
      (found.dtype != subject.spec.dtype &&
       !(kinds::is_computable(found.dtype) && kinds::is_computable(subject.spec.dtype)))) {
    return unexplained;
  }
  Trial trial(there, spread_all(rows.count, kRowsExamined));
  View wanted = subject.wanted();
  wanted.spec.dtype = found.dtype;
  try_transposed(trial, wanted, found.shape);
  auto candidates = subject.candidates ? subject.candidates(found) : std::vector<Candidate>{};
  if (auto one = resized(subject, found.shape)) {
    candidates.push_back(std::move(*one));
  }
  if (element_count(found.shape) == element_count(subject.spec.shape)) {
    candidates.push_back({Cause::Regrouped, "the same elements have another shape", wanted});
  }
  for (Candidate& candidate : candidates) {
    candidate.view.spec.dtype = found.dtype;
    if (candidate.view.spec.shape == found.shape || candidate.cause == Cause::Regrouped) {
      try_view(trial, candidate, rows.elements);
    }
  }
  Explanation best = std::move(trial).take();
  return best.cause == Cause::Unexplained ? unexplained : best;
}

Explanation explain_values(const Subject& subject, const Difference& difference) {
  const TensorSpec& found = *subject.found->spec;
  const RowShape rows = rows_of(units_of(found).shape);
  const FoundRows there(*subject.found, rows);
  Explanation none;
  none.text = fmt::format("no known fault explains it: {} of {} elements differ",
                          thousands(difference.elements_wrong), thousands(difference.elements));
  if (!there.usable()) {
    return none;
  }
  Trial trial(there, difference.wrong_rows);
  View wanted = subject.wanted();
  wanted.spec.dtype = found.dtype;
  if (auto padding = explain_padding(subject, wanted, difference)) {
    return std::move(*padding);
  }
  trial.attempt(Cause::Zeroed, "the rows are zero",
                [&there](std::int64_t, Row& out) { out.assign(there.row_bytes(), std::byte{0}); });
  if (subject.candidates) {  // what its rule makes possible says more than what happens to values
    for (Candidate& candidate : subject.candidates(found)) {
      candidate.view.spec.dtype = found.dtype;
      try_view(trial, candidate, rows.elements);
    }
  }
  try_values(trial, wanted, there, rows.elements);
  try_transposed(trial, wanted, found.shape);
  Explanation best = std::move(trial).take();
  return best.cause == Cause::Unexplained ? none : best;
}

Explanation explain_one(const Subject& subject, const DiffOptions& options,
                        const Difference& difference) {
  if (!subject.found) {
    Explanation out{Cause::Missing, "there is no such tensor", 0, 0, true, {}};
    return out;
  }
  if (difference.shape_differs) {
    return explain_shape(subject);
  }
  if (difference.dtype_differs && !difference.bytes_differ) {
    return explain_dtype(subject, difference);
  }
  Explanation out = explain_values(subject, difference);
  if (difference.dtype_differs && subject.found->spec->dtype != options.own_dtype) {
    out.text =
        fmt::format("the dtype is {} instead of {}, and the values differ after a cast: {}",
                    bv::name(subject.found->spec->dtype), bv::name(subject.spec.dtype), out.text);
  }
  return out;
}

/// Rows of a type that is not the checkpoint's own hold other bits: the table knows none of them.
bool needs_table(const Comparison& comparison, const DiffOptions& options,
                 const Difference& difference) {
  if (difference.subject >= comparison.subjects.size()) {
    return true;
  }
  const Subject& subject = comparison.subjects[difference.subject];
  return subject.found && difference.explanation.confidence() < kSettled &&
         subject.found->spec->dtype == as_stored(subject, options).dtype;
}

/// Sizes of rows that the wanted side has.
std::set<ByteOffset> wanted_row_sizes(const Comparison& comparison, const DiffOptions& options) {
  std::set<ByteOffset> out;
  for (const Subject& subject : comparison.subjects) {
    out.insert(table_row_bytes(as_stored(subject, options)));
  }
  return out;
}

/// Layers of multi-token prediction that hold nothing known while the rest of the model is right
/// were written from other weights, or not at all.
void name_stale(const Comparison& comparison, std::vector<Difference>& differences) {
  const auto mtp = [&](const Difference& one) {
    return one.subject < comparison.subjects.size() &&
           is_mtp(comparison.subjects[one.subject].global_name());
  };
  if (!std::all_of(differences.begin(), differences.end(), mtp)) {
    return;
  }
  for (Difference& one : differences) {
    if (one.explanation.cause == Cause::Unexplained && one.bytes_differ) {
      one.explanation = {
          Cause::Stale,
          "every tensor outside of the MTP layers is the wanted one: these hold other "
          "weights, as when they were not written again",
          0,
          0,
          true,
          {}};
    }
  }
}

}  // namespace

Status explain(const Comparison& comparison, const DiffOptions& options, const Division& division,
               std::vector<Difference>& differences) {
  std::vector<Difference*> all;
  for (Difference& one : differences) {
    all.push_back(&one);
  }
  const std::vector<std::size_t> mine = division.mine_of(all);
  BV_CHECK(for_each_parallel(mine.size(), options.jobs, [&](std::size_t at) -> Status {
    Difference& one = differences[mine[at]];
    if (one.subject >= comparison.subjects.size()) {
      one.explanation = {
          Cause::Unexpected, "nothing of the wanted side has this name", 0, 0, true, {}};
      one.explanation.exact = false;
    } else {
      one.explanation = explain_one(comparison.subjects[one.subject], options, one);
    }
    if (options.progress != nullptr && options.progress->stop_requested()) {
      return fail(Code::Stopped, "stopped before the end").advise("run diff again");
    }
    return Done{};
  }));
  BV_CHECK(division.unite(all, mine));
  // A tensor whose rows have a size that no wanted row has need not be read.
  const std::set<ByteOffset> wanted = wanted_row_sizes(comparison, options);
  std::set<ByteOffset> sizes;
  std::vector<Difference*> open;
  for (Difference& one : differences) {
    if (!needs_table(comparison, options, one)) {
      continue;
    }
    const ByteOffset size = table_row_bytes(*found_of(comparison, one).spec);
    if (wanted.contains(size)) {
      sizes.insert(size);
      open.push_back(&one);
    }
  }
  if (!open.empty()) {
    BV_TRY(table, hash_rows(comparison, {sizes.begin(), sizes.end()}, options, division));
    const std::vector<std::size_t> mine_open = division.mine_of(open);
    for (const std::size_t i : mine_open) {
      look_up_rows(comparison, table, *open[i]);
    }
    BV_CHECK(division.unite(open, mine_open));
  }
  name_stale(comparison, differences);
  return Done{};
}

}  // namespace bv::compare
