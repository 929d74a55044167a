#include "core/plan/all_layouts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "core/layout/notation.hpp"
#include "core/plan/legality.hpp"
#include "core/plan/plan.hpp"

namespace bv::plan {
namespace {

using Sizes = std::vector<std::int64_t>;

/// The values in 1..bound of one size that are legal while the other sizes are 1.
Sizes legal_values(const model::Model& model, parallel::Layout layout, std::int64_t bound,
                   std::int64_t parallel::Layout::*size) {
  layout.tp = layout.pp = layout.ep = layout.etp = 1;
  if (size != &parallel::Layout::pp) {  // the pipeline's options concern PP alone
    layout.vpp = 1;
    layout.first_stage_layers.reset();
    layout.last_stage_layers.reset();
    layout.account_for_embedding = layout.account_for_loss = false;
    layout.pipeline_layout.clear();
  }
  Sizes out;
  for (std::int64_t value = 1; value <= bound; ++value) {
    layout.*size = value;
    if (check_layout(model, layout)) {
      out.push_back(value);
    }
  }
  return out;
}

std::map<const family::Rule*, const model::Mapping*> distinct_rules(const model::Model& model) {
  std::map<const family::Rule*, const model::Mapping*> out;
  for (const model::Mapping& mapping : model.mappings) {
    out.try_emplace(mapping.rule, &mapping);
  }
  return out;
}

/// Text once, then the divisibility that the factors imply, for each size.
Status prove_rule(const model::Model& model, const kinds::Catalogue& kinds,
                  const model::Mapping& mapping, parallel::Layout layout, const Sizes& sizes,
                  std::int64_t& bindings) {
  const family::Rule& rule = *mapping.rule;
  const layout::Rule* line = kinds.find(rule.kind);
  if (line == nullptr) {
    return fail(Code::RulesInvalid, fmt::format("kind {} is not in the catalogue", rule.kind))
        .at(rule.source)
        .advise("bridge-verify rules show lists the kinds");
  }
  BV_CHECK(layout::prove_bijection(*line));
  for (const std::int64_t size : sizes) {
    (rule.expert ? layout.etp : layout.tp) = size;
    auto bound = bind_rule(kinds, model.geometry, rule, layout);
    if (!bound) {
      return std::move(bound).error().fact(fmt::format(
          "{} with {}={}", model.megatron_name(mapping, 0), rule.expert ? "ETP" : "TP", size));
    }
    ++bindings;
  }
  return Done{};
}

/// Every decoder layer and every MTP layer stands on exactly one stage.
Status prove_stages(const model::Model& model, const parallel::Layout& layout) {
  const std::int64_t layers = model.geometry.layers();
  BV_TRY(stages, parallel::plan_stages(layout, layers, model.mtp_layers));
  std::vector<int> owners(static_cast<std::size_t>(layers), 0);
  std::int64_t mtp = 0;
  for (const parallel::StageContents& stage : stages) {
    for (std::int64_t i = 0; i < stage.layers; ++i) {
      ++owners[static_cast<std::size_t>(stage.first_layer + i)];
    }
    mtp += stage.mtp_layers;
  }
  const bool once = std::all_of(owners.begin(), owners.end(), [](int n) { return n == 1; });
  if (!once || mtp != model.mtp_layers) {
    return fail(Code::LayerOnNoStage,
                fmt::format("with PP={} a layer is on no stage, or on two", layout.pp))
        .advise("report this layout");
  }
  return Done{};
}

/// Layouts of these sizes whose smallest world is one that the grid allows.
std::int64_t count_layouts(const LegalSizes& sizes, parallel::Layout layout) {
  std::int64_t count = 0;
  for (const std::int64_t tp : sizes.tp) {
    for (const std::int64_t ep : sizes.ep) {
      for (const std::int64_t etp : sizes.etp) {
        const std::int64_t ranks = std::lcm(tp * layout.cp, ep * etp);
        count += std::count_if(sizes.pp.begin(), sizes.pp.end(),
                               [&](std::int64_t pp) { return ranks <= parallel::kMaxSize / pp; });
      }
    }
  }
  return count;
}

/// Does a condition cut by a product of two sizes that vary?
bool has_joint_conditions(const model::Model& model) {
  return std::any_of(
      model.constraints.begin(), model.constraints.end(), [](const family::Constraint& one) {
        const auto& groups = one.divisor.groups;
        const auto fixed = std::count(groups.begin(), groups.end(), family::RankGroup::Cp);
        return std::ssize(groups) - fixed > 1;
      });
}

}  // namespace

LegalSizes legal_sizes(const model::Model& model, const parallel::Layout& base,
                       std::int64_t bound) {
  const bool experts = model.geometry.experts() > 0;
  LegalSizes out;
  out.tp = legal_values(model, base, bound, &parallel::Layout::tp);
  out.pp = legal_values(model, base, bound, &parallel::Layout::pp);
  out.ep = legal_values(model, base, experts ? bound : 1, &parallel::Layout::ep);
  out.etp = legal_values(model, base, experts ? bound : 1, &parallel::Layout::etp);
  return out;
}

std::vector<parallel::Layout> legal_layouts(const model::Model& model, const parallel::Layout& base,
                                            std::int64_t max_ranks) {
  const LegalSizes sizes = legal_sizes(model, base, max_ranks);
  const bool joint = has_joint_conditions(model);
  std::vector<std::pair<std::int64_t, parallel::Layout>> found;  // by the smallest world
  parallel::Layout layout = base;
  for (const std::int64_t tp : sizes.tp) {
    for (const std::int64_t pp : sizes.pp) {
      for (const std::int64_t ep : sizes.ep) {
        for (const std::int64_t etp : sizes.etp) {
          if (tp * pp > max_ranks || ep * etp > max_ranks / pp) {
            break;  // both only grow with etp
          }
          layout.tp = tp;
          layout.pp = pp;
          layout.ep = ep;
          layout.etp = etp;
          const std::int64_t world = parallel::minimum_world(layout);
          if (world <= max_ranks && (!joint || check_layout(model, layout))) {
            found.emplace_back(world, layout);
          }
        }
      }
    }
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<parallel::Layout> out;
  out.reserve(found.size());
  for (auto& [world, one] : found) {
    out.push_back(std::move(one));
  }
  return out;
}

Result<AllLayoutsProof> prove_all_layouts(const model::Model& model, const kinds::Catalogue& kinds,
                                          const parallel::Layout& base, std::int64_t bound) {
  AllLayoutsProof out;
  out.sizes = legal_sizes(model, base, bound);
  for (const auto& [rule, mapping] : distinct_rules(model)) {
    ++out.rules;
    BV_CHECK(prove_rule(model, kinds, *mapping, base, rule->expert ? out.sizes.etp : out.sizes.tp,
                        out.bindings));
  }
  parallel::Layout layout = base;
  for (const std::int64_t pp : out.sizes.pp) {
    layout.pp = pp;
    BV_CHECK(prove_stages(model, layout));
  }
  out.layouts = count_layouts(out.sizes, base);
  return out;
}

}  // namespace bv::plan
