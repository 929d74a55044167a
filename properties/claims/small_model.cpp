#include "properties/claims/small_model.hpp"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "core/base/arith.hpp"
#include "core/checkpoint/open_model.hpp"
#include "core/io/digest.hpp"
#include "core/move/tensor_maker.hpp"
#include "oracles/model_style.hpp"
#include "properties/claims/small_config.hpp"

namespace bv::claims {
namespace {

namespace fw = oracle::forward;
using nlohmann::json;

constexpr std::int64_t kElementsMax = std::int64_t{1} << 23;

/// A config as headers dumps carry it may lack what only a run with images reads.
json complete(json config) {
  if (config.contains("vision_config") && !config.contains("image_token_id")) {
    config["image_token_id"] = 1;
  }
  return config;
}

const model::Model& wanted_of(const Subject& subject) {
  return subject.under_test ? subject.under_test->wanted : subject.base().model;
}

/// A class without a language head or without its wrapper's prefix (a base model, a classifier):
/// the oracles know the one with both, whose other rules are the same.
bool is_bare(const Subject& subject) {
  const model::Model& model = wanted_of(subject);
  const auto text = model.prefixes.find("HF");
  return subject.under_test == nullptr &&
         ((text != model.prefixes.end() && text->second.empty()) ||
          std::any_of(model.detected.begin(), model.detected.end(), [](const auto& one) {
            return one.what == "output_layer" && one.value == "none";
          }));
}

json class_with_head(json config, const family::Family& family) {
  const auto named = std::find_if(
      family.architectures.begin(), family.architectures.end(), [](const std::string& one) {
        return one.ends_with("ForCausalLM") || one.ends_with("ForConditionalGeneration");
      });
  if (named != family.architectures.end()) {
    config["architectures"] = json::array({*named});
  }
  return config;
}

/// Storage forms as they were found in the checkpoint.
model::ResolveOptions forms_of(const Subject& subject) {
  model::ResolveOptions out = subject.base().resolve;
  out.config_only = true;
  const bool bare = is_bare(subject);
  for (const model::Detected& one : wanted_of(subject).detected) {
    if (!bare || !(one.what == "output_layer" || one.what.starts_with("prefix"))) {
      out.forms[one.what] = one.value;
    }
  }
  if (bare) {
    return out;
  }
  for (const auto& [prefix, text] : wanted_of(subject).prefixes) {
    out.forms[model::prefix_form(prefix)] = text;
  }
  return out;
}

bool same_equalities(const Shape& a, const Shape& b) {
  if (a.size() != b.size()) {
    return false;
  }
  for (std::size_t i = 0; i < a.size(); ++i) {
    for (std::size_t j = i + 1; j < a.size(); ++j) {
      if ((a[i] == a[j]) != (b[i] == b[j])) {
        return false;
      }
    }
  }
  return true;
}

std::set<std::set<std::string, std::less<>>> layer_kinds(const model::Model& model) {
  return {model.geometry.layer_flags.begin(), model.geometry.layer_flags.end()};
}

/// Names of a file may begin otherwise than those of the class (transformers 5.12 writes some
/// beginnings twice): the HF form reads them where they are.
void take_prefix(SmallModel& small) {
  const auto usual = small.wanted.family->prefixes.find("HF");
  const auto found = small.wanted.prefixes.find("HF");
  if (usual != small.wanted.family->prefixes.end() && found != small.wanted.prefixes.end() &&
      small.facts.names.body == usual->second) {
    small.facts.names.body = found->second;
  }
}

/// Whether a mapping is of a tower, which no form computes where the facts have no vision.
bool takes_no_part(const model::Mapping& mapping, const fw::ModelFacts& facts) {
  return facts.vision.depth == 0 && mapping.stage == family::Stage::Vision;
}

std::vector<std::string> tower_tensors(const model::Model& model, const fw::ModelFacts& facts) {
  std::vector<std::string> out;
  for (const model::Mapping& mapping : model.mappings) {
    if (takes_no_part(mapping, facts)) {
      out.insert(out.end(), mapping.hf.begin(), mapping.hf.end());
    }
  }
  return out;
}

void drop_towers(SmallModel& small) {
  for (const std::string& name : tower_tensors(small.wanted, small.facts)) {
    small.headers.erase(name);
  }
  for (model::Model* one : {&small.wanted, &small.model}) {
    std::erase_if(one->mappings, [&](const model::Mapping& mapping) {
      return takes_no_part(mapping, small.facts);
    });
  }
}

std::uint64_t seed_of(std::string_view tensor, std::uint64_t seed) {
  io::Digest digest;
  digest.add(tensor);
  return std::stoull(digest.hex().substr(0, 16), nullptr, 16) ^ (seed * 0x9E3779B97F4A7C15ULL);
}

}  // namespace

Result<std::shared_ptr<const SmallModel>> SmallModels::on(const parallel::Layout& layout) {
  if (subject_.under_test != nullptr && subject_.under_test->alone) {
    return fail(Code::ArchitectureUnknown,
                fmt::format("there is no forward form for {}", subject_.base().architecture))
        .pair(subject_.base().model_type, "a built-in family")
        .advise("leave the forward claim out, or add the form under oracles/forward");
  }
  BV_TRY(config, checkpoint::parse_config(subject_.base().config_text, "config.json"));
  const json whole = complete(std::move(config));
  BV_TRY(facts, subject_.budget.oracle.forward->read_facts(whole.dump(), like()));
  const Structure structure{&wanted_of(subject_), layout,
                            facts.moe.experts > 0 ? facts.moe.topk_field : "",
                            facts.vision.depth > 0};
  const auto layers = least_layers(structure);
  if (!layers) {
    return fail(Code::LayerOnNoStage, "the layout does not hold this model's layers")
        .pair(parallel::layout_id(layout), "a layout that check_layout accepts")
        .advise("choose another layout");
  }
  for (const Scale& scale : scales_of(whole, structure)) {
    const Tried& one = tried(shrunk_config(whole, structure, *layers, scale).dump());
    if (one.model == nullptr || !plan::check_layout(one.model->wanted, layout)) {
      continue;
    }
    return one.fault ? Result<std::shared_ptr<const SmallModel>>(*one.fault) : one.model;
  }
  return fail(Code::ShapeMismatch, "no small model keeps the structure of this one")
      .pair(fmt::format("hidden size {}, {} heads", facts.hidden, facts.heads),
            fmt::format("a model of at most {} elements with the same equal extents", kElementsMax))
      .advise("the forward claim has no answer for this geometry");
}

const SmallModels::Tried& SmallModels::tried(const std::string& config) {
  const auto [entry, fresh] = tried_.try_emplace(config);
  if (fresh) {
    if (auto made = attempt(config); made != nullptr && fits(*made)) {
      if (auto applied = put_rules_under_test(*made); !applied) {
        entry->second.fault = applied.error();
      }
      drop_towers(*made);
      entry->second.model = std::move(made);
    }
  }
  return entry->second;
}

/// The model_type that the family states, for one that no oracle knows.
std::string SmallModels::like() const {
  return claims::stated(wanted_of(subject_)).like;
}

/// nullptr when these sizes are no model.
std::shared_ptr<SmallModel> SmallModels::attempt(const std::string& config) const {
  auto out = std::make_shared<SmallModel>();
  out->config = config;
  const auto& family = wanted_of(subject_).family;
  json fields = json::parse(config);
  if (is_bare(subject_)) {
    fields = class_with_head(std::move(fields), *family);
  }
  auto facts = subject_.budget.oracle.forward->read_facts(fields.dump(), like());
  if (!facts) {
    return nullptr;
  }
  out->facts = std::move(*facts);
  if (!oracle::style_of(subject_.base().model_type)) {
    out->facts.megatron_zero_centred =
        claims::stated(wanted_of(subject_)).zero_centered_gamma.value_or(out->facts.zero_centred);
  }
  auto model = model::resolve(family, fields, {}, forms_of(subject_));
  if (!model) {
    return nullptr;
  }
  auto headers = plan::expected_headers(*model, *subject_.kinds);
  if (!headers) {
    return nullptr;
  }
  out->facts.moe.square_stacks_in_out = stacks_in_out(*model);
  out->wanted = std::move(*model);
  take_prefix(*out);
  const auto names = tower_tensors(out->wanted, out->facts);
  const std::set<std::string, std::less<>> towers(names.begin(), names.end());
  out->towers = tower_tensors(wanted_of(subject_), out->facts);
  for (auto& [name, spec] : *headers) {
    spec.dtype = DType::F64;
    out->elements += towers.contains(name) ? 0 : element_count(spec.shape).value_or(kElementsMax);
  }
  out->headers = std::move(*headers);
  return out;
}

bool SmallModels::fits(const SmallModel& small) const {
  if (small.elements > kElementsMax ||
      layer_kinds(small.wanted) != layer_kinds(wanted_of(subject_))) {
    return false;
  }
  const Headers& whole = subject_.base().headers;
  const auto names = tower_tensors(small.wanted, small.facts);
  const std::set<std::string, std::less<>> towers(names.begin(), names.end());
  return std::all_of(small.headers.begin(), small.headers.end(), [&](const auto& one) {
    const auto found = whole.find(one.first);
    return found == whole.end() || towers.contains(one.first) ||
           same_equalities(found->second.shape, one.second.shape);
  });
}

Status SmallModels::put_rules_under_test(SmallModel& small) const {
  small.model = small.wanted;
  if (subject_.under_test == nullptr) {
    return Done{};
  }
  const foreign::RulesUnderTest& test = *subject_.under_test;
  const auto layers = [](const model::Model& model) { return model.geometry.layers(); };
  foreign::ForeignRules rules =
      foreign::with_layers(test.rules, layers(test.wanted), layers(small.wanted));
  rules.parameters.reset();  // those of the whole model
  BV_TRY(applied, foreign::apply_rules(small.wanted, rules, test.kinds, small.headers,
                                       subject_.base().resolve));
  const bool whole = applied.model.names_are_whole();
  if (!whole || !applied.open.empty()) {
    const model::NameFault& fault = whole ? applied.open.front() : applied.model.faults.front();
    return fail(fault.code, fault.message).pair(fault.found, fault.wanted).advise(fault.help);
  }
  small.model = std::move(applied.model);
  return Done{};
}

bool stacks_in_out(const model::Model& model) {
  return std::any_of(model.mappings.begin(), model.mappings.end(), [](const model::Mapping& one) {
    return one.rule->orientation == family::Orientation::InOut;
  });
}

fw::NamedTensors random_weights(const Headers& headers, std::uint64_t seed) {
  constexpr double kGrid = 0x1.0p-20;
  fw::NamedTensors out;
  for (const auto& [name, spec] : headers) {
    std::mt19937_64 random(seed_of(name, seed));
    fw::Tensor tensor{spec.shape, {}};
    const auto count = static_cast<std::size_t>(element_count(spec.shape).value());
    const bool matrix = spec.shape.size() > 1;
    const auto inputs = matrix ? static_cast<double>(spec.shape.back()) : 1.0;
    const double reach = matrix ? std::sqrt(3.0 / inputs) : 1.0;
    tensor.values.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
      const double unit = static_cast<double>(random() >> 11) * 0x1.0p-52 - 1.0;
      tensor.values.push_back(std::round(unit * reach / kGrid) * kGrid);
    }
    out.emplace(name, std::move(tensor));
  }
  return out;
}

