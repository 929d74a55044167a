#include "core/compare/diff.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <mutex>

#include "core/base/arith.hpp"
#include "core/base/workers.hpp"
#include "core/compare/division.hpp"
#include "core/compare/explain_diff.hpp"
#include "core/kinds/values.hpp"
#include "core/move/move.hpp"

namespace bv::compare {
namespace {

constexpr ByteOffset kWindow{std::int64_t{1} << 20};
constexpr std::uint64_t kReleaseBytes = 8U << 20U;
bool below_a_byte(DType dtype) {
  return bits(dtype) % 8 != 0;
}

move::Recipe recipe_of(const View& view) {
  const Units units = units_of(view.spec);
  return checkpoint::over_chunks(
      {units.dtype, units.count, view.boxes, {}, view.add, move::Gaps::Zero}, view.sources);
}

}  // namespace

Units units_of(const TensorSpec& spec) {
  const std::int64_t count = element_count(spec.shape).value_or(0);
  if (!below_a_byte(spec.dtype)) {
    return {spec.dtype, spec.shape, count};
  }
  const std::int64_t all = checked_mul(count, bits(spec.dtype)).value_or(0) / 8;
  Units out{DType::U8, {all}, all};
  if (!spec.shape.empty() && spec.shape.back() % 8 == 0) {
    out.shape = spec.shape;
    out.shape.back() = spec.shape.back() / 8 * bits(spec.dtype);
  } else if (!spec.shape.empty() && spec.shape.back() * bits(spec.dtype) % 8 == 0) {
    out.shape = spec.shape;
    out.shape.back() = spec.shape.back() * bits(spec.dtype) / 8;
  }
  return out;
}

RowShape rows_of(const Shape& shape) {
  const std::int64_t all = element_count(shape).value_or(0);
  std::int64_t row = 1;
  if (shape.size() == 3 && shape[1] != 1) {
    row = shape[2];
  } else if (shape.size() >= 2) {
    row = shape[0] == 0 ? 0 : all / shape[0];
  }
  return row == 0 ? RowShape{} : RowShape{all / row, ElementOffset(row)};
}

ViewReader::ViewReader(const View& view) : view_(view), maker_(recipe_of(view)) {}

std::span<const std::byte> ViewReader::read(ElementOffset begin, ElementOffset end) {
  const auto made = maker_.read(begin, end);
  BV_ASSERT(made.has_value());  // views never write an element twice, and gaps are zeros
  return *made;
}

void ViewReader::release() const {
  checkpoint::release(view_.sources);
}

double Explanation::confidence() const {
  if (exact) {
    return 1;
  }
  return rows_examined == 0
             ? 0
             : static_cast<double>(rows_explained) / static_cast<double>(rows_examined);
}

namespace {

std::string hex_of(std::span<const std::byte> element) {
  std::string out = "0x";
  for (std::size_t i = element.size(); i-- > 0;) {
    out += fmt::format("{:02x}", static_cast<unsigned>(element[i]));
  }
  return out;
}

/// Distance on the number line of representable values; -1 for NaN and types that are no floats.
std::int64_t ulps_between(const std::byte* a, const std::byte* b, DType dtype) {
  const auto ordered = [dtype](const std::byte* at) {
    std::uint64_t raw = 0;
    const auto size = static_cast<std::size_t>(bytes(dtype));
    std::memcpy(&raw, at, size);
    const std::uint64_t sign = std::uint64_t{1} << (size * 8 - 1);
    return (raw & sign) != 0 ? -static_cast<std::int64_t>(raw & ~sign)
                             : static_cast<std::int64_t>(raw);
  };
  if (!kinds::is_computable(dtype) || std::isnan(kinds::load(a, dtype)) ||
      std::isnan(kinds::load(b, dtype))) {
    return -1;
  }
  const auto [low, high] = std::minmax({ordered(a), ordered(b)});
  std::int64_t out = 0;
  return __builtin_sub_overflow(high, low, &out) ? -1 : out;
}

/// Wrong rows in order, thinned evenly when there are many.
class WrongRows {
 public:
  void add(std::int64_t row) {
    if (row == last_) {
      return;
    }
    last_ = row;
    if (count_++ % step_ == 0) {
      rows_.push_back(row);
    }
    if (rows_.size() > kRowsExamined) {
      for (std::size_t i = 0; i < rows_.size(); i += 2) {
        rows_[i / 2] = rows_[i];
      }
      rows_.resize((rows_.size() + 1) / 2);
      step_ *= 2;
    }
  }
  [[nodiscard]] std::int64_t count() const { return count_; }
  [[nodiscard]] std::vector<std::int64_t> take() { return std::move(rows_); }

