#pragma once
// A small model of the same kind with random weights, moved by the engine with the rules under
// test: what the forward claim computes with.

#include <memory>
#include <string>
#include <vector>

#include "oracles/forward/forward.hpp"
#include "properties/claims/catalogue.hpp"

namespace bv::claims {

struct SmallModel {
  std::string config;
  oracle::forward::ModelFacts facts;
  Headers headers;      // of its checkpoint: names and shapes, F64
  model::Model wanted;  // by the family's own rules: which parameters, from which tensors
  model::Model model;   // by the rules under test; the same as `wanted` without --rules
  std::int64_t elements = 0;
  std::vector<std::string> towers;  // HF tensors of the checkpoint that no form computes with
};

/// Small models by layout; layouts that want the same sizes share one.
class SmallModels {
 public:
  explicit SmallModels(const Subject& subject) : subject_(subject) {}

  /// The smallest model that keeps what the checkpoint's structure is on this layout: heads,
  /// groups, kinds of layers, storage forms, flags, and which extents of each tensor are equal.
  /// Errors: those of read_facts for a model without a forward form; ShapeMismatch when no small
  /// sizes keep the structure; LayerOnNoStage; those of apply_rules and the name faults that the
  /// rules have there.
  [[nodiscard]] Result<std::shared_ptr<const SmallModel>> on(const parallel::Layout& layout);

 private:
  /// What one config gives: a model that fits the checkpoint, or nothing, or why the rules fail.
  struct Tried {
    std::shared_ptr<const SmallModel> model;
    std::optional<Error> fault;
  };
  const Tried& tried(const std::string& config);
  [[nodiscard]] std::shared_ptr<SmallModel> attempt(const std::string& config) const;
  [[nodiscard]] bool fits(const SmallModel& small) const;
  [[nodiscard]] std::string like() const;
  [[nodiscard]] Status put_rules_under_test(SmallModel& small) const;

  const Subject& subject_;
  std::map<std::string, Tried> tried_;
};

/// Expert stacks were found, or declared, to be [E, in, out].
[[nodiscard]] bool stacks_in_out(const model::Model& model);

/// Random numbers for every tensor, multiples of 2^-20 so that sums of two are exact; matrices
/// scaled to keep the size of what goes through them. The same seed gives the same numbers.
[[nodiscard]] oracle::forward::NamedTensors random_weights(const Headers& headers,
                                                           std::uint64_t seed);

/// Every shard as the plan's boxes and values make it; what nothing is written to is NaN.
[[nodiscard]] std::vector<oracle::forward::RankTensors> moved(
    const plan::Plan& plan, const oracle::forward::NamedTensors& weights);

}  // namespace bv::claims
