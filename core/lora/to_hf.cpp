// What is written of an adapter for PEFT: targets, stacks, config.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/base/arith.hpp"
#include "core/base/path_pattern.hpp"
#include "core/checkpoint/config_text.hpp"
#include "core/io/fault_text.hpp"
#include "core/lora/class_names.hpp"
#include "core/lora/hf_planner.hpp"
#include "core/lora/tied_head.hpp"
#include "core/lora/wrapped.hpp"
#include "core/move/tensor_maker.hpp"

namespace bv::lora {
namespace {

// Storage forms of experts: the classes of transformers have one parameter for all of a layer,
// whatever the files do, for the decoder and for MTP layers alike.
constexpr std::string_view kExpertForms = "_experts";
constexpr std::string_view kOneParameter = "packed";
constexpr std::string_view kStackOfModule = "packed_weight";  // names that end in .weight

}  // namespace

Result<HfAdapterFiles> HfPlanner::run() {
  if (adapter_.modules.empty()) {
    return fail(Code::AdapterInvalid, "the folder holds no adapter")
        .pair("no parameter with .adapter. in its name", "adapters of linear layers")
        .advise("give the folder that holds the adapter parameters");
  }
  for (std::size_t i = 0; i < class_.sites().size(); ++i) {
    class_sites_[class_.sites()[i].module] = i;
  }
  for (const AdapterModule& module : adapter_.modules) {
    const std::string& name = sites_.sites()[module.site].module;
    if (!class_sites_.contains(name)) {
      return fail(Code::AdapterNoForm, fmt::format("the class of the base has no {}", name))
          .pair(name_of(module), "a layer of the class")
          .advise("merge the adapter into its base, and convert the merged model");
    }
  }
  find_packed();
  const std::span<const AdapterModule> all(adapter_.modules);
  for (std::size_t first = 0, next = 0; first < all.size(); first = next) {
    while (next < all.size() && all[next].site == all[first].site) {
      ++next;
    }
    BV_CHECK(add_layer(all.subspan(first, next - first)));
  }
  BV_CHECK(check_experts());
  finish_tensors();
  BV_CHECK(finish_config());
  return std::move(out_);
}

const Site& HfPlanner::class_site(const AdapterModule& module) const {
  return class_.sites()[class_sites_.at(sites_.sites()[module.site].module)];
}

const model::Mapping& HfPlanner::class_mapping(const Site& site, std::int64_t expert) const {
  return class_.plan().model().mappings[site.mapping_of(std::max<std::int64_t>(expert, 0))];
}

bool HfPlanner::is_packed(const Site& site, const model::Mapping& mapping) {
  return (site.experts > 0 || site.expert_number >= 0) && mapping.expert < 0;
}

std::string HfPlanner::parent_of(const std::string& name) {
  return name.substr(0, name.size() - std::min(name.size(), last_component(name).size() + 1));
}

void HfPlanner::find_packed() {
  std::set<std::string> seen;
  for (const Site& site : class_.sites()) {
    const model::Mapping& mapping = class_mapping(site, site.experts > 0 ? 0 : -1);
    if (is_packed(site, mapping)) {
      for (const std::string& name : mapping.hf) {
        if (seen.insert(name).second) {
          registered_[parent_of(name)].push_back(name);
        }
      }
    }
  }
  // The class registers them as the family lists its rules, not as names sort.
  std::map<std::string, std::size_t> order;
  for (const model::Mapping& mapping : class_.plan().model().mappings) {
    for (const std::string& name : mapping.hf) {
      order.try_emplace(name, order.size());
    }
  }
  for (auto& [module, names] : registered_) {
    std::sort(names.begin(), names.end(),
              [&](const std::string& a, const std::string& b) { return order[a] < order[b]; });
  }
  for (const AdapterModule& module : adapter_.modules) {
    const Site& site = class_site(module);
    const model::Mapping& mapping = class_mapping(site, site.experts > 0 ? 0 : -1);
    if (is_packed(site, mapping)) {
      targeted_.insert(targeted_.end(), mapping.hf.begin(), mapping.hf.end());
    }
  }
}

std::string HfPlanner::wrapper_of(const std::string& parameter) const {
  std::string out = parent_of(parameter);
  for (const NestedParameter& one : nesting_of(registered_.at(out), targeted_)) {
    if (one.name == parameter) {
      for (int i = 0; i < one.depth; ++i) {
        out += ".base_layer";
      }
      break;
    }
  }
  return out;
}

std::string HfPlanner::name_of(const AdapterModule& module) const {
  const std::string& site = sites_.sites()[module.site].module;
  return module.key.empty() ? site : site + "." + module.key;
}

/// A key is of the class that the record says.
std::string HfPlanner::own_name(const std::string& name) const {
  const auto text = adapter_.record && adapter_.record->text_model
                        ? text_class(base_.model, head_name(base_))
                        : std::nullopt;
  const std::string own = text ? text->to_own(name) : "";
  return own.empty() ? name : own;
}

void HfPlanner::finish_tensors() {
  out_.weights.name = std::string(kAdapterModelName);
  out_.weights.metadata = {{"format", "pt"}};
  for (Gathered& one : tensors_) {
    std::sort(one.boxes.begin(), one.boxes.end(), [](const layout::Box& a, const layout::Box& b) {
      return a.target_offset < b.target_offset;
    });
    convert::OutputTensor tensor;
    tensor.spec = {std::string(kPeftPrefix) + own_name(one.key.substr(kPeftPrefix.size())),
                   one.sources.front().spec->dtype, one.shape};
    for (const checkpoint::SourceTensor& source : one.sources) {
      if (source.spec->dtype != tensor.spec.dtype) {
        tensor.spec.dtype = DType::F32;
      }
    }
    tensor.sources = std::move(one.sources);
    tensor.boxes = [boxes = std::move(one.boxes)] { return boxes; };
    out_.weights.tensors.push_back(std::move(tensor));
  }
  out_.keeps = scaled_;
}

Status HfPlanner::finish_config() {
  if (adapter_.record && !adapter_.record->config.empty()) {
    auto config = parse_adapter_config(adapter_.record->config, std::string(kAdapterConfigName));
    const std::string why = why_anew(config ? &*config : nullptr);
    if (why.empty()) {
      out_.config = std::move(*config);
      out_.config_text = adapter_.record->config;
      return Done{};
    }
    out_.notes.push_back(fmt::format(
        "{} is written anew, and is not the file that was converted: {}", kAdapterConfigName, why));
  }
  std::vector<std::string> tensors;
  for (const AdapterModule& module : adapter_.modules) {
    const Site& site = sites_.sites()[module.site];
    const auto& hf = sites_.plan().model().mappings[site.mapping_of(0)].hf;
    tensors.insert(tensors.end(), hf.begin(), hf.end());
  }
  BV_TRY(modules, class_modules(base_, mtp_layers_of(base_, tensors)));
  out_.config = config_for(targets_, modules);
  out_.config.use_dora = dora_;
  out_.config.peft_version = kWrittenPeftVersion;
  out_.config_text = adapter_config_text(out_.config);
  return Done{};
}

namespace {

template <class Value>
using ByPattern = std::vector<std::pair<PathPattern, Value>>;

/// nullopt for a pattern that cannot be read.
template <class Value>
std::optional<ByPattern<Value>> compiled(
    const std::vector<std::pair<std::string, Value>>& patterns) {
  ByPattern<Value> out;
  for (const auto& [pattern, value] : patterns) {
    auto one = PathPattern::compile(pattern, PathPattern::Extent::Suffix);
    if (!one) {
      return std::nullopt;
    }
    out.emplace_back(std::move(*one), value);
  }
  return out;
}

/// The value of the first pattern that matches.
template <class Value>
Value value_at(const ByPattern<Value>& patterns, const std::string& path, Value otherwise) {
  const auto match = std::find_if(patterns.begin(), patterns.end(),
                                  [&](const auto& one) { return one.first.matches(path); });
  return match == patterns.end() ? otherwise : match->second;
}

/// Apart by no more than what dividing and multiplying by ranks leaves.
bool same_scale(double a, double b) {
  return std::abs(a - b) <= 1e-9 * std::max(std::abs(a), std::abs(b));
}

}  // namespace

std::string HfPlanner::why_anew(const AdapterConfig* config) const {
  return config == nullptr ? "that file cannot be read any more"
         : !same_modules() ? "other layers have adapters now"
         : !verbatim_      ? "pairs of a layer came back as one"
         : !fits(*config)  ? "its targets, ranks or scales are not those of the pairs"
                           : "";
}

/// As the config names it: a router that it does not name as a parameter is a module.
HfTarget HfPlanner::as_named(const AdapterConfig& config, const HfTarget& target) {
  const auto& names = config.target_parameters;
  const bool named = std::any_of(names.begin(), names.end(), [&](const std::string& one) {
    return names_module(one, target.path);
  });
  if (!target.router || named) {
    return target;
  }
  HfTarget out = target;
  out.path = module_of(target.path);
  out.parameter = false;
  return out;
}

bool HfPlanner::fits(const AdapterConfig& config) const {
  const auto ranks = compiled(config.rank_pattern);
  const auto alphas = compiled(config.alpha_pattern);
  if (!ranks || !alphas) {
    return false;
  }
  std::vector<HfTarget> targets;
  std::vector<std::string> modules;
  for (const HfTarget& target : targets_) {
    targets.push_back(as_named(config, target));
    targets.back().path = own_name(targets.back().path);
    if (!targets.back().parameter) {
      modules.push_back(targets.back().path);
    }
  }
  if (!wraps_all(config, modules, base_)) {
    return false;
  }
  return std::all_of(targets.begin(), targets.end(), [&](const HfTarget& target) {
    const auto& names = config.target_parameters;
    const bool named = std::any_of(names.begin(), names.end(), [&](const std::string& one) {
      return target.path == one || target.path.ends_with("." + one);
    });
    return value_at(*ranks, target.path, config.r) == target.rank &&
           same_scale(scale64(config.scale, value_at(*alphas, target.path, config.lora_alpha),
                              target.rank),
                      target.alpha / static_cast<double>(target.rank)) &&
           target.parameter == named;
  });
}

bool HfPlanner::same_modules() const {
  std::set<std::string> there;
  for (const AdapterModule& module : adapter_.modules) {
    there.insert(name_of(module));
  }
  std::set<std::string> recorded;
  for (const auto& [name, layer] : adapter_.record->layers) {
    recorded.insert(name);
  }
  return there == recorded;
}

Result<model::Model> class_model(const checkpoint::HfModel& base) {
  BV_TRY(config, checkpoint::parse_config(base.config_text, "config.json"));
  model::ResolveOptions options = base.resolve;
  options.config_only = true;
  options.match.clear();
  std::vector<model::Detected> forms;
  for (const model::Detected& one : base.model.detected) {
    if (one.what.ends_with(kExpertForms)) {
      options.forms[one.what] = one.value;
      forms.push_back(one);
    }
  }
  for (const auto& [name, text] : base.model.prefixes) {
    options.forms[model::prefix_form(name)] = text;
  }
  for (const model::Detected& one : forms) {
    if (one.value.starts_with(kOneParameter) && one.value != kStackOfModule) {
      continue;
    }
    options.forms[one.what] = kOneParameter;
    if (!model::resolve(base.model.family, config, {}, options)) {
      options.forms[one.what] = one.value;  // a family whose class has a module for each expert
    }
  }
  BV_TRY(out, model::resolve(base.model.family, config, {}, options));
  for (model::Mapping& mapping : out.mappings) {
    for (std::string& name : mapping.hf) {
      name = class_name(base.model.family.get(), name);
    }
  }
  return std::move(out);
}

Result<HfAdapterFiles> plan_to_hf(const MegatronAdapter& adapter, const SitePlan& sites,
                                  const SitePlan& of_class, const checkpoint::HfModel& base) {
  // A config that comes back as it was states the version whose roles the stacks must have.
  if (adapter.record && !adapter.record->config.empty()) {
    const auto config =
        parse_adapter_config(adapter.record->config, std::string(kAdapterConfigName));
    if (config && config->peft_version && *config->peft_version != kWrittenPeftVersion) {
      BV_TRY(files, HfPlanner(adapter, sites, of_class, base, *config->peft_version).run());
      if (files.config_text == adapter.record->config) {
        return std::move(files);
      }
    }
  }
  return HfPlanner(adapter, sites, of_class, base, kWrittenPeftVersion).run();
}

Result<Adapter> adapter_in_memory(const HfAdapterFiles& files, const checkpoint::HfModel& base,
                                  const kinds::Catalogue& kinds) {
  auto memory = std::make_shared<std::vector<std::vector<std::byte>>>();
  std::vector<AdapterTensor> tensors;
  for (const convert::OutputTensor& tensor : files.weights.tensors) {
    const auto elements = element_count(tensor.spec.shape).value();
    move::TensorMaker maker(
        checkpoint::over_chunks({tensor.spec.dtype, elements, tensor.boxes(), {}}, tensor.sources));
    std::vector<std::byte> bytes(static_cast<std::size_t>(elements) * maker.element_bytes());
    BV_CHECK(maker.make(ElementOffset{0}, ElementOffset{elements}, bytes.data()));
    memory->push_back(std::move(bytes));
    tensors.push_back({{tensor.spec, 0, 0, memory->back().size()}, memory->back()});
  }
  BV_TRY(out, fit_adapter(files.config, std::move(tensors), base, kinds, "the adapter"));
  out.keeps = std::move(memory);
  return std::move(out);
}

}  // namespace bv::lora