 private:
  std::vector<std::int64_t> rows_;
  std::int64_t last_ = -1;
  std::int64_t count_ = 0;
  std::int64_t step_ = 1;
};

bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

/// Compares one subject with the tensor found in its place.
class Compare {
 public:
  Compare(const Subject& subject, Difference& out) : subject_(subject), out_(out) {}

  Result<std::uint64_t> run(const DiffOptions& options) {
    const TensorSpec& found = *subject_.found->spec;
    out_.dtype_differs = found.dtype != subject_.spec.dtype;
    out_.shape_differs = found.shape != subject_.spec.shape;
    const Units units = units_of(subject_.spec);
    out_.elements = units.count;
    out_.rows = rows_of(units.shape).count;
    out_.values_read = options.values;
    if (out_.shape_differs || !options.values) {
      return std::uint64_t{0};
    }
    View view = subject_.wanted();
    out_.same_bits = out_.dtype_differs && bits_are_equal(view);
    const bool comparable = !out_.dtype_differs || (kinds::is_computable(found.dtype) &&
                                                    kinds::is_computable(subject_.spec.dtype));
    if (out_.dtype_differs) {  // zeros alone are equal bits and equal values
      out_.values_lost = comparable ? count_lost(view) : out_.elements;
    }
    if (out_.same_bits || !comparable) {
      return std::uint64_t{0};
    }
    view.spec.dtype = found.dtype;  // a difference of types is told apart from one of values
    return stream(view, options.progress);
  }

 private:
  /// Do the wanted bits stand there under the name of another type of the same width?
  bool bits_are_equal(const View& view) {
    if (bits(view.spec.dtype) != bits(subject_.found->spec->dtype)) {
      return false;
    }
    ViewReader reader(view);
    checkpoint::TensorBytes there(*subject_.found);
    const ElementWidth width = reader.width();
    const ElementOffset step = width.at_least_one_in(kWindow);
    bool equal = true;
    for (ElementOffset begin; equal && begin < reader.elements(); begin += step) {
      const ElementOffset end = std::min(reader.elements(), begin + step);
      const auto wanted = reader.read(begin, end);
      equal = same_bytes(wanted, there.read(width.to_bytes(begin), width.to_bytes(end)));
      reader.release();
      there.release();
    }
    return equal;
  }

  /// Elements that have another value than the wanted one when they are cast to its type.
  std::int64_t count_lost(const View& view) {
    ViewReader reader(view);
    checkpoint::TensorBytes there(*subject_.found);
    const DType from = subject_.found->spec->dtype;
    const ElementWidth width = reader.width();
    const ElementWidth stored(from);
    const auto size = static_cast<std::size_t>(width.bytes());
    std::vector<std::byte> cast;
    std::int64_t out = 0;
    for (ElementOffset begin; begin < reader.elements();) {
      const ElementOffset end = std::min(reader.elements(), begin + width.at_least_one_in(kWindow));
      const auto wanted = reader.read(begin, end);
      cast.resize(wanted.size());
      kinds::cast(there.read(stored.to_bytes(begin), stored.to_bytes(end)).data(), from,
                  cast.data(), view.spec.dtype, (end - begin).value);
      for (std::size_t at = 0; at < wanted.size(); at += size) {
        out += std::memcmp(wanted.data() + at, cast.data() + at, size) == 0 ? 0 : 1;
      }
      reader.release();
      there.release();
      begin = end;
    }
    return out;
  }

  Result<std::uint64_t> stream(const View& view, ProgressSink* progress) {
    ViewReader reader(view);
    checkpoint::TensorBytes there(*subject_.found);
    const ElementWidth width = reader.width();
    const ElementOffset step = width.at_least_one_in(kWindow);
    row_elements_ = rows_of(units_of(view.spec).shape).elements.value;
    std::uint64_t unreleased = 0;
    for (ElementOffset begin; begin < reader.elements(); begin += step) {
      const ElementOffset end = std::min(reader.elements(), begin + step);
      const auto wanted = reader.read(begin, end);
      const auto has = there.read(width.to_bytes(begin), width.to_bytes(end));
      if (!same_bytes(wanted, has)) {
        count_wrong(wanted, has, begin, width);
      }
      unreleased += wanted.size();
      if (unreleased >= kReleaseBytes) {
        reader.release();
        there.release();
        unreleased = 0;
      }
      if (progress != nullptr) {
        progress->advance(wanted.size(), end == reader.elements() ? 1 : 0, subject_.tensor);
        if (progress->stop_requested()) {
          return fail(Code::Stopped, "stopped before the end").advise("run diff again");
        }
      }
    }
    reader.release();
    there.release();
    out_.rows_wrong = rows_.count();
    out_.wrong_rows = rows_.take();
    return width.to_bytes(reader.elements()).size();
  }

