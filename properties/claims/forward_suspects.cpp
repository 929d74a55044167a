#include "properties/claims/forward_suspects.hpp"

#include <fmt/format.h>

#include <map>
#include <set>

#include "core/base/arith.hpp"
#include "properties/claims/subject.hpp"

namespace bv::claims {
namespace {

namespace fw = oracle::forward;

std::vector<oracle::TaggedTensor> tagged(const std::vector<Shape>& shapes) {
  std::vector<oracle::TaggedTensor> out;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    oracle::TaggedTensor tensor{shapes[i], {}};
    const auto count = element_count(shapes[i]).value();
    for (std::int64_t k = 0; k < count; ++k) {
      tensor.tags.push_back(static_cast<std::int64_t>(i) * kTensorTag + k);
    }
    out.push_back(std::move(tensor));
  }
  return out;
}

class Finder {
 public:
  Finder(const Subject& subject, const ForwardRun& run) : subject_(subject), run_(run) {}

  Suspects run() {
    Suspects out;
    auto plan = plan::Plan::make(run_.small->wanted, *subject_.kinds, run_.plan->layout());
    if (!plan) {
      out.why_not = plan.error().message;
      return out;
    }
    for (const plan::ShardFile& file : plan->files()) {
      right_.emplace_back();
      for (const plan::Target& target : file.targets) {
        if (!add_right(*plan, target)) {
          out.why_not = "the oracle has no statement about " + target.global_name;
          return out;
        }
      }
    }
    out.restored = !first_wrong(with_rule(nullptr));
    for (const RuleGroup& group : groups()) {
      const auto wrong = first_wrong(with_rule(group.rule));
      if (!wrong || (run_.position && *wrong > *run_.position)) {
        out.rules.push_back(fmt::format("{} ({})", group.rule->id, group.rule->source));
        out.parameters.push_back(group.pattern);
      }
    }
    return out;
  }

 private:
  struct RuleGroup {
    const family::Rule* rule;
    std::string pattern;
  };

  std::vector<RuleGroup> groups() const {
    std::vector<RuleGroup> out;
    const model::Model& model = run_.small->model;
    for (const RuleUse& use : rule_uses(model)) {
      out.push_back({use.rule, megatron_pattern(use)});
    }
    return out;
  }

  /// The shard that the module computes with, by the oracle's statements of place and value.
  bool add_right(const plan::Plan& plan, const plan::Target& target) {
    const model::Mapping& mapping = plan.model().mappings[target.mapping];
    const layout::BoundRule& bound = plan.bound(mapping);
    oracle::Question question;
    question.parameter = plan.model().megatron_name(mapping, target.expert);
    question.numbers = plan.model().geometry.with(mapping.rule->sizes);
    question.hf_names = mapping.hf;
    question.hf = tagged(bound.source_shapes());
    question.shard_size = mapping.rule->expert ? plan.layout().etp : plan.layout().tp;
    question.shard_rank = target.t;
    question.expert = target.expert;
    question.padded_vocab = mapping.rule->vocabulary ? bound.size("v") + bound.size("p") : 0;
    question.in_out_stack = mapping.rule->orientation == family::Orientation::InOut;
    question.model_type = subject_.base().model_type;
    question.stated = stated(subject_.base().model);
    const auto wanted = subject_.budget.oracle.wanted_shard(question);
    const oracle::WantedValue value = subject_.budget.oracle.wanted_value(question);
    if (!wanted || !value.added) {
      return false;
    }
    fw::Tensor tensor{wanted->shape, {}};
    for (const std::int64_t tag : wanted->tags) {
      const std::string& hf =
          mapping.hf[static_cast<std::size_t>(std::max<std::int64_t>(tag, 0) / kTensorTag)];
      tensor.values.push_back(
          tag < 0 ? 0.0
                  : run_.weights->at(hf).values[static_cast<std::size_t>(tag % kTensorTag)] +
                        *value.added);
    }
    right_.back()[target.name] = std::move(tensor);
    return true;
  }

  /// The shards of the rules under test with those of `rule` (nullptr: of every rule) made right.
  std::vector<fw::RankTensors> with_rule(const family::Rule* rule) const {
    std::vector<fw::RankTensors> out = *run_.ranks;
    for (std::size_t f = 0; f < out.size(); ++f) {
      for (const plan::Target& target : run_.plan->files()[f].targets) {
        const model::Mapping& mapping = run_.plan->model().mappings[target.mapping];
        const auto right = right_[f].find(target.name);
        if ((rule == nullptr || mapping.rule == rule) && right != right_[f].end()) {
          out[f].tensors[target.name] = right->second;
        }
      }
    }
    return out;
  }

  /// Position of the first wrong output; 0 when the module refuses the shards.
  std::optional<std::size_t> first_wrong(const std::vector<fw::RankTensors>& ranks) const {
    const auto found =
        subject_.budget.oracle.forward->megatron_forward(run_.small->facts, ranks, *run_.inputs);
    if (!found) {
      return 0;
    }
    const Compared result = compared(*run_.wanted, *found);
    return result.first ? std::optional(result.first->position) : std::nullopt;
  }

  const Subject& subject_;
  const ForwardRun& run_;
  std::vector<std::map<std::string, fw::Tensor>> right_;  // by file
};

}  // namespace

Suspects find_suspects(const Subject& subject, const ForwardRun& run) {
  return Finder(subject, run).run();
}

}  // namespace bv::claims
