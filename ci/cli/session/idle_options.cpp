#include "ci/cli/session/idle_options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "core/family/rule.hpp"

namespace bv::cli {
namespace {

bool drops_mtp(const model::Model& model) {
  return !model.dropped.empty() ||
         std::any_of(model.detected.begin(), model.detected.end(), [](const model::Detected& one) {
           return one.what == "mtp" && one.value == "dropped";
         });
}

bool has_expert_stacks(const model::Model& model) {
  return std::any_of(model.mappings.begin(), model.mappings.end(),
                     [](const model::Mapping& one) { return one.rule->expert && one.is_stack(); });
}

bool has_experts(const model::Model& model) {
  return std::any_of(model.mappings.begin(), model.mappings.end(),
                     [](const model::Mapping& one) { return one.rule->expert; });
}

/// Why the option changes nothing, "" where it may.
std::string_view why_idle(std::string_view name, const Options& options,
                          const model::Model& model) {
  if (name == "drop-mtp" && !drops_mtp(model)) {
    return "the checkpoint holds no MTP layer that the family knows";
  }
  if (name == "expert-orientation" && !has_expert_stacks(model)) {
    return "the model has no stacks of experts";
  }
  if ((name == "moe-grouped-gemm" || name == "no-moe-grouped-gemm") && !has_experts(model)) {
    return "the model has no experts";
  }
  if (name == "patience" && options.alone) {
    return "there is one process";
  }
  if (name == "seed" && options.command == "check" && options.level == "headers" &&
      options.megatron.empty() && options.against.empty()) {
    return "level headers draws no values";
  }
  return "";
}

}  // namespace

std::vector<IdleOption> idle_options(const Options& options, const model::Model& model) {
  std::vector<IdleOption> out;
  for (const Setting& setting : options.given) {
    const std::string_view why = setting.origin == Origin::CommandLine
                                     ? why_idle(setting.name, options, model)
                                     : std::string_view();
    if (!why.empty()) {
      out.push_back({setting.name, fmt::format("--{} changes nothing: {}", setting.name, why)});
    }
  }
  return out;
}

Options without_idle(const Options& options, const model::Model& model) {
  Options out = options;
  for (const IdleOption& idle : idle_options(options, model)) {
    std::erase_if(out.given, [&](const Setting& one) { return one.name == idle.name; });
  }
  return out;
}

}  // namespace bv::cli