  void count_wrong(std::span<const std::byte> wanted, std::span<const std::byte> found,
                   ElementOffset begin, ElementWidth width) {
    const auto size = static_cast<std::size_t>(width.bytes());
    for (std::size_t at = 0; at < wanted.size(); at += size) {
      const auto wants = wanted.subspan(at, size);
      const auto has = found.subspan(at, size);
      if (std::equal(wants.begin(), wants.end(), has.begin(), has.end())) {
        continue;
      }
      const std::int64_t element = begin.value + static_cast<std::int64_t>(at / size);
      if (!out_.bytes_differ) {
        note_first(element, wants, has);
      }
      ++out_.elements_wrong;
      rows_.add(element / std::max<std::int64_t>(row_elements_, 1));
    }
  }

  void note_first(std::int64_t element, std::span<const std::byte> wanted,
                  std::span<const std::byte> found) {
    const TensorSpec& spec = *subject_.found->spec;
    out_.bytes_differ = true;
    out_.first = below_a_byte(spec.dtype) ? Shape{element} : index_of(element, spec.shape);
    out_.wanted_bits = hex_of(wanted);
    out_.found_bits = hex_of(found);
    if (kinds::is_computable(spec.dtype)) {
      out_.has_values = true;
      out_.wanted_value = kinds::load(wanted.data(), spec.dtype);
      out_.found_value = kinds::load(found.data(), spec.dtype);
      out_.ulps = ulps_between(wanted.data(), found.data(), spec.dtype);
    }
  }

  const Subject& subject_;
  Difference& out_;
  WrongRows rows_;
  std::int64_t row_elements_ = 1;
};

/// What this process compares, for the progress line.
void start(const Comparison& comparison, const DiffOptions& options,
           const std::vector<std::size_t>& mine) {
  if (options.progress != nullptr) {
    std::uint64_t total = 0;
    for (const std::size_t i : mine) {
      total += tensor_bytes(comparison.subjects[i].spec);
    }
    options.progress->start("bytes", total, mine.size());
  }
}

/// The subjects of this process, each for itself.
Status compare_each(const Comparison& comparison, const DiffOptions& options,
                    const std::vector<std::size_t>& mine, DiffReport& report) {
  start(comparison, options, mine);
  std::mutex mutex;
  BV_CHECK(for_each_parallel(mine.size(), options.jobs, [&](std::size_t at) -> Status {
    const std::size_t i = mine[at];
    const Subject& subject = comparison.subjects[i];
    Difference found;
    found.subject = i;
    std::uint64_t compared = 0;
    if (subject.found) {
      BV_TRY(bytes_read, Compare(subject, found).run(options));
      compared = bytes_read;
    }
    const bool same = subject.found && !found.bytes_differ && !found.shape_differs;
    const bool kept = same && found.dtype_differs && found.values_lost == 0;
    const bool shared = kept && subject.found->spec->dtype == subject.shared_dtype;
    const bool recast = kept && subject.found->spec->dtype == options.own_dtype;
    const std::lock_guard lock(mutex);
    report.bytes_compared += compared;
    if (shared || recast || (same && !found.dtype_differs)) {
      ++report.equal;
      report.shared += shared ? 1 : 0;
      report.recast += recast && !shared ? 1 : 0;
    } else {
      report.differences.push_back(std::move(found));
    }
    return Done{};
  }));
  return Done{};
}

}  // namespace

Result<DiffReport> diff(const Comparison& comparison, const DiffOptions& options) {
  BV_TRY(division, Division::make(comparison, options));
  DiffReport report;
  division.tells_progress(true);
  const Status compared = compare_each(comparison, options, division.mine(), report);
  division.tells_progress(false);
  BV_CHECK(compared);
  BV_CHECK(division.unite(report));
  std::sort(report.differences.begin(), report.differences.end(),
            [](const Difference& a, const Difference& b) { return a.subject < b.subject; });
  for (std::size_t i = 0; i < comparison.strays.size(); ++i) {
    report.differences.emplace_back().subject = comparison.subjects.size() + i;
  }
  if (!report.differences.empty()) {
    BV_CHECK(division.agree_on_all());
    BV_CHECK(explain(comparison, options, division, report.differences));
  }
  return report;
}

}  // namespace bv::compare
