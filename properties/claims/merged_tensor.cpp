#include "properties/claims/merged_tensor.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <functional>

#include "core/base/text.hpp"
#include "core/kinds/values.hpp"
#include "properties/claims/merged.hpp"

namespace bv::claims {
namespace {

using lora::AdapterPair;
using oracle::MergeTally;

/// A matrix that an adapter adds to some rows and columns of one slice of a tensor, as float64.
struct Term {
  std::int64_t expert = 0;
  std::int64_t rank = 0;
  double scale = 1;
  bool exact_products = false;
  std::int64_t rows = 0, columns = 0;
  std::int64_t first_row = 0, row_step = 1, first_column = 0, column_step = 1;
  std::function<double(std::int64_t, std::int64_t)> left;  // [rows, rank]
  std::vector<double> right;                               // [rank][columns]
  std::function<double(std::int64_t)> magnitude;           // DoRA; of a row
};

double at(const lora::Factor& factor, std::int64_t row, std::int64_t column) {
  return kinds::load(factor.at(row, column), factor.dtype);
}

bool is_half(DType dtype) {
  return dtype == DType::BF16 || dtype == DType::F16;
}

Term term_of(const AdapterPair& pair) {
  Term out;
  out.expert = std::max<std::int64_t>(0, pair.expert);
  out.rank = pair.rank();
  out.scale = lora::scale64(pair.scale, pair.alpha, out.rank);
  out.exact_products = is_half(pair.a.dtype) && is_half(pair.b.dtype);
  const bool turned = pair.transposed;
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
  out.exact_products = true;  // a product with 1
  out.rows = bias.delta.rows;
  out.columns = 1;
  out.left = [&bias](std::int64_t i, std::int64_t) { return at(bias.delta, i, 0); };
  out.right = {1};
  return out;
}

/// One tensor, in base and merged checkpoint.
struct TwoTensors {
  const TensorSpec& spec;
  std::span<const std::byte> base, found;
  std::int64_t rows = 1, columns = 1;  // of one slice

  TwoTensors(const TensorSpec& of, std::span<const std::byte> left,
             std::span<const std::byte> right, const lora::TensorEdits& edits)
      : spec(of), base(left), found(right) {
    const lora::MatrixSides sides = lora::matrix_sides(of.shape, edits.pairs);
    columns = sides.columns;
    rows = sides.rows;
  }
  [[nodiscard]] std::int64_t size() const { return bytes(spec.dtype); }
  [[nodiscard]] double base_at(std::int64_t element) const {
    return kinds::load(base.data() + element * size(), spec.dtype);
  }
  [[nodiscard]] double found_at(std::int64_t element) const {
    return kinds::load(found.data() + element * size(), spec.dtype);
  }
  [[nodiscard]] bool kept(std::int64_t element) const {
    return std::memcmp(base.data() + element * size(), found.data() + element * size(),
                       static_cast<std::size_t>(size())) == 0;
  }
};

/// Judges rows of one tensor; `row` of a place counts over all slices.
class TensorJudge {
 public:
  explicit TensorJudge(const TwoTensors& sides) : sides_(sides) {}

  /// `scales` replaces the scale of the adapter: what a wrong one would have made.
  void term(const Term& term, const std::function<double(double)>& scales,
            MergeTally& tally) const {
    const oracle::MergeTerms terms{sides_.spec.dtype, term.rank, scales(term.scale),
                                   term.exact_products};
    std::vector<double> base(static_cast<std::size_t>(term.columns));
    std::vector<double> found(base.size());
    std::vector<double> b(static_cast<std::size_t>(term.rank));
    for (std::int64_t i = 0; i < term.rows; ++i) {
      const std::int64_t row = term.expert * sides_.rows + term.first_row + i * term.row_step;
      for (std::int64_t j = 0; j < term.columns; ++j) {
        const std::int64_t element =
            row * sides_.columns + term.first_column + j * term.column_step;
        base[static_cast<std::size_t>(j)] = sides_.base_at(element);
        found[static_cast<std::size_t>(j)] = sides_.found_at(element);
      }
      for (std::int64_t k = 0; k < term.rank; ++k) {
        b[static_cast<std::size_t>(k)] = term.left(i, k);
      }
      MergeTally own;
      if (term.magnitude) {
        oracle::judge_scaled_row(terms, {base, b, term.right, found}, term.magnitude(i), row, own);
      } else {
        oracle::judge_merged_row(terms, {base, b, term.right, found}, row, own);
      }
      for (auto* place : {&own.first_outside, &own.worst_place}) {
        if (*place) {
          (*place)->column = term.first_column + (*place)->column * term.column_step;
        }
      }
      tally.add(own);
    }
  }

