#include "properties/attacks/fuzz/adapters.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/base/arith.hpp"
#include "core/checkpoint/open_model.hpp"
#include "core/lora/adapter_keys.hpp"
#include "core/lora/sites.hpp"
#include "core/lora/to_hf.hpp"
#include "core/lora/wrapped.hpp"
#include "properties/attacks/fuzz/rank_faults.hpp"
#include "properties/claims/adapter.hpp"

namespace bv::fuzz {
namespace {

using generators::Random;

/// Multiples of 1/64 without zero: products are exact, and no delta is zero.
FactorValues random_factor(Shape shape, Random& random) {
  FactorValues out{std::move(shape), {}};
  out.values.resize(static_cast<std::size_t>(element_count(out.shape).value()));
  for (float& value : out.values) {
    const std::int64_t number = random.between(1, 64);
    value = static_cast<float>(random.below(2) == 0 ? number : -number) / 64;
  }
  return out;
}

class AdapterDraw {
 public:
  AdapterDraw(const checkpoint::HfModel& base, const lora::SitePlan& sites, Random& random)
      : base_(base), model_(sites.plan().model()), sites_(sites), random_(random) {
    out_.config.r = 1;
    out_.config.lora_alpha = 1;
    out_.config.peft_version = "0.21.2";
    out_.config.use_dora = random_.below(4) == 0;
    out_.config.lora_bias = !out_.config.use_dora && random_.below(8) == 0;
    out_.config.scale = random_.below(4) == 0 ? lora::ScaleKind::RsLora : lora::ScaleKind::Lora;
    several_scales_ = random_.below(4) == 0;
  }

  DrawnAdapter run() {
    for (const lora::Site& site : sites_.sites()) {
      if (random_.below(4) != 0) {
        site.expert ? add_experts(site) : add_layer(site);
      }
    }
    if (!out_.tensors.empty() && random_.below(8) == 0) {
      add_trained();
    }
    return std::move(out_);
  }

 private:
  /// PEFT has no DoRA and no bias on parameters.
  [[nodiscard]] bool of_modules_alone() const {
    return out_.config.use_dora || out_.config.lora_bias;
  }

  [[nodiscard]] bool is_parameter(const std::string& base) const {
    return sites_now_->module.ends_with(".router") ||
           lora::moved_by_peft(base_, std::string(lora::module_of(base)));
  }

  /// A norm that was trained: one of modules_to_save.
  void add_trained() {
    std::vector<const TensorSpec*> norms;
    for (const model::Mapping& mapping : model_.mappings) {
      for (const std::string& name : mapping.hf) {
        const auto found = base_.headers.find(name);
        if (found != base_.headers.end() && found->second.shape.size() == 1 &&
            name.ends_with("norm.weight")) {
          norms.push_back(&found->second);
        }
      }
    }
    if (!norms.empty()) {
      const TensorSpec& one = *norms[random_.below(norms.size())];
      out_.tensors[std::string(lora::kPeftPrefix) + one.name] = random_factor(one.shape, random_);
      out_.config.modules_to_save = {std::string(lora::module_of(one.name))};
    }
  }

  /// One scale for all layers, or for each pair one that a power of two parts from it.
  double alpha_of(std::int64_t rank) {
    const auto r = static_cast<double>(rank);
    const bool by_root = out_.config.scale == lora::ScaleKind::RsLora;
    return std::ldexp(kAdapterScale * (by_root ? std::sqrt(r) : r),
                      several_scales_ ? static_cast<int>(random_.between(-2, 2)) : 0);
  }

  void name_target(const std::string& path, std::int64_t rank, bool parameter) {
    (parameter ? out_.config.target_parameters : out_.config.target_modules.names).push_back(path);
    out_.config.rank_pattern.emplace_back(path, rank);
    out_.config.alpha_pattern.emplace_back(path, alpha_of(rank));
  }

  void add_pair(const std::string& base, std::int64_t rank, FactorValues a, FactorValues b) {
    const Shape rows = {b.shape.front()};
    out_.tensors[lora::adapter_key(base, lora::KeyKind::A)] = std::move(a);
    out_.tensors[lora::adapter_key(base, lora::KeyKind::B)] = std::move(b);
    if (out_.config.use_dora) {
      out_.tensors[lora::adapter_key(base, lora::KeyKind::Magnitude)] =
          random_factor(rows, random_);
    }
    if (out_.config.lora_bias) {
      out_.tensors[lora::adapter_key(base, lora::KeyKind::BiasB)] = random_factor(rows, random_);
    }
    const std::string path(lora::module_of(base));
    const bool parameter = is_parameter(base);
    name_target(parameter ? base : path, rank, parameter);
  }

  void add_layer(const lora::Site& site) {
    sites_now_ = &site;
    if (site.columns_first) {
      return;
    }
    const model::Mapping& mapping = model_.mappings[site.mappings.front()];
    if (of_modules_alone() && is_parameter(mapping.hf.front())) {
      return;
    }
    const std::int64_t rank = random_.between(1, 5);
    const bool shared = random_.below(2) == 0;
    const FactorValues common = random_factor({rank, site.in}, random_);
    for (std::size_t i = 0; i < mapping.hf.size(); ++i) {
      if (mapping.hf.size() > 1 && !out_.config.use_dora && random_.below(4) == 0) {
        continue;  // an absent member is a delta of zero, but no magnitude
      }
      add_pair(mapping.hf[i], rank, shared ? common : random_factor({rank, site.in}, random_),
               random_factor({site.rows_of(i), rank}, random_));
    }
  }

