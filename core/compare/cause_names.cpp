#include "core/compare/diff.hpp"

namespace bv::compare {

std::string_view name(Cause cause) {
  switch (cause) {
    case Cause::SwappedParts:
      return "swapped_parts";
    case Cause::HeadMajor:
      return "head_major";
    case Cause::CutAfterJoin:
      return "cut_after_join";
    case Cause::Alternating:
      return "alternating";
    case Cause::OtherRank:
      return "other_rank";
    case Cause::OtherLayer:
      return "other_layer";
    case Cause::OtherExpert:
      return "other_expert";
    case Cause::OtherTensor:
      return "other_tensor";
    case Cause::Regrouped:
      return "regrouped";
    case Cause::Transposed:
      return "transposed";
    case Cause::Zeroed:
      return "zeroed";
    case Cause::PlusOne:
      return "plus_one";
    case Cause::MinusOne:
      return "minus_one";
    case Cause::Narrowed:
      return "narrowed";
    case Cause::Widened:
      return "widened";
    case Cause::Recast:
      return "recast";
    case Cause::Relabelled:
      return "relabelled";
    case Cause::Padded:
      return "padded";
    case Cause::Truncated:
      return "truncated";
    case Cause::PaddingNotZero:
      return "padding_not_zero";
    case Cause::Missing:
      return "missing";
    case Cause::Unexpected:
      return "unexpected";
    case Cause::Renamed:
      return "renamed";
    case Cause::Stale:
      return "stale";
    case Cause::Unexplained:
      return "unexplained";
  }
  return "unexplained";
}

}  // namespace bv::compare
