#include "properties/claims/adapter_compare.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <tuple>

#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"
#include "core/kinds/values.hpp"

namespace bv::claims {
namespace {

/// One tensor, or one expert of a stack.
using DeltaPlace = std::pair<std::string, std::int64_t>;
/// The pairs there, by first row.
using DeltaPairs = std::vector<const lora::AdapterPair*>;

std::map<DeltaPlace, DeltaPairs> by_place(const lora::Adapter& adapter) {
  std::map<DeltaPlace, DeltaPairs> out;
  for (const lora::AdapterPair& pair : adapter.pairs) {
    out[{pair.base, pair.expert}].push_back(&pair);
  }
  return out;
}

double element(const lora::Factor& factor, std::int64_t row, std::int64_t column) {
  return kinds::load(factor.at(row, column), factor.dtype);
}

bool same_matrix(const lora::Factor& a, const lora::Factor& b) {
  if (a.rows != b.rows || a.columns != b.columns) {
    return false;
  }
  for (std::int64_t row = 0; row < a.rows; ++row) {
    for (std::int64_t column = 0; column < a.columns; ++column) {
      if (element(a, row, column) != element(b, row, column)) {
        return false;
      }
    }
  }
  return true;
}

double scale_of_pair(const lora::AdapterPair& pair) {
  return lora::scale64(pair.scale, pair.alpha, pair.rank());
}

/// The same rows of the base, and DoRA of both or of none.
bool same_place(const lora::AdapterPair& a, const lora::AdapterPair& b) {
  return a.first_row == b.first_row && (a.b.rows < 2 || a.row_step == b.row_step) &&
         a.transposed == b.transposed && a.magnitude.has_value() == b.magnitude.has_value();
}

/// Rows of the base's out axis -> delta, and the magnitude of DoRA behind it; rows without a pair
/// are not there.
using DeltaRows = std::map<std::int64_t, std::vector<double>>;
DeltaRows rows_of_delta(const DeltaPairs& pairs) {
  DeltaRows out;
  for (const lora::AdapterPair* pair : pairs) {
    const double scale = scale_of_pair(*pair);
    for (std::int64_t i = 0; i < pair->b.rows; ++i) {
      auto& row = out[pair->first_row + i * pair->row_step];
      row.assign(static_cast<std::size_t>(pair->a.columns), 0);
      for (std::int64_t k = 0; k < pair->rank(); ++k) {
        const double b = element(pair->b, i, k);
        for (std::int64_t j = 0; j < pair->a.columns; ++j) {
          row[static_cast<std::size_t>(j)] += b * element(pair->a, k, j);
        }
      }
      for (double& value : row) {
        value *= scale;
      }
      if (pair->magnitude) {
        row.push_back(element(*pair->magnitude, i, 0));
      }
    }
  }
  return out;
}

/// Sums in another order differ by this much at most.
constexpr double kSumError = 0x1p-40;

bool same_row(const std::vector<double>& a, const std::vector<double>& b) {
  double largest = 0;
  for (const double value : b) {
    largest = std::max(largest, std::abs(value));
  }
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [&](double x, double y) {
           return std::abs(x - y) <= kSumError * largest;
         });
}

struct DeltaFault {
  Code code = Code::AdapterDiffers;
  std::string what;  // the same for all tensors of one cause
  std::string found;
  std::string wanted;
};

DeltaFault of_rows(const DeltaRows& found, const DeltaRows& wanted) {
  std::int64_t wrong = 0;
  std::int64_t first = -1;
  for (const auto& [row, values] : wanted) {
    const auto there = found.find(row);
    if (there == found.end() || !same_row(there->second, values)) {
      first = wrong++ == 0 ? row : first;
    }
  }
  DeltaFault out;
  if (wrong == 0) {  // rows that the other adapter leaves alone
    const auto more = std::find_if(found.begin(), found.end(),
                                   [&](const auto& one) { return !wanted.contains(one.first); });
    out.what = "changes rows that the other adapter leaves alone";
    out.found = fmt::format("{}, row {} among them", counted(found.size(), "row"), more->first);
    out.wanted = counted(wanted.size(), "row");
    return out;
  }
  out.what = "rows of the delta are not those of the other adapter";
  out.wanted = fmt::format("row {} of the other adapter", first);
  out.found = fmt::format("{} of {} rows differ, the first is {}", wrong, wanted.size(), first);
  const auto there = found.find(first);
  for (const auto& [row, values] : wanted) {
    if (there != found.end() && same_row(there->second, values)) {
      out.found += fmt::format(", which holds row {}", row);
      out.what = "rows of the delta are at other places";
      break;
    }
  }
  return out;
}

std::optional<DeltaFault> compare_place(const DeltaPairs& found, const DeltaPairs& wanted) {
  const lora::AdapterPair& one = *found.front();
  const lora::AdapterPair& two = *wanted.front();
  const bool single = found.size() == 1 && wanted.size() == 1;
  if (single && same_place(one, two) && same_matrix(one.a, two.a) && same_matrix(one.b, two.b)) {
    if (scale_of_pair(one) == scale_of_pair(two)) {
      return !one.magnitude || same_matrix(*one.magnitude, *two.magnitude)
                 ? std::nullopt
                 : std::optional(DeltaFault{Code::AdapterDiffers, "has other magnitudes",
                                            "other magnitudes", "those of the other adapter"});
    }
    return DeltaFault{Code::ScaleWrong, "has another scale",
                      fmt::format("scale {}", scale_of_pair(one)),
                      fmt::format("scale {}", scale_of_pair(two))};
  }
  const DeltaRows here = rows_of_delta(found);
  const DeltaRows there = rows_of_delta(wanted);
  const bool same =
      here.size() == there.size() &&
      std::equal(here.begin(), here.end(), there.begin(), [](const auto& a, const auto& b) {
        return a.first == b.first && same_row(a.second, b.second);
      });
  return same ? std::nullopt : std::optional(of_rows(here, there));
}

std::string place_name(const DeltaPlace& place) {
  return place.second < 0 ? place.first : fmt::format("{}[{}]", place.first, place.second);
}

/// Trained tensors and biases by the tensor of the base.
template <class One>
std::map<std::string, const One*> by_base(const std::vector<One>& all) {
  std::map<std::string, const One*> out;
  for (const One& one : all) {
    out[one.base] = &one;
  }
  return out;
}

std::optional<DeltaFault> compare_trained(const lora::Replacement& one,
                                          const lora::Replacement& two) {
  const bool same =
      one.tensor->spec.dtype == two.tensor->spec.dtype &&
      std::equal(one.bytes.begin(), one.bytes.end(), two.bytes.begin(), two.bytes.end());
  return same ? std::nullopt
              : std::optional(DeltaFault{Code::AdapterDiffers, "is trained to other values",
                                         "other bytes", "those of the other adapter"});
}

std::optional<DeltaFault> compare_bias(const lora::BiasDelta& one, const lora::BiasDelta& two) {
  const bool same =
      same_matrix(one.delta, two.delta) && lora::scale64(one.scale, one.alpha, one.rank) ==
                                               lora::scale64(two.scale, two.alpha, two.rank);
  return same ? std::nullopt
              : std::optional(DeltaFault{Code::AdapterDiffers, "adds another bias",
                                         "another bias or scale", "that of the other adapter"});
}

/// What two adapters say of their places, gathered by cause.
class Comparison {
 public:
  void add(const std::string& place, const std::optional<DeltaFault>& fault) {
    if (!fault) {
      ++equal_;
      return;
    }
    Verdict& verdict = refuted_[{fault->code, fault->what}];
    if (verdict.cases++ == 0) {
      verdict.claim = "adapter-same";
      verdict.rule = place;
      verdict.kind = "adapter";
      verdict.outcome = Outcome::Refuted;
      verdict.code = fault->code;
      verdict.megatron = place;
      verdict.title = fmt::format("{}: {}", io::in_quotes(place), fault->what);
      verdict.found = fault->found;
      verdict.wanted = fault->wanted;
      verdict.help = "export the adapter again, with the rule of the base for its rows";
    }
    verdict.refuted_cases = verdict.cases;
    verdict.extent = counted(static_cast<std::uint64_t>(verdict.cases), "tensor");
  }

