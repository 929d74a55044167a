#include "properties/attacks/fuzz/adapters.hpp"

#include <fmt/format.h>

#include <algorithm>
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
  }

  DrawnAdapter run() {
    for (const lora::Site& site : sites_.sites()) {
      if (random_.below(4) != 0) {
        site.expert ? add_experts(site) : add_layer(site);
      }
    }
    return std::move(out_);
  }

 private:
  /// One scale for all layers.
  void name_target(const std::string& path, std::int64_t rank, bool parameter) {
    (parameter ? out_.config.target_parameters : out_.config.target_modules.names).push_back(path);
    out_.config.rank_pattern.emplace_back(path, rank);
    out_.config.alpha_pattern.emplace_back(path, kAdapterScale * static_cast<double>(rank));
  }

  void add_pair(const std::string& base, std::int64_t rank, FactorValues a, FactorValues b) {
    out_.tensors[lora::adapter_key(base, lora::KeyKind::A)] = std::move(a);
    out_.tensors[lora::adapter_key(base, lora::KeyKind::B)] = std::move(b);
    const std::string path(lora::module_of(base));
    const bool parameter =
        sites_now_->module.ends_with(".router") || lora::moved_by_peft(base_, path);
    name_target(parameter ? base : path, rank, parameter);
  }

  void add_layer(const lora::Site& site) {
    sites_now_ = &site;
    if (site.columns_first) {
      return;
    }
    const model::Mapping& mapping = model_.mappings[site.mappings.front()];
    const std::int64_t rank = random_.between(1, 5);
    const bool shared = random_.below(2) == 0;
    const FactorValues common = random_factor({rank, site.in}, random_);
    for (std::size_t i = 0; i < mapping.hf.size(); ++i) {
      if (mapping.hf.size() > 1 && random_.below(4) == 0) {
        continue;  // an absent member is a delta of zero
      }
      add_pair(mapping.hf[i], rank, shared ? common : random_factor({rank, site.in}, random_),
               random_factor({site.rows_of(i), rank}, random_));
    }
  }

  void add_experts(const lora::Site& site) {
    sites_now_ = &site;
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
    out_.tensors[key + ".lora_A.weight"] = random_factor({site.experts * rank, over_a}, random_);
    out_.tensors[key + ".lora_B.weight"] = random_factor({over_b, rank * site.experts}, random_);
    name_target(base, rank, true);
  }

  const checkpoint::HfModel& base_;
  const model::Model& model_;
  const lora::SitePlan& sites_;
  Random& random_;
  const lora::Site* sites_now_ = nullptr;
  std::set<std::string> stacks_;
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
    if (!unknown && verdict.outcome != Outcome::Proved && verdict.outcome != Outcome::Held) {
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
