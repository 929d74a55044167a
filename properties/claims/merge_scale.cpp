#include "properties/claims/merge_scale.hpp"

#include <fmt/format.h>

#include <array>
#include <cmath>

namespace bv::claims {
namespace {

using lora::ScaleKind;

struct Mistake {
  const char* why;
  double (*scale)(const Term&);
};

/// The first that explains every element is told.
constexpr std::array kMistakes = {
    Mistake{"the tensor is the base's: the adapter was not merged into it",
            [](const Term&) { return 0.0; }},
    Mistake{
        "the scale is that of rsLoRA, alpha / sqrt(r)",
        [](const Term& one) { return lora::scale64(ScaleKind::RsLora, one.alpha, one.divisor); }},
    Mistake{"the scale is alpha / r, and that of rsLoRA is alpha / sqrt(r)",
            [](const Term& one) { return lora::scale64(ScaleKind::Lora, one.alpha, one.divisor); }},
    Mistake{"the scale was left out: every element is base + B * A",
            [](const Term&) { return 1.0; }},
    Mistake{"the scale was inverted: every element is base + (B * A) / s",
            [](const Term& one) { return 1 / one.scale; }},
    Mistake{"alpha was left out: every element is base + (B * A) / r",
            [](const Term& one) { return one.scale / one.alpha; }},
    Mistake{"alpha was not divided: every element is base + alpha * (B * A)",
            [](const Term& one) { return one.alpha; }},
    Mistake{"the adapter was merged twice", [](const Term& one) { return 2 * one.scale; }},
    Mistake{"the adapter was subtracted", [](const Term& one) { return -one.scale; }},
};

/// "12 / 6 = 2"
std::string scale_text(const Term& term) {
  return term.kind == ScaleKind::RsLora
             ? fmt::format("alpha / sqrt(r) = {:.6g} / sqrt({}) = {:.4g}", term.alpha, term.divisor,
                           term.scale)
             : fmt::format("alpha / r = {:.6g} / {} = {:.4g}", term.alpha, term.divisor,
                           term.scale);
}

bool explains(const TwoTensors& sides, const std::vector<Term>& terms, const Mistake& mistake) {
  oracle::MergeTally tally;
  for (const Term& term : terms) {
    TensorJudge(sides).term(term, mistake.scale(term), tally);
  }
  return tally.outside == 0;
}

bool one_scale(const std::vector<Term>& terms) {
  return std::all_of(terms.begin(), terms.end(), [&](const Term& one) {
    return one.kind == terms.front().kind && one.alpha == terms.front().alpha &&
           one.divisor == terms.front().divisor;
  });
}

}  // namespace

ScaleFit fit_scale(const TwoTensors& sides, const std::vector<Term>& terms) {
  double delta_wanted = 0;
  double wanted_squares = 0;
  double delta_squares = 0;
  for (const Term& term : terms) {
    for (std::int64_t i = 0; i < term.rows; ++i) {
      const std::int64_t row = term.expert * sides.rows + term.first_row + i * term.row_step;
      for (std::int64_t j = 0; j < term.columns; ++j) {
        const std::int64_t element = row * sides.columns + term.first_column + j * term.column_step;
        double product = 0;
        for (std::int64_t k = 0; k < term.rank; ++k) {
          product += term.left(i, k) * term.right[static_cast<std::size_t>(k * term.columns + j)];
        }
        const double wanted = term.scale * product;
        const double delta = sides.found_at(element) - sides.base_at(element);
        if (!std::isfinite(wanted) || !std::isfinite(delta)) {
          continue;
        }
        delta_wanted += delta * wanted;
        wanted_squares += wanted * wanted;
        delta_squares += delta * delta;
      }
    }
  }
  ScaleFit out;
  if (wanted_squares > 0) {
    out.factor = delta_wanted / wanted_squares;
    const double left = delta_squares - out.factor * delta_wanted;
    out.left_over = delta_squares > 0 ? std::sqrt(std::max(0.0, left) / delta_squares) : 0;
  }
  return out;
}

std::string scale_found(const TwoTensors& sides, const std::vector<Term>& terms) {
  constexpr double kNear = 0.05;      // of the measured factor, for a mistake to be tried
  constexpr double kLeftOver = 0.25;  // more, and something else is wrong too
  if (terms.empty() || std::any_of(terms.begin(), terms.end(),
                                   [](const Term& one) { return bool(one.magnitude); })) {
    return "";
  }
  const Term& first = terms.front();
  const ScaleFit fit = fit_scale(sides, terms);
  const std::string measured = fmt::format(
      "measured over all elements, the stored delta is {:.3g} times that of the "
      "adapter, whose scale is {}",
      fit.factor, scale_text(first));
  for (const Mistake& mistake : kMistakes) {
    const double factor = mistake.scale(first) / first.scale;
    const bool far = std::abs(factor - fit.factor) > kNear * std::max(1.0, std::abs(factor));
    if (mistake.scale(first) == first.scale || (one_scale(terms) && far) ||
        !explains(sides, terms, mistake)) {
      continue;
    }
    return fit.factor == 0 ? mistake.why : fmt::format("{}; {}", mistake.why, measured);
  }
  const bool right = std::abs(fit.factor - 1) < kNear;
  return right || fit.left_over > kLeftOver || !one_scale(terms)
             ? ""
             : fmt::format("{}: a scale of {:.4g} fits best", measured, fit.factor * first.scale);
}

}  // namespace bv::claims
