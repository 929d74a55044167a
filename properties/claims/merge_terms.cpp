#include "properties/claims/merge_terms.hpp"

#include <tuple>

namespace bv::claims {

using lora::AdapterPair;
using oracle::MergeTally;

namespace {

double at(const lora::Factor& factor, std::int64_t row, std::int64_t column) {
  return kinds::load(factor.at(row, column), factor.dtype);
}

bool is_half(DType dtype) {
  return dtype == DType::BF16 || dtype == DType::F16;
}

}  // namespace

Term term_of(const AdapterPair& pair) {
  Term out;
  out.expert = std::max<std::int64_t>(0, pair.expert);
  out.rank = pair.rank();
  out.scale = lora::scale64(pair.scale, pair.alpha, out.rank);
  out.kind = pair.scale;
  out.alpha = pair.alpha;
  out.divisor = out.rank;
  out.exact_products = is_half(pair.a.dtype) && is_half(pair.b.dtype);
  // DoRA scales an output, which must be a row of the term.
  out.by_columns = pair.transposed && pair.magnitude.has_value();
  const bool turned = pair.transposed && !out.by_columns;
  out.rows = turned ? pair.a.columns : pair.b.rows;
  out.columns = turned ? pair.b.rows : pair.a.columns;
  (turned ? out.first_column : out.first_row) = pair.first_row;
  (turned ? out.column_step : out.row_step) = pair.row_step;
  out.left = [&pair, turned](std::int64_t i, std::int64_t k) {
    return turned ? at(pair.a, k, i) : at(pair.b, i, k);
  };
  for (std::int64_t k = 0; k < out.rank; ++k) {
    for (std::int64_t j = 0; j < out.columns; ++j) {
      out.right.push_back(turned ? at(pair.b, j, k) : at(pair.a, k, j));
    }
  }
  if (pair.magnitude) {
    out.magnitude = [&pair](std::int64_t i) { return at(*pair.magnitude, i, 0); };
  }
  return out;
}

Term term_of(const lora::BiasDelta& bias) {
  Term out;
  out.rank = 1;
  out.scale = lora::scale64(bias.scale, bias.alpha, bias.rank);
  out.kind = bias.scale;
  out.alpha = bias.alpha;
  out.divisor = bias.rank;
  out.exact_products = true;  // a product with 1
  out.rows = bias.delta.rows;
  out.columns = 1;
  out.left = [&bias](std::int64_t i, std::int64_t) { return at(bias.delta, i, 0); };
  out.right = {1};
  return out;
}

void TensorJudge::term(const Term& term, double scale, MergeTally& tally) const {
  const oracle::MergeTerms terms{sides_.spec.dtype, term.rank, scale, term.exact_products};
  std::vector<double> base(static_cast<std::size_t>(term.columns));
  std::vector<double> found(base.size());
  std::vector<double> b(static_cast<std::size_t>(term.rank));
  for (std::int64_t i = 0; i < term.rows; ++i) {
    for (std::int64_t j = 0; j < term.columns; ++j) {
      const auto [row, column] = term.place(i, j, sides_.rows);
      const std::int64_t element = row * sides_.columns + column;
      base[static_cast<std::size_t>(j)] = sides_.base_at(element);
      found[static_cast<std::size_t>(j)] = sides_.found_at(element);
    }
    for (std::int64_t k = 0; k < term.rank; ++k) {
      b[static_cast<std::size_t>(k)] = term.left(i, k);
    }
    MergeTally own;
    if (term.magnitude) {
      oracle::judge_scaled_row(terms, {base, b, term.right, found}, term.magnitude(i), i, own);
    } else {
      oracle::judge_merged_row(terms, {base, b, term.right, found}, i, own);
    }
    for (auto* place : {&own.first_outside, &own.worst_place}) {
      if (*place) {
        std::tie((*place)->row, (*place)->column) =
            term.place((*place)->row, (*place)->column, sides_.rows);
      }
    }
    tally.add(own);
  }
}

void TensorJudge::rest(const std::vector<Term>& terms, MergeTally& tally) const {
  const std::int64_t elements = std::ssize(sides_.base) / sides_.size();
  std::vector<bool> reached(static_cast<std::size_t>(elements), false);
  for (const Term& term : terms) {
    for (std::int64_t i = 0; i < term.rows; ++i) {
      for (std::int64_t j = 0; j < term.columns; ++j) {
        const auto [row, column] = term.place(i, j, sides_.rows);
        reached[static_cast<std::size_t>(row * sides_.columns + column)] = true;
      }
    }
  }
  MergeTally own;
  for (std::int64_t element = 0; element < elements; ++element) {
    if (reached[static_cast<std::size_t>(element)]) {
      continue;
    }
    const bool kept = sides_.kept(element);
    ++own.elements;
    ++own.histogram[kept ? 0 : MergeTally::kBins - 1];
    if (!kept) {
      ++own.outside;
      ++own.outside_rounded_delta;
      if (!own.first_outside) {
        const double base = sides_.base_at(element);
        own.first_outside = MergeTally::Place{element / sides_.columns,
                                              element % sides_.columns,
                                              sides_.found_at(element),
                                              base,
                                              base,
                                              base};
      }
    }
  }
  tally.add(own);
}

}  // namespace bv::claims
