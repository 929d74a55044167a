#pragma once
// An adapter on one layout: local factors as boxes over its tensors.

#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/lora/to_megatron.hpp"
#include "core/plan/plan.hpp"
#include "properties/claims/adapter.hpp"

namespace bv::claims {

struct PlacedAdapter {
  plan::Plan plan;
  std::unique_ptr<lora::SitePlan> sites;
  lora::MegatronAdapterFiles files;
  bool canonical = false;  // one pair a projection: the form that pairs of different scales have
};
/// Errors: those of lora::plan_to_megatron.
[[nodiscard]] Result<std::unique_ptr<PlacedAdapter>> place_adapter(const AdapterSubject& subject,
                                                                   const parallel::Layout& layout);

/// Tensors of all files together.
[[nodiscard]] std::int64_t factors_of(const lora::MegatronAdapterFiles& files);

/// What is said of a whole layout on which the adapter cannot be placed.
[[nodiscard]] Verdict not_placed(const AdapterSubject& subject, std::string_view claim,
                                 const Error& error);

/// Are the factors where the formulas of the wrapped layers put them? One verdict for those that
/// are, one for those that no formula is known for, one for those that are elsewhere. `judged` is
/// filled with what was found right, so that layers of one structure are compared once.
class AdapterPlacement {
 public:
  explicit AdapterPlacement(const AdapterSubject& subject) : subject_(subject) {}
  [[nodiscard]] std::vector<Verdict> judge(const PlacedAdapter& placed);

 private:
  const AdapterSubject& subject_;
  std::set<std::string> right_;
};

}  // namespace bv::claims
