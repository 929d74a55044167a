#pragma once
// Two HF models that need not store one parameter alike: under another type, or in another form of
// the family (experts packed or one by one).

#include "core/compare/diff.hpp"
#include "core/kinds/catalogue.hpp"

namespace bv::compare {

/// An HF model and where its tensors are. `headers` has quantised weights as what they are
/// dequantised to.
struct StoredModel {
  const io::TensorStore* store = nullptr;
  const Headers* headers = nullptr;
  const model::Model* model = nullptr;
};

/// What `policy` makes of the parameters of `a` is wanted; what the other side holds in the type
/// that `a` has is compared as it is. `a` must outlive the comparison.
void cast_wanted(const StoredModel& a, const plan::DtypePolicy& policy, Comparison& comparison);

/// Parameters that the two models make by different rules, and that both hold whole, become
/// subjects under their Megatron names in place of the HF tensors: each element of `a` against the
/// one of `b` at the same place, with nothing added. Returns a sentence when there are some. The
/// stores and `kinds` must outlive the comparison.
std::vector<std::string> compare_forms(const StoredModel& a, const StoredModel& b,
                                       const kinds::Catalogue& kinds,
                                       const plan::DtypePolicy& policy, Comparison& comparison);

}  // namespace bv::compare
