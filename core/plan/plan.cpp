#include "core/plan/plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/family/expression.hpp"
#include "core/plan/legality.hpp"

namespace bv::plan {
namespace {

constexpr std::string_view kEmbeddingSuffix = "embedding.word_embeddings.weight";

bool lives_on(const model::Mapping& mapping, const parallel::StageContents& stage) {
  switch (mapping.stage) {
    case family::Stage::Embedding:
    case family::Stage::Vision:
      return stage.embedding;
    case family::Stage::Decoder:
      return mapping.index >= stage.first_layer && mapping.index < stage.first_layer + stage.layers;
    case family::Stage::FinalNorm:
      return stage.final_norm;
    case family::Stage::Output:
      return stage.output;
    case family::Stage::Mtp:
      return mapping.index >= stage.first_mtp && mapping.index < stage.first_mtp + stage.mtp_layers;
  }
  return false;
}

std::int64_t local_index(const model::Mapping& mapping, const parallel::StageContents& stage) {
  switch (mapping.stage) {
    case family::Stage::Decoder:
      return mapping.index - stage.first_layer;
    case family::Stage::Mtp:
      return mapping.index - stage.first_mtp;
    case family::Stage::Embedding:
    case family::Stage::FinalNorm:
    case family::Stage::Output:
    case family::Stage::Vision:
      return mapping.index;
  }
  return mapping.index;
}

}  // namespace

Result<Plan> Plan::make(const model::Model& model, const kinds::Catalogue& kinds,
                        const parallel::Layout& layout, std::span<const Factor> factors) {
  Plan plan;
  plan.model_ = &model;
  plan.layout_ = layout;
  BV_CHECK(parallel::check_sizes(layout));
  BV_CHECK(check_layout(model, layout));
  BV_CHECK(plan.bind_rules(kinds));
  BV_CHECK(plan.bind_factors(kinds, factors));
  BV_TRY(stages, parallel::plan_stages(layout, model.geometry.layers(), model.mtp_layers));
  plan.stages_ = std::move(stages);
  BV_CHECK(plan.place());
  BV_CHECK(plan.check_placed());
  return plan;
}

Status Plan::bind_rules(const kinds::Catalogue& kinds) {
  for (const model::Mapping& mapping : model_->mappings) {
    const family::Rule& rule = *mapping.rule;
    if (bound_.contains({&rule, {}})) {
      continue;
    }
    auto bound = bind_rule(kinds, model_->geometry, rule, layout_);
    if (!bound) {
      return std::move(bound).error().fact("parameter " + model_->megatron_name(mapping, 0));
    }
    if (rule.vocabulary) {
      padded_vocabulary_ = bound->size("v") + bound->size("p");
    }
    bound_.emplace(std::pair{&rule, Rebinding{}}, std::move(*bound));
  }
  return Done{};
}

Status Plan::bind_factors(const kinds::Catalogue& kinds, std::span<const Factor> factors) {
  for (const Factor& factor : factors) {
    BV_TRY(bound, bind_rule(kinds, model_->geometry, *factor.rule, layout_, factor.rebinding));
    bound_.emplace(std::pair{factor.rule, factor.rebinding}, std::move(bound));
  }
  return Done{};
}

const layout::BoundRule& Plan::bound(const model::Mapping& mapping,
                                     const Rebinding& rebinding) const {
  const auto found = bound_.find({mapping.rule, rebinding});
  BV_ASSERT(found != bound_.end());
  return found->second;
}

const std::vector<Shape>& Plan::hf_shapes(const model::Mapping& mapping) const {
  return bound(mapping).source_shapes();
}

layout::Shard Plan::shard(const Target& target, const Rebinding& rebinding) const {
  const model::Mapping& mapping = model_->mappings[target.mapping];
  return bound(mapping, rebinding)
      .shard(0, {{"t", target.t}, {"E", std::max<std::int64_t>(target.expert, 0)}});
}

/// Targets are listed one by one: more than a model can have would fill memory first.
Status Plan::check_targets() const {
  const std::int64_t experts = model_->geometry.experts() / layout_.ep;
  std::int64_t of_rank = 0;  // over all stages
  for (const model::Mapping& mapping : model_->mappings) {
    const bool stack = mapping.is_stack();
    of_rank = capped_add(of_rank, !stack                 ? 1
                                  : mapping.rule->expert ? experts
                                                         : model_->parameters_of(mapping));
  }
  const std::int64_t ranks = std::lcm(layout_.tp, layout_.etp * layout_.ep);  // of a stage
  const auto all = checked_mul(of_rank, ranks);
  if (all && *all <= kTargetsMax) {
    return Done{};
  }
  return fail(Code::SizeOutOfBounds, "the model has more parameters than can be placed")
      .pair(fmt::format("{} tensors on each of {} ranks", thousands(of_rank), thousands(ranks)),
            fmt::format("at most {} tensors", thousands(kTargetsMax)))
      .advise("correct the number of experts or layers in config.json, or the layout");
}

/// What check_layout admits is placed whole: counted again on the targets, not on the sizes.
Status Plan::check_placed() const {
  for (std::size_t m = 0; m < model_->mappings.size(); ++m) {
    const model::Mapping& mapping = model_->mappings[m];
    std::set<std::int64_t> placed;  // experts, or -1
    for (const Owner& owner : owners_[m]) {
      const Target& target = files_[owner.file].targets[owner.target];
      if (!target.copy) {
        placed.insert(target.expert);
      }
    }
    const std::int64_t wanted = model_->parameters_of(mapping);
    if (std::ssize(placed) < wanted) {
      return fail(Code::LayerOnNoStage,
                  fmt::format("{} is on no rank: {} of {} parameters are placed",
                              model_->megatron_name(mapping, 0), placed.size(), wanted))
          .at(mapping.rule->source)
          .pair(std::to_string(placed.size()), std::to_string(wanted))
          .advise(
              "correct the sizes of the config, or the section of the family file: a decoder "
              "section repeats over num_hidden_layers");
    }
  }
  return Done{};
}

/// Everything that one shard file holds, in the mapping order.
void Plan::place_in(ShardFile& file, const parallel::StageContents& stage) const {
  const auto experts = model_->geometry.experts();
  const std::int64_t local_experts = experts / layout_.ep;
  const std::int64_t first_expert = file.key.ep * local_experts;
  for (std::uint32_t m = 0; m < model_->mappings.size(); ++m) {
    const model::Mapping& mapping = model_->mappings[m];
    const bool embedding_copy = mapping.stage == family::Stage::Embedding && !stage.embedding;
    if (embedding_copy) {
      const std::string name = model_->megatron_name(mapping);
      if (!name.ends_with(kEmbeddingSuffix)) {
        continue;
      }
      Target copy{name, name, m, file.key.tp, -1, true};
      if (stage.mtp_layers > 0) {
        file.targets.push_back(copy);
      }
      if (stage.output && model_->tied) {
        copy.name = name.substr(0, name.size() - kEmbeddingSuffix.size()) + "output_layer.weight";
        copy.global_name = copy.name;
        file.targets.push_back(copy);
      }
      continue;
    }
    if (!lives_on(mapping, stage)) {
      continue;
    }
    const std::int64_t index = local_index(mapping, stage);
    if (!mapping.rule->expert) {  // every rank has all parts of a stack
      const bool stack = mapping.is_stack();
      for (std::int64_t part = 0; part < model_->parameters_of(mapping); ++part) {
        file.targets.push_back({model_->local_name(mapping, index, stack ? part : -1),
                                model_->megatron_name(mapping, part), m, file.key.tp,
                                stack ? part : -1, false});
      }
      continue;
    }
    const std::int64_t begin = mapping.expert >= 0 ? mapping.expert : first_expert;
    const std::int64_t end =
        mapping.expert >= 0 ? mapping.expert + 1 : first_expert + local_experts;
    for (std::int64_t e = std::max(begin, first_expert);
         e < std::min(end, first_expert + local_experts); ++e) {
      file.targets.push_back({model_->local_name(mapping, index, e - first_expert),
                              model_->megatron_name(mapping, e), m, file.key.etp, e, false});
    }
  }
  std::sort(file.targets.begin(), file.targets.end(),
            [](const Target& a, const Target& b) { return a.name < b.name; });
}

Status Plan::place() {
  BV_CHECK(check_targets());
  for (const parallel::ShardKey& key : parallel::shard_keys(layout_)) {
    const auto stage = std::find_if(
        stages_.begin(), stages_.end(),
        [&](const parallel::StageContents& one) { return one.pp == key.pp && one.vp == key.vp; });
    BV_ASSERT(stage != stages_.end());
    ShardFile file;
    file.key = key;
    file.name = parallel::shard_name(key, layout_) + ".safetensors";
    place_in(file, *stage);
    const auto twice =
        std::adjacent_find(file.targets.begin(), file.targets.end(),
                           [](const Target& a, const Target& b) { return a.name == b.name; });
    if (twice != file.targets.end()) {
      return fail(Code::DuplicateClaim,
                  fmt::format("two rules make {} on {}", twice->name, file.name))
          .at(model_->mappings[twice->mapping].rule->source)
          .advise("give the two rules of the family file different Megatron names");
    }
    files_.push_back(std::move(file));
  }
  owners_.resize(model_->mappings.size());
  for (const bool copies : {false, true}) {
    for (std::size_t f = 0; f < files_.size(); ++f) {
      for (std::size_t i = 0; i < files_[f].targets.size(); ++i) {
        if (files_[f].targets[i].copy == copies) {
          owners_[files_[f].targets[i].mapping].push_back({f, i});
        }
      }
    }
  }
  return Done{};
}

Result<Headers> expected_headers(const model::Model& model, const kinds::Catalogue& kinds) {
  BV_TRY(plan, Plan::make(model, kinds, parallel::Layout{}));
  Headers out;
  for (const model::Mapping& mapping : model.mappings) {
    const auto& shapes = plan.hf_shapes(mapping);
    for (std::size_t i = 0; i < mapping.hf.size(); ++i) {
      out[mapping.hf[i]] = TensorSpec{mapping.hf[i], DType::BF16, shapes[i]};
    }
  }
  return out;
}

}  // namespace bv::plan