  void add_experts(const lora::Site& site) {
    sites_now_ = &site;
    if (of_modules_alone()) {
      return;
    }
    const model::Mapping& first = model_.mappings[site.mappings.front()];
    const std::int64_t rank = random_.between(1, 5);
    if (!first.is_stack()) {  // stored one by one: a pair for each, on every expert
      for (const std::uint32_t number : site.mappings) {
        const model::Mapping& mapping = model_.mappings[number];
        const FactorValues a = random_factor({rank, site.in}, random_);
        for (std::size_t i = 0; i < mapping.hf.size(); ++i) {
          add_pair(mapping.hf[i], rank, a, random_factor({site.rows_of(i), rank}, random_));
        }
      }
      return;
    }
    const std::string& base = first.hf.front();
    const std::string module = base.substr(0, base.rfind('.'));
    if (first.hf.size() != 1 || !stacks_.insert(module).second) {
      return;  // one parameter of a module: no wrapper inside another
    }
    const std::string key = std::string(lora::kPeftPrefix) + module;
    const bool exchanged = site.columns_first && !lora::marks_stacks(base_);  // of 0.21.2
    const std::int64_t over_a = exchanged ? site.rows_of(0) : site.in;
    const std::int64_t over_b = exchanged ? site.in : site.rows_of(0);
    const std::int64_t experts = model_.geometry.get("num_experts").value_or(site.experts);
    out_.tensors[key + ".lora_A.weight"] = random_factor({experts * rank, over_a}, random_);
    out_.tensors[key + ".lora_B.weight"] = random_factor({over_b, rank * experts}, random_);
    name_target(base, rank, true);
  }

  const checkpoint::HfModel& base_;
  const model::Model& model_;
  const lora::SitePlan& sites_;
  Random& random_;
  const lora::Site* sites_now_ = nullptr;
  std::set<std::string> stacks_;
  bool several_scales_ = false;
  DrawnAdapter out_;
};

}  // namespace

Result<checkpoint::HfModel> base_of(const Prepared& prepared) {
  checkpoint::OpenOptions options;
  options.resolve = prepared.model->resolve;
  return checkpoint::open_headers(prepared.model->sample.config, prepared.world.sample,
                                  prepared.model->headers, {prepared.model->family}, options);
}

Result<DrawnAdapter> draw_adapter(const checkpoint::HfModel& base, const kinds::Catalogue& kinds,
                                  const parallel::Layout& layout, Random& random) {
  BV_TRY(of_class, lora::class_model(base));  // PEFT names its parameters
  BV_TRY(plan, plan::Plan::make(of_class, kinds, layout));
  BV_TRY(sites, lora::SitePlan::make(plan, kinds));
  return AdapterDraw(base, sites, random).run();
}

Result<lora::Adapter> fitted(const DrawnAdapter& drawn, const checkpoint::HfModel& base,
                             const kinds::Catalogue& kinds) {
  std::vector<lora::AdapterTensor> tensors;
  for (const auto& [key, factor] : drawn.tensors) {
    lora::AdapterTensor one;
    one.stored.spec = {key, DType::F32, factor.shape};
    one.bytes = std::as_bytes(std::span(factor.values));
    tensors.push_back(std::move(one));
  }
  return lora::fit_adapter(drawn.config, std::move(tensors), base, kinds, "adapter");
}

std::string judge_adapter(const lora::Adapter& adapter, const checkpoint::HfModel& base,
                          const kinds::Catalogue& kinds, const parallel::Layout& layout) {
  const claims::AdapterSubject subject{&adapter, &base, &kinds, {layout}};
  if (claims::indivisible_layouts(subject).front()) {
    return "";
  }
  Run run;
  claims::judge_adapter(subject, run);
  for (const Verdict& verdict : run.verdicts) {
    const bool unknown = verdict.outcome == Outcome::Inconclusive &&
                         verdict.code == Code::NoTargetLayout;  // no oracle has the module
    const bool has_no_form = verdict.code == Code::AdapterNoForm &&
                             !(adapter.biases.empty() && adapter.replacements.empty());
    if (!unknown && !has_no_form && verdict.outcome != Outcome::Proved &&
        verdict.outcome != Outcome::Held) {
      return fmt::format("{}: {}", verdict.claim, verdict.title);
    }
  }
  return "";
}

Result<AdapterTrial> try_adapter(const Tools& tools, const Prepared& prepared, std::uint64_t seed,
                                 const std::filesystem::path& folder) {
  const kinds::Catalogue& kinds = tools.library.kinds;
  const parallel::Layout& layout = prepared.world.layout;
  Random random(seed);
  AdapterTrial out;
  BV_TRY(base, base_of(prepared));
  BV_TRY(drawn, draw_adapter(base, kinds, layout, random));
  if (drawn.tensors.empty()) {
    return out;
  }
  out.drawn = true;
  BV_TRY(adapter, fitted(drawn, base, kinds));
  out.said = judge_adapter(adapter, base, kinds, layout);
  for (const AdapterFault fault : kAdapterFaults) {
    const auto faulty = planted(drawn, fault, random);
    if (faulty && *faulty == drawn) {
      out.unchanged.push_back(fault);
    } else if (faulty) {
      BV_TRY(seen, seen_by(*faulty, drawn, base, kinds));
      out.seen[fault] = std::move(seen);
    }
  }
  if (!folder.empty()) {
    BV_TRY(ranks, try_ranks(adapter, base, kinds, layout, folder, random));
    out.seen.merge(std::move(ranks.seen));
    out.unchanged.insert(out.unchanged.end(), ranks.unchanged.begin(), ranks.unchanged.end());
  }
  return out;
}

}  // namespace bv::fuzz