  /// Places of both sides; one that a side lacks is a fault of its own.
  template <class Place, class Value, class Compare, class Name>
  void add_all(const std::map<Place, Value>& here, const std::map<Place, Value>& there,
               const char* what, const Compare& compare, const Name& name) {
    for (const auto& [place, value] : here) {
      const auto other = there.find(place);
      add(name(place),
          other == there.end()
              ? DeltaFault{Code::ExpertPairCount, fmt::format("has a {} too many", what),
                           fmt::format("a {}", what), fmt::format("no {}", what)}
              : compare(value, other->second));
    }
    for (const auto& [place, value] : there) {
      if (!here.contains(place)) {
        add(name(place), DeltaFault{Code::ExpertPairCount, fmt::format("has no {}", what),
                                    fmt::format("no {}", what), fmt::format("a {}", what)});
      }
    }
  }

  [[nodiscard]] std::vector<Verdict> verdicts() &&;

 private:
  std::map<std::tuple<Code, std::string>, Verdict> refuted_;
  std::int64_t equal_ = 0;
};

std::vector<Verdict> Comparison::verdicts() && {
  std::vector<Verdict> out;
  for (auto& [cause, verdict] : refuted_) {
    out.push_back(std::move(verdict));
  }
  if (equal_ > 0) {
    Verdict same;
    same.claim = "adapter-same";
    same.rule = "adapter";
    same.kind = "adapter";
    same.megatron = "adapter";
    same.outcome = Outcome::Held;
    same.evidence.bytes = true;
    same.cases = equal_;
    out.push_back(std::move(same));
  }
  return out;
}

}  // namespace

std::vector<Verdict> compare_adapters(const lora::Adapter& found, const lora::Adapter& wanted) {
  Comparison out;
  out.add_all(by_place(found), by_place(wanted), "pair", compare_place, place_name);
  const auto as_it_is = [](const std::string& name) { return name; };
  out.add_all(
      by_base(found.replacements), by_base(wanted.replacements), "trained tensor",
      [](const auto* one, const auto* two) { return compare_trained(*one, *two); }, as_it_is);
  out.add_all(
      by_base(found.biases), by_base(wanted.biases), "bias",
      [](const auto* one, const auto* two) { return compare_bias(*one, *two); }, as_it_is);
  return std::move(out).verdicts();
}

}  // namespace bv::claims
