#include "core/lora/unpack.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "core/checkpoint/config_text.hpp"
#include "core/io/fault_text.hpp"
#include "core/lora/adapter_keys.hpp"
#include "core/lora/hf_config.hpp"
#include "core/lora/to_hf.hpp"
#include "core/lora/wrapped.hpp"
#include "core/plan/plan.hpp"

namespace bv::lora {
namespace {

/// A factor as a tensor of its own.
convert::OutputTensor tensor_of(const std::string& key, Shape shape, const Factor& factor) {
  convert::OutputTensor out;
  out.spec = {key, factor.dtype, std::move(shape)};
  out.sources = {factor.source()};
  layout::Box box;
  box.source_offset = factor.offset;
  box.axes = {{factor.rows, factor.row_stride, factor.columns},
              {factor.columns, factor.column_stride, 1}};
  layout::normalise(box);
  out.boxes = [box] { return std::vector<layout::Box>{box}; };
  return out;
}

/// Forms of a family in which every expert has tensors of its own.
std::set<std::string> forms_one_by_one(const family::Family& family) {
  std::set<std::string> out;
  for (const family::Rule& rule : family::rules(family)) {
    if (rule.expert && rule.per_expert && !rule.form.empty()) {
      out.insert(rule.form);
    }
  }
  return out;
}

/// The model with the experts of each section one by one, as far as the family knows such a form of
/// it; the forms that it has then are in `options`.
Result<model::Model> one_by_one(const checkpoint::HfModel& base, const nlohmann::json& config,
                                model::ResolveOptions& options) {
  const std::set<std::string> forms = forms_one_by_one(*base.model.family);
  for (const model::Detected& section : base.model.detected) {
    if (!section.what.ends_with("_experts")) {
      continue;
    }
    for (const std::string& form : forms) {
      auto tried = options;
      tried.forms[section.what] = form;
      if (model::resolve(base.model.family, config, {}, tried)) {
        options = std::move(tried);
        break;
      }
    }
  }
  return model::resolve(base.model.family, config, {}, options);
}

}  // namespace

Result<checkpoint::HfModel> per_expert_base(const checkpoint::HfModel& base,
                                            const kinds::Catalogue& kinds) {
  BV_TRY(config, checkpoint::parse_config(base.config_text, "config.json"));
  model::ResolveOptions options = base.resolve;
  options.config_only = true;
  options.match.clear();
  for (const model::Detected& one : base.model.detected) {
    if (one.what.ends_with("_experts")) {
      options.forms[one.what] = one.value;
    }
  }
  for (const auto& [name, text] : base.model.prefixes) {
    options.forms[model::prefix_form(name)] = text;
  }
  BV_TRY(model, one_by_one(base, config, options));
  for (const model::Mapping& mapping : model.mappings) {
    if (mapping.rule->expert && mapping.is_stack()) {
      return fail(Code::AdapterNoForm,
                  fmt::format("a single expert of {} has no name: {} is a stack of all in every "
                              "form that its family knows",
                              base.architecture, io::in_quotes(mapping.hf.front())))
          .pair("stacks of experts alone", "a family that also knows experts one by one")
          .advise(
              "leave the adapter packed, as PEFT reads it; for a server that reads no packed "
              "adapters merge it into its base: bridge-verify lora merge");
    }
  }
  BV_TRY(headers, plan::expected_headers(model, kinds));
  checkpoint::HfModel out;
  out.folder = base.folder;
  out.config_text = base.config_text;
  out.base = base.base;
  out.architecture = base.architecture;
  out.model_type = base.model_type;
  out.headers = std::move(headers);
  out.resolve = base.resolve;
  out.model = std::move(model);
  for (const auto& [what, form] : options.forms) {
    out.model.detected.push_back({what, form, "one by one"});
  }
  return out;
}

Result<UnpackedAdapter> plan_unpacked(const Adapter& adapter, const checkpoint::HfModel& base) {
  BV_CHECK(check_usable(adapter));
  if (!adapter.biases.empty() || !adapter.replacements.empty()) {
    const bool mergeable = std::all_of(adapter.biases.begin(), adapter.biases.end(),
                                       [](const BiasDelta& one) { return one.of_layer; });
    return fail(Code::AdapterNoForm, "an adapter with trained biases or modules is not unpacked")
        .pair("more than pairs", "pairs alone")
        .advise(mergeable ? "merge the adapter instead"
                          : "keep it for PEFT: a layer without a bias takes none up");
  }
  UnpackedAdapter out;
  out.weights.name = std::string(kAdapterModelName);
  out.weights.metadata = {{"format", "pt"}};
  std::vector<HfTarget> targets;
  for (const AdapterPair& pair : adapter.pairs) {
    out.weights.tensors.push_back(
        tensor_of(adapter_key(pair.base, KeyKind::A), {pair.a.rows, pair.a.columns}, pair.a));
    out.weights.tensors.push_back(
        tensor_of(adapter_key(pair.base, KeyKind::B), {pair.b.rows, pair.b.columns}, pair.b));
    if (pair.magnitude) {
      out.weights.tensors.push_back(
          tensor_of(adapter_key(pair.base, KeyKind::Magnitude), {pair.b.rows}, *pair.magnitude));
    }
    const std::string path(module_of(pair.base));
    const auto& parameters = adapter.config.target_parameters;
    const bool parameter =
        !expert_of(path) && std::any_of(parameters.begin(), parameters.end(), [&](const auto& one) {
          return pair.base == one || pair.base.ends_with("." + one);
        });
    targets.push_back({parameter ? pair.base : path, parameter, pair.rank(), pair.alpha});
  }
  if (targets.empty()) {
    return fail(Code::AdapterInvalid, "the adapter has no pairs")
        .pair("no pair", "pairs")
        .advise("give an adapter that was trained");
  }
  std::vector<std::string> modules;
  for (const auto& [name, spec] : base.headers) {
    if (spec.shape.size() >= 2 && name.ends_with(".weight")) {
      modules.emplace_back(module_of(name));
    }
  }
  AdapterConfig config = config_for(targets, modules);
  config.scale = adapter.config.scale;
  config.use_dora = adapter.config.use_dora;
  config.base_model = adapter.config.base_model;
  config.task_type = adapter.config.task_type;
  config.peft_version = adapter.config.peft_version;
  out.config_text = adapter_config_text(config);
  return out;
}

}  // namespace bv::lora
