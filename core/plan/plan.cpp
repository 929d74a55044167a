#include "core/plan/plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/arith.hpp"
#include "core/family/expression.hpp"

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

std::int64_t padded_rows(std::int64_t rows, const parallel::Layout& layout) {
  if (!layout.vocab_divisor) {
    return rows;
  }
  const std::int64_t multiple = *layout.vocab_divisor * layout.tp;
  return div_ceil(rows, multiple) * multiple;
}

Result<layout::Binding> binding_of(const model::Geometry& geometry, const family::Rule& rule,
                                   const parallel::Layout& layout) {
  auto symbols = geometry.symbols;
  const std::int64_t t = rule.expert ? layout.etp : layout.tp;
  symbols["t"] = t;
  layout::Binding out;
  for (const auto& [axis, expression] : rule.axes) {
    auto size = family::evaluate(expression, symbols);
    if (!size) {
      return std::move(size)
          .error()
          .at(rule.source)
          .fact(fmt::format("kind {}, axis {} = {}", rule.kind, axis, expression));
    }
    out.axes[axis] = *size;
  }
  out.axes["t"] = t;
  if (rule.vocabulary) {
    const auto rows = out.axes.find("v");
    BV_ASSERT(rows != out.axes.end());
    const std::int64_t padded = padded_rows(rows->second, layout);
    out.axes["p"] = padded - rows->second;
  }
  for (const std::string& expression : rule.rest) {
    auto size = family::evaluate(expression, symbols);
    if (!size) {
      return std::move(size)
          .error()
          .at(rule.source)
          .fact(fmt::format("kind {}, trailing dimension {}", rule.kind, expression));
    }
    out.rest.push_back(*size);
  }
  return out;
}

Result<Plan> Plan::make(const model::Model& model, const kinds::Catalogue& kinds,
                        const parallel::Layout& layout) {
  Plan plan;
  plan.model_ = &model;
  plan.layout_ = layout;
  BV_CHECK(parallel::check_sizes(layout));
  const std::int64_t experts = model.geometry.get("num_experts").value_or(0);
  if (experts % layout.ep != 0) {  // a remainder would stand on no rank
    return fail(Code::IndivisibleDim,
                fmt::format("EP={} does not divide {} experts", layout.ep, experts))
        .pair(fmt::format("{} experts, EP={}", experts, layout.ep),
              fmt::format("EP that divides {}", experts))
        .advise("choose an --ep that divides the number of experts");
  }
  BV_CHECK(plan.bind_rules(kinds));
  BV_TRY(stages,
         parallel::plan_stages(layout, model.geometry.at("num_hidden_layers"), model.mtp_layers));
  plan.stages_ = std::move(stages);
  BV_CHECK(plan.place());
  return plan;
}

Status Plan::bind_rules(const kinds::Catalogue& kinds) {
  for (const model::Mapping& mapping : model_->mappings) {
    const family::Rule& rule = *mapping.rule;
    if (bound_.contains(&rule)) {
      continue;
    }
    const layout::Rule* line = kinds.find(rule.kind);
    if (line == nullptr) {
      return fail(Code::RulesInvalid, fmt::format("kind {} is not in the catalogue", rule.kind))
          .at(rule.source)
          .advise("bridge-verify rules show lists the kinds");
    }
    BV_TRY(binding, binding_of(model_->geometry, rule, layout_));
    auto bound = layout::BoundRule::bind(*line, std::move(binding));
    if (!bound) {
      return std::move(bound)
          .error()
          .at(rule.source)
          .fact("parameter " + model_->megatron_name(mapping, 0));
    }
    if (rule.vocabulary) {
      padded_vocabulary_ = bound->size("v") + bound->size("p");
    }
    bound_.emplace(&rule, std::move(*bound));
  }
  return Done{};
}

const layout::BoundRule& Plan::bound(const model::Mapping& mapping) const {
  const auto found = bound_.find(mapping.rule);
  BV_ASSERT(found != bound_.end());
  return found->second;
}

const std::vector<Shape>& Plan::hf_shapes(const model::Mapping& mapping) const {
  return bound(mapping).source_shapes();
}

layout::Shard Plan::shard(const Target& target) const {
  const model::Mapping& mapping = model_->mappings[target.mapping];
  return bound(mapping).shard(0,
                              {{"t", target.t}, {"E", std::max<std::int64_t>(target.expert, 0)}});
}

/// Everything that one shard file holds, in the mapping order.
void Plan::place_in(ShardFile& file, const parallel::StageContents& stage) const {
  const auto experts = model_->geometry.get("num_experts").value_or(0);
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
    if (!mapping.rule->expert) {
      file.targets.push_back({model_->local_name(mapping, index, -1),
                              model_->megatron_name(mapping), m, file.key.tp, -1, false});
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
