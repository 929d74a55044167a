#include "oracles/lora_merge.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace bv::oracle {
namespace {

/// A binary format: significand bits with the hidden one, exponents of normal numbers.
struct Format {
  int precision, least, most;
};
Format format_of(DType dtype) {
  if (dtype == DType::BF16) {
    return {8, -126, 127};
  }
  if (dtype == DType::F16) {
    return {11, -14, 15};
  }
  return {24, -126, 127};
}

double spacing(const Format& format, double magnitude) {
  const int exponent = magnitude > 0 ? std::max(std::ilogb(magnitude), format.least) : format.least;
  return std::ldexp(1.0, exponent - (format.precision - 1));
}

/// Relative error of n roundings at unit roundoff u.
double gamma(double n, double u) {
  return n * u / (1 - n * u);
}

constexpr double kU = 0x1p-24;    // float32
constexpr double kU64 = 0x1p-53;  // float64
constexpr double kTiny = 0x1p-150;

bool is_power_of_two(double value) {
  int exponent = 0;
  return std::abs(std::frexp(value, &exponent)) == 0.5;
}

/// Bound on |s*y| computed in float32 against the exact one.
double delta_bound(const MergeTerms& terms, double magnitude) {
  const auto rank = static_cast<double>(terms.rank);
  const auto rounded = static_cast<double>(static_cast<float>(terms.scale));
  const bool inexact = rounded != terms.scale;
  const bool multiplies = !is_power_of_two(rounded);
  const double scale_error =
      (inexact ? std::abs(rounded - terms.scale) / std::abs(terms.scale) : 0) + 0x1p-52;
  const double n = terms.exact_products ? rank - 1 : rank;
  const double g = gamma(n, kU);
  const double v = multiplies ? kU : 0;
  const double growth =
      g + scale_error + v + g * scale_error + g * v + scale_error * v + g * scale_error * v;
  const double all = n + (inexact ? 1 : 0) + (multiplies ? 1 : 0);
  return magnitude * growth + (1 + gamma(all, kU)) * (rank * std::abs(terms.scale) + 1) * kTiny;
}

double own_error(const MergeTerms& terms, double exact, double magnitude) {
  return gamma(static_cast<double>(terms.rank) + 5, kU64) * magnitude + 0x1p-52 * std::abs(exact);
}

constexpr double kInflate = 1 + 0x1p-40;

/// The least distance from `exact` to a real number that rounds to `found`.
double distance_to_rounding(DType dtype, double found, double exact) {
  if (dtype == DType::F32) {
    return std::abs(found - exact);
  }
  const Format format = format_of(dtype);
  const double sign = std::signbit(found) && found != 0 ? -1.0 : 1.0;
  const double at = std::abs(found);
  const double wanted = sign * exact;
  if (std::isinf(at)) {
    const double top = std::ldexp(2 - std::ldexp(1.0, -format.precision), format.most);
    return std::max(0.0, top - wanted);
  }
  const double above = spacing(format, at) / 2;
  const bool edge = is_power_of_two(at) && std::ilogb(at) > format.least;
  const double below = edge ? above / 2 : above;
  return std::max({0.0, at - below - wanted, wanted - (at + above)});
}

std::size_t bin_of(double ratio) {
  if (ratio == 0) {
    return 0;
  }
  if (!(ratio <= 16)) {
    return MergeTally::kBins - 1;
  }
  if (ratio > 1) {
    return MergeTally::kBins - 2;
  }
  const int power = static_cast<int>(std::ceil(std::log2(ratio)));  // -inf .. 0
  return static_cast<std::size_t>(std::clamp(power + 9, 1, 9));
}

/// Is `found` admissible when the delta is rounded to the dtype before it is added?
bool fits_rounded_delta(const MergeTerms& terms, double base, double delta, double magnitude,
                        double found) {
  const double reach =
      (delta_bound(terms, magnitude) + own_error(terms, delta, magnitude)) * kInflate;
  const double low = base + round_to(terms.dtype, delta - reach);
  const double high = base + round_to(terms.dtype, delta + reach);
  const double slack = (kU + 0x1p-52) * std::max(std::abs(low), std::abs(high)) * kInflate;
  return round_to(terms.dtype, low - slack) <= found &&
         found <= round_to(terms.dtype, high + slack);
}

/// One element of a row.
class ElementJudge {
 public:
  ElementJudge(const MergeTerms& terms, MergeTally& tally) : terms_(terms), tally_(tally) {}

  void judge(double base, double delta, double magnitude, double found, std::int64_t row,
             std::int64_t column) {
    if (!std::isfinite(base)) {
      ++tally_.elements;
      const bool kept = std::isnan(base) ? std::isnan(found) : found == base;
      record(kept ? 0 : std::numeric_limits<double>::infinity(), kept, kept,
             {row, column, found, base, base, base});
      return;
    }
    const double exact = base + delta;
    compare(exact, merge_bound(terms_, exact, magnitude), found, row, column,
            [&] { return fits_rounded_delta(terms_, base, delta, magnitude, found); });
  }

