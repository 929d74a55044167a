#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/base/arith.hpp"
#include "core/layout/notation.hpp"
#include "properties/claims/catalogue.hpp"

namespace bv::claims {
namespace {

using Grid = std::map<std::string, std::int64_t, std::less<>>;

constexpr std::int64_t kSweptExperts = 2;

/// The rule on this layout's sizes, without what the sweep need not see: carried dimensions and
/// most experts. The proof on the text covers all sizes; the sweep is its witness on these.
Result<layout::BoundRule> bind_for_sweep(const Subject& subject, const RuleUse& use,
                                         const parallel::Layout& layout) {
  const layout::Rule* line = subject.kinds->find(use.rule->kind);
  if (line == nullptr) {
    return fail(Code::RulesInvalid, "kind " + use.rule->kind + " is not in the catalogue");
  }
  BV_TRY(whole, plan::binding_of(use.model().geometry, *use.rule, layout));
  plan::Rebinding small;
  if (line->sources.front().dims.size() > 1) {
    small.rest.emplace();
  }
  if (const auto experts = whole.axes.find("E");
      experts != whole.axes.end() && experts->second > kSweptExperts) {
    small.axes["E"] = kSweptExperts;
  }
  return plan::bind_rule(*subject.kinds, use.model().geometry, *use.rule, layout, small);
}

std::vector<Grid> grid_points(const layout::BoundRule& bound, std::int64_t t) {
  std::vector<Grid> out;
  const std::int64_t experts = bound.size("E");
  for (std::int64_t e = 0; e < experts; ++e) {
    for (std::int64_t rank = 0; rank < t; ++rank) {
      out.push_back({{"t", rank}, {"E", e}});
    }
  }
  return out;
}

Status sweep_targets(const layout::BoundRule& bound, std::int64_t t) {
  const std::int64_t elements = element_count(bound.target_shapes()[0]).value();
  for (const Grid& grid : grid_points(bound, t)) {
    BV_CHECK(layout::check_tiling(bound.shard(0, grid).boxes, elements));
  }
  return Done{};
}

bool is_replicated_over_t(const layout::Rule& line) {
  for (const layout::GridAxis& axis : line.targets.front().grid) {
    if (axis.axis == "t" && axis.replica) {
      return true;
    }
  }
  return false;
}

Status sweep_sources(const layout::BoundRule& bound, std::int64_t t) {
  const std::int64_t ranks = is_replicated_over_t(bound.rule()) ? 1 : t;
  std::vector<std::vector<layout::Box>> back(bound.source_shapes().size());
  for (const Grid& grid : grid_points(bound, ranks)) {
    for (const layout::Box& box : bound.shard(0, grid).boxes) {
      if (box.source >= 0) {
        back[static_cast<std::size_t>(box.source)].push_back(layout::inverse(box, 0));
      }
    }
  }
  const std::vector<bool> copied = layout::copied_sources(bound.rule());
  for (std::size_t i = 0; i < back.size(); ++i) {
    auto status =
        layout::check_tiling(back[i], element_count(bound.source_shapes()[i]).value(),
                             copied[i] ? layout::Cover::AtLeastOnce : layout::Cover::Once);
    if (!status) {
      return std::move(status).error().fact("HF tensor " + bound.rule().sources[i].name);
    }
  }
  return Done{};
}

using Sweep = Status (*)(const layout::BoundRule&, std::int64_t);

std::vector<Verdict> swept(const Subject& subject, std::string_view claim, Sweep sweep,
                           std::int64_t RuleUse::*cases) {
  std::vector<Verdict> out;
  std::map<std::pair<const family::Rule*, std::pair<std::int64_t, std::int64_t>>, Verdict>
      known;  // the layout matters by t and padding only
  for (const RuleUse& use : rule_uses(subject)) {
    const bool right = sizes_are_right(subject, use);
    for (const parallel::Layout& layout : subject.layouts) {
      const std::int64_t t = use.rule->expert ? layout.etp : layout.tp;
      const std::pair key{
          use.rule, std::pair{t, use.rule->vocabulary ? layout.vocab_divisor.value_or(0) : 0}};
      const std::string id = parallel::layout_id(layout);
      if (const auto seen = known.find(key); seen != known.end()) {
        Verdict verdict = seen->second;
        verdict.layout = id;
        verdict.replay = fmt::format("{} --only {} --layout {}", subject.replay, claim, id);
        out.push_back(std::move(verdict));
        continue;
      }
      Verdict verdict = about(subject, claim, use, id);
      verdict.cases = use.*cases;
      if (!right) {
        mark_not_reached(verdict);
        out.push_back(std::move(verdict));
        continue;
      }
      auto bound = bind_for_sweep(subject, use, layout);
      auto proof = bound ? layout::prove_bijection(bound->rule()) : Status(bound.error());
      auto status = proof ? sweep(*bound, t) : std::move(proof);
      verdict.outcome = status ? Outcome::Proved : Outcome::Refuted;
      verdict.evidence.proved = status.has_value();
      if (!status) {
        verdict.code = status.error().code;
        verdict.title = status.error().message;
        verdict.facts = status.error().facts;
        verdict.help = status.error().help.empty()
                           ? "correct the line of the kind: bridge-verify rules show"
                           : status.error().help;
        verdict.refuted_cases = verdict.cases;
        if (verdict.code == Code::TooLargeToCheck) {
          verdict.outcome = Outcome::Inconclusive;
          verdict.refuted_cases = 0;
          verdict.found = status.error().found;
          verdict.wanted = status.error().wanted;
        }
      }
      known.emplace(key, verdict);
      out.push_back(std::move(verdict));
    }
  }
  return out;
}

/// Parameters of the stages: every layer stands on exactly one stage, every expert on exactly one
/// expert rank.
Verdict check_stages(const Subject& subject, const parallel::Layout& layout) {
  const model::Model& model = subject.base().model;
  Verdict verdict;
  verdict.claim = "coverage";
  verdict.rule = "stages";
  verdict.kind = "stages";
  verdict.layout = parallel::layout_id(layout);
  verdict.megatron = "pipeline stages";
  verdict.replay = fmt::format("{} --only coverage --layout {}", subject.replay, verdict.layout);
  const std::int64_t layers = model.geometry.layers();
  std::vector<int> owners(static_cast<std::size_t>(layers), 0);
  verdict.cases = layers;
  auto stages = parallel::plan_stages(layout, layers, model.mtp_layers);
  std::int64_t mtp = 0;
  if (stages) {
    for (const auto& stage : *stages) {
      for (std::int64_t i = 0; i < stage.layers; ++i) {
        ++owners[static_cast<std::size_t>(stage.first_layer + i)];
      }
      mtp += stage.mtp_layers;
    }
  }
  const bool right = stages && mtp == model.mtp_layers &&
                     std::all_of(owners.begin(), owners.end(), [](int n) { return n == 1; });
  verdict.outcome = right ? Outcome::Proved : Outcome::Refuted;
  verdict.evidence.proved = right;
  if (!right) {
    verdict.code = Code::LayerOnNoStage;
    verdict.title = stages ? "a layer is on no stage, or on two" : stages.error().message;
    verdict.help = stages ? "report this layout" : stages.error().help;
    verdict.refuted_cases = 1;
  }
  return verdict;
}

}  // namespace

std::int64_t count_coverage(const Subject& subject) {
  return std::ssize(subject.layouts) *
         (sum_of(subject, &RuleUse::parameters) + subject.base().model.geometry.layers());
}

std::int64_t count_inverse(const Subject& subject) {
  return std::ssize(subject.layouts) * sum_of(subject, &RuleUse::tensors);
}

std::vector<Verdict> check_coverage(const Subject& subject) {
  auto out = swept(subject, "coverage", sweep_targets, &RuleUse::parameters);
  for (const parallel::Layout& layout : subject.layouts) {
    out.push_back(check_stages(subject, layout));
  }
  return out;
}

std::vector<Verdict> check_inverse(const Subject& subject) {
  return swept(subject, "inverse", sweep_sources, &RuleUse::tensors);
}

}  // namespace bv::claims
