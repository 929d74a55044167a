#include "core/compare/plain_causes.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"
#include "core/kinds/values.hpp"

namespace bv::compare {
namespace {

/// Does every value of `narrow` stand in `wide` as well?
bool holds_every_value(DType wide, DType narrow) {
  const bool halves = wide == DType::F16 && narrow == DType::BF16;  // other exponents
  return kinds::precision(wide) >= kinds::precision(narrow) && !halves;
}

/// What a narrower type left of the values.
std::string kept_text(const Difference& difference) {
  return difference.values_lost == 0
             ? "it holds every one of them"
             : fmt::format("{} of {} are not the wanted ones", thousands(difference.values_lost),
                           thousands(difference.elements));
}

}  // namespace

Explanation explain_dtype(const Subject& subject, const Difference& difference) {
  const DType wanted = subject.spec.dtype;
  const DType found = subject.found->spec->dtype;
  const auto exact = [](Cause cause, std::string text) {
    return Explanation{cause, std::move(text), 0, 0, true, {}};
  };
  const std::string instead =
      fmt::format("the dtype is {} instead of {}", bv::name(found), bv::name(wanted));
  if (!difference.values_read) {
    return exact(Cause::Recast, instead);
  }
  if (difference.same_bits) {
    return exact(Cause::Relabelled,
                 fmt::format("{}, and the bits are those of the wanted {}: the label is wrong",
                             instead, bv::name(wanted)));
  }
  if (!kinds::is_computable(wanted) || !kinds::is_computable(found)) {
    Explanation out;
    out.text = instead + "; values of these types are not compared";
    return out;
  }
  if (holds_every_value(found, wanted)) {
    return exact(Cause::Widened, fmt::format("widened from {} to {}, the values are equal",
                                             bv::name(wanted), bv::name(found)));
  }
  return holds_every_value(wanted, found)
             ? exact(Cause::Narrowed,
                     fmt::format("narrowed from {} to {}, the values are those of the cast: {}",
                                 bv::name(wanted), bv::name(found), kept_text(difference)))
             : exact(Cause::Recast, instead + ", the values are equal after a cast");
}

std::optional<Explanation> explain_padding(const Subject& subject, const View& wanted,
                                           const Difference& difference) {
  const std::int64_t width = rows_of(units_of(wanted.spec).shape).elements.value;
  const auto is_padding = [&](std::int64_t row) {
    std::vector<layout::Box> there;
    for (const layout::Box& box : wanted.boxes) {
      layout::clip_to_target(box, row * width, (row + 1) * width, there);
    }
    return std::all_of(there.begin(), there.end(),
                       [](const layout::Box& box) { return box.source < 0; });
  };
  if (!subject.vocabulary || difference.wrong_rows.empty() ||
      !std::all_of(difference.wrong_rows.begin(), difference.wrong_rows.end(), is_padding)) {
    return std::nullopt;
  }
  const bool one = difference.rows_wrong == 1;
  return Explanation{
      Cause::PaddingNotZero,
      fmt::format("{} that pad{} the vocabulary {} not zero", counted(difference.rows_wrong, "row"),
                  one ? "s" : "", one ? "is" : "are"),
      0,
      0,
      true,
      {}};
}

}  // namespace bv::compare