  /// `otherwise` decides of what is outside whether rounding the delta first explains it.
  template <class Otherwise>
  void compare(double exact, double bound, double found, std::int64_t row, std::int64_t column,
               const Otherwise& otherwise) {
    ++tally_.elements;
    double least = exact - bound;
    double most = exact + bound;
    double ratio = distance_to_rounding(terms_.dtype, found, exact) / bound;
    if (terms_.dtype != DType::F32) {
      least = round_to(terms_.dtype, least);
      most = round_to(terms_.dtype, most);
      tally_.several += least < most ? 1 : 0;
    }
    const bool fits = least <= found && found <= most;  // false for NaN
    if (!fits && !(ratio > 1)) {                        // the edge of an open half-interval
      ratio = std::nextafter(1.0, 2.0);
    }
    record(fits ? std::min(ratio, 1.0) : ratio, fits, fits || otherwise(),
           {row, column, found, exact, least, most});
  }

 private:
  void record(double ratio, bool fits, bool fits_rounded, const MergeTally::Place& place) {
    ++tally_.histogram[bin_of(ratio)];
    tally_.outside += fits ? 0 : 1;
    tally_.outside_rounded_delta += fits_rounded ? 0 : 1;
    if (!fits && !tally_.first_outside) {
      tally_.first_outside = place;
    }
    if (ratio > tally_.worst || !tally_.worst_place) {
      tally_.worst = std::max(tally_.worst, ratio);
      tally_.worst_place = place;
    }
  }

  const MergeTerms& terms_;
  MergeTally& tally_;
};

}  // namespace

double round_to(DType dtype, double value) {
  if (value == 0 || !std::isfinite(value)) {
    return value;
  }
  const Format format = format_of(dtype);
  const double step = spacing(format, std::abs(value));
  const double out = std::nearbyint(value / step) * step;
  const double most = std::ldexp(2 - std::ldexp(1.0, 1 - format.precision), format.most);
  return std::abs(out) > most ? std::copysign(std::numeric_limits<double>::infinity(), value) : out;
}

double merge_bound(const MergeTerms& terms, double exact, double magnitude) {
  const double delta = delta_bound(terms, magnitude);
  const double sum = delta + kU * (std::abs(exact) + delta);
  return (sum + own_error(terms, exact, magnitude)) * kInflate;
}

void MergeTally::add(const MergeTally& other) {
  elements += other.elements;
  outside += other.outside;
  several += other.several;
  outside_rounded_delta += other.outside_rounded_delta;
  for (std::size_t i = 0; i < kBins; ++i) {
    histogram[i] += other.histogram[i];
  }
  if (!first_outside) {
    first_outside = other.first_outside;
  }
  if (other.worst_place && (!worst_place || other.worst > worst)) {
    worst_place = other.worst_place;
    worst = other.worst;
  }
}

namespace {

/// sum b*a and sum |b||a| of every column.
struct Sums {
  std::vector<double> exact, sizes;
};
Sums sums_of(const MergedRow& elements) {
  const std::size_t columns = elements.base.size();
  Sums out{std::vector<double>(columns), std::vector<double>(columns)};
  for (std::size_t k = 0; k < elements.b.size(); ++k) {
    const double factor = elements.b[k];
    const double* a = elements.a.data() + k * columns;
    for (std::size_t j = 0; j < columns; ++j) {
      const double product = factor * a[j];  // exact: 24 and 24 bits
      out.exact[j] += product;
      out.sizes[j] += std::abs(product);
    }
  }
  return out;
}

}  // namespace

void judge_merged_row(const MergeTerms& terms, const MergedRow& elements, std::int64_t row,
                      MergeTally& tally) {
  const Sums sums = sums_of(elements);
  ElementJudge judge(terms, tally);
  for (std::size_t j = 0; j < elements.base.size(); ++j) {
    judge.judge(elements.base[j], terms.scale * sums.exact[j],
                std::abs(terms.scale) * sums.sizes[j], elements.found[j], row,
                static_cast<std::int64_t>(j));
  }
}

void judge_scaled_row(const MergeTerms& terms, const MergedRow& elements, double magnitude,
                      std::int64_t row, MergeTally& tally) {
  const Sums sums = sums_of(elements);
  const std::size_t columns = elements.base.size();
  std::vector<double> exact(columns);
  std::vector<double> errors(columns);
  double squares = 0;
  double error_squares = 0;
  for (std::size_t j = 0; j < columns; ++j) {
    exact[j] = elements.base[j] + terms.scale * sums.exact[j];
    errors[j] = merge_bound(terms, exact[j], std::abs(terms.scale) * sums.sizes[j]);
    squares += exact[j] * exact[j];
    error_squares += errors[j] * errors[j];
  }
  const double norm = std::sqrt(squares);
  const double off = std::sqrt(error_squares) / norm + gamma(static_cast<double>(columns) + 2, kU);
  const bool usable = norm > 0 && std::isfinite(norm) && off < 1;
  const double factor = magnitude / norm;
  const double growth = (1 + kU) * (1 + kU) / (1 - off) - 1;
  ElementJudge judge(terms, tally);
  for (std::size_t j = 0; j < columns; ++j) {
    const double size = std::abs(exact[j]);
    const double bound =
        std::abs(factor) * (growth * size + (1 + growth) * errors[j]) * kInflate + kTiny;
    judge.compare(usable ? factor * exact[j] : std::numeric_limits<double>::quiet_NaN(), bound,
                  elements.found[j], row, static_cast<std::int64_t>(j), [] { return false; });
  }
}

}  // namespace bv::oracle