std::vector<fw::RankTensors> moved(const plan::Plan& plan, const fw::NamedTensors& weights) {
  std::vector<fw::RankTensors> out;
  for (const plan::ShardFile& file : plan.files()) {
    fw::RankTensors rank{file.key.pp, file.key.tp, file.key.ep, file.key.etp, file.key.vp, {}};
    for (const plan::Target& target : file.targets) {
      const model::Mapping& mapping = plan.model().mappings[target.mapping];
      const layout::Shard shard = plan.shard(target);
      fw::Tensor tensor{shard.shape, {}};
      tensor.values.assign(static_cast<std::size_t>(element_count(shard.shape).value()),
                           std::numeric_limits<double>::quiet_NaN());
      std::vector<const std::byte*> sources;
      for (const std::string& hf : mapping.hf) {
        sources.push_back(reinterpret_cast<const std::byte*>(weights.at(hf).values.data()));
      }
      move::make_whole(shard.boxes, sources, sizeof(double),
                       reinterpret_cast<std::byte*>(tensor.values.data()));
      if (const double added = mapping.rule->value.added_on_import(); added != 0.0) {
        for (double& value : tensor.values) {
          value += added;
        }
      }
      rank.tensors.emplace(target.name, std::move(tensor));
    }
    out.push_back(std::move(rank));
  }
  return out;
}

}  // namespace bv::claims