  /// Elements that no term reaches must be the base's, byte for byte.
  void rest(const std::vector<Term>& terms, MergeTally& tally) const {
    const std::int64_t elements = std::ssize(sides_.base) / sides_.size();
    std::vector<bool> reached(static_cast<std::size_t>(elements), false);
    for (const Term& term : terms) {
      for (std::int64_t i = 0; i < term.rows; ++i) {
        const std::int64_t row = term.expert * sides_.rows + term.first_row + i * term.row_step;
        for (std::int64_t j = 0; j < term.columns; ++j) {
          reached[static_cast<std::size_t>(row * sides_.columns + term.first_column +
                                           j * term.column_step)] = true;
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

 private:
  const TwoTensors& sides_;
};

/// The index of an element in the tensor's own shape.
std::vector<std::int64_t> place_in(const TwoTensors& sides, const MergeTally::Place& place) {
  std::int64_t element = place.row * sides.columns + place.column;
  std::vector<std::int64_t> out(sides.spec.shape.size());
  for (std::size_t i = out.size(); i-- > 0;) {
    out[i] = element % sides.spec.shape[i];
    element /= sides.spec.shape[i];
  }
  return out;
}

/// What a known mistake would have made, when it explains every element.
std::string explanation(const TwoTensors& sides, const std::vector<Term>& terms) {
  struct Guess {
    const char* why;
    std::function<double(double)> scale;
  };
  const std::vector<Guess> guesses = {
      {"the tensor is the base's: the adapter was not merged into it", [](double) { return 0.0; }},
      {"the scale was left out: every element is base + B * A", [](double) { return 1.0; }},
      {"the scale was inverted: every element is base + (B * A) / s",
       [](double s) { return 1 / s; }},
      {"the adapter was merged twice", [](double s) { return 2 * s; }},
      {"the adapter was subtracted", [](double s) { return -s; }},
  };
  for (const Guess& guess : guesses) {
    MergeTally tally;
    for (const Term& term : terms) {
      if (term.magnitude) {
        return "";
      }
      TensorJudge(sides).term(term, guess.scale, tally);
    }
    if (tally.outside == 0) {
      return guess.why;
    }
  }
  return "";
}

Verdict outside(const TwoTensors& sides, const std::vector<Term>& terms, const MergeTally& tally) {
  const MergeTally::Place& place = *tally.first_outside;
  const std::string element =
      fmt::format("{}[{}]", sides.spec.name, fmt::join(place_in(sides, place), ", "));
  const bool twice = tally.outside_rounded_delta == 0;
  Verdict out = refuted_merge(
      sides.spec.name, twice ? Code::MergeRoundedTwice : Code::MergeOutsideBound,
      fmt::format("{} of {} elements of {} are not base plus adapter", thousands(tally.outside),
                  thousands(tally.elements), sides.spec.name),
      fmt::format("{} at {}", place.found, element),
      place.least == place.most ? fmt::format("{}", place.least)
                                : fmt::format("{} to {}", place.least, place.most),
      "merge again with bridge-verify lora merge");
  out.facts.push_back("error over bound, elements: " + histogram_text(tally));
  out.why = twice ? fmt::format(
                        "the delta was rounded to {} before it was added: with that, every "
                        "element is right",
                        name(sides.spec.dtype))
                  : explanation(sides, terms);
  Counterexample first;
  first.tensor = sides.spec.name;
  first.index = place_in(sides, place);
  first.wanted.tensor = sides.spec.name;
  first.wanted.index = first.index;
  out.counterexamples.push_back(std::move(first));
  return out;
}

}  // namespace

Verdict merge_verdict(const std::string& tensor, Outcome outcome) {
  Verdict out;
  out.claim = "adapter-merge";
  out.hf = {tensor};
  out.outcome = outcome;
  out.cases = 1;
  out.refuted_cases = outcome == Outcome::Refuted ? 1 : 0;
  return out;
}

Verdict refuted_merge(const std::string& tensor, Code code, std::string title, std::string found,
                      std::string wanted, std::string help) {
  Verdict out = merge_verdict(tensor, Outcome::Refuted);
  out.code = code;
  out.title = std::move(title);
  out.found = std::move(found);
  out.wanted = std::move(wanted);
  out.help = std::move(help);
  return out;
}

Verdict judge_merged_tensor(const TensorSpec& spec, std::span<const std::byte> base,
                            std::span<const std::byte> found, const lora::TensorEdits& edits,
                            MergeTally& tally) {
  const TwoTensors sides(spec, base, found, edits);
  if (edits.replacement != nullptr) {
    const lora::Replacement& other = *edits.replacement;
    std::vector<std::byte> wanted(sides.base.size());
    kinds::cast(other.bytes.data(), other.tensor->spec.dtype, wanted.data(), sides.spec.dtype,
                std::ssize(wanted) / sides.size());
    if (!std::equal(wanted.begin(), wanted.end(), sides.found.begin())) {
      return refuted_merge(sides.spec.name, Code::BytesDiffer,
                           sides.spec.name + " is not the tensor that was trained", "other bytes",
                           "those of " + other.tensor->spec.name,
                           "merge again with bridge-verify lora merge");
    }
  } else {
    std::vector<Term> terms;
    for (const AdapterPair* pair : edits.pairs) {
      terms.push_back(term_of(*pair));
    }
    for (const lora::BiasDelta* bias : edits.biases) {
      terms.push_back(term_of(*bias));
    }
    const TensorJudge judge(sides);
    for (const Term& term : terms) {
      judge.term(
          term, [](double s) { return s; }, tally);
    }
    judge.rest(terms, tally);
    if (tally.outside > 0) {
      return outside(sides, terms, tally);
    }
  }
  Verdict out = merge_verdict(sides.spec.name, Outcome::Held);
  out.evidence.bytes = true;
  out.evidence.oracle = true;
  return out;
}

std::string histogram_text(const oracle::MergeTally& tally) {
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < MergeTally::kBins; ++i) {
    if (tally.histogram[i] == 0) {
      continue;
    }
    const std::string label = i == 0                       ? "0"
                              : i + 1 == MergeTally::kBins ? "above 16"
                              : i + 2 == MergeTally::kBins ? "1 to 16"
                              : i == 9                     ? "to 1"
                                       : fmt::format("to 2^{}", static_cast<int>(i) - 9);
    parts.push_back(fmt::format("{}: {}", label, thousands(tally.histogram[i])));
  }
  return join(parts, "  ");
}

}  // namespace bv::claims
