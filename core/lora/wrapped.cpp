#include "core/lora/wrapped.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "core/base/path_pattern.hpp"
#include "core/family/family.hpp"
#include "core/lora/adapter_keys.hpp"
#include "core/lora/class_names.hpp"
#include "core/lora/to_hf.hpp"

namespace bv::lora {

bool names_module(const std::string& name, const std::string& path) {
  return path == name || path.ends_with("." + name);
}

bool saves_module(const std::string& saved, std::string_view path) {
  for (std::size_t end = path.size(); end != std::string_view::npos && end > 0;
       end = path.rfind('.', end - 1)) {
    if (path.substr(0, end).ends_with(saved)) {
      return true;
    }
  }
  return false;
}

std::optional<std::int64_t> layer_of(const std::string& path,
                                     const std::vector<std::string>& patterns) {
  std::optional<std::int64_t> out;
  std::string before;
  for (std::size_t at = 0; at < path.size();) {
    const std::size_t end = std::min(path.find('.', at), path.size());
    const std::string part = path.substr(at, end - at);
    std::int64_t number = 0;
    const auto [last, error] = std::from_chars(part.data(), part.data() + part.size(), number);
    const bool whole =
        error == std::errc() && last == part.data() + part.size() && end < path.size();
    const bool wanted = patterns.empty()
                            ? !before.empty()
                            : std::find(patterns.begin(), patterns.end(), before) != patterns.end();
    if (whole && wanted) {
      out = number;
    }
    before = part;
    at = end + 1;
  }
  return out;
}

namespace {

constexpr std::array kExpertNames = {"gate_proj", "up_proj", "down_proj"};

/// PEFT 0.21.2 looks at the last component of a target, in lists and in what a pattern matches.
bool names_experts(std::string_view target) {
  return std::find(kExpertNames.begin(), kExpertNames.end(), last_component(target)) !=
         kExpertNames.end();
}

class Wrapping {
 public:
  static Result<Wrapping> make(const AdapterConfig& config, bool converts) {
    Wrapping out(config);
    for (auto [modules, pattern] : {std::pair{&config.target_modules, &out.target_},
                                    std::pair{&config.exclude_modules, &out.exclude_}}) {
      if (!modules->regex.empty() && modules->regex != "all-linear") {
        BV_TRY(compiled, PathPattern::compile(modules->regex, PathPattern::Extent::Whole));
        *pattern = std::move(compiled);
      }
    }
    for (const std::string& name : config.target_modules.names) {
      if (!converts || !names_experts(name)) {
        out.names_.push_back(name);
      }
    }
    return out;
  }

  [[nodiscard]] bool takes(const std::string& path) const {
    if (matches(config_->exclude_modules.names, exclude_, path)) {
      return false;
    }
    if (config_->target_modules.regex == "all-linear") {
      return !path.ends_with("lm_head");
    }
    if (!matches(names_, target_, path)) {
      return false;
    }
    const auto& layers = config_->layers_to_transform;
    if (layers.empty()) {
      return true;
    }
    const bool exact = std::find(names_.begin(), names_.end(), path) != names_.end();
    const auto layer = layer_of(path, config_->layers_pattern);
    return exact || (layer && std::find(layers.begin(), layers.end(), *layer) != layers.end());
  }

 private:
  explicit Wrapping(const AdapterConfig& config) : config_(&config) {}
  static bool matches(const std::vector<std::string>& names,
                      const std::optional<PathPattern>& pattern, const std::string& path) {
    return pattern ? pattern->matches(path)
                   : std::any_of(names.begin(), names.end(),
                                 [&](const std::string& name) { return names_module(name, path); });
  }

  const AdapterConfig* config_;
  std::vector<std::string> names_;
  std::optional<PathPattern> target_;
  std::optional<PathPattern> exclude_;
};

bool is_parameter_target(const AdapterConfig& config, const std::string& name) {
  return std::any_of(config.target_parameters.begin(), config.target_parameters.end(),
                     [&](const std::string& one) { return names_module(one, name); });
}

}  // namespace

bool moved_by_peft(const checkpoint::HfModel& base, std::string_view module) {
  return base.model.family && base.model.family->peft_moves_experts && names_experts(module);
}

bool marks_stacks(const checkpoint::HfModel& base) {
  return !base.model.family || !base.model.family->stacks_unmarked;
}

namespace {

bool moves_experts(const checkpoint::HfModel& base) {
  return base.model.family && base.model.family->peft_moves_experts;
}

/// The projection that a target of a list moves into the packed experts of the class, and the
/// parameter that it becomes.
std::string_view packed_parameter(std::string_view projection) {
  return projection == "down_proj" ? "down_proj" : "gate_up_proj";
}

/// For a class whose experts it moves, PEFT resolves a pattern to the last components that it
/// matches somewhere, those of the projections of experts included, which no longer are modules;
/// "all-linear" names those beside the linear layers. The list takes every module of such a name.
Result<AdapterConfig> with_pattern_resolved(const AdapterConfig& config,
                                            const checkpoint::HfModel& base, MtpLayers mtp,
                                            const Naming& naming) {
  AdapterConfig out = config;
  if (!moves_experts(base) || config.target_modules.regex.empty()) {
    return out;
  }
  BV_TRY(wrapping, Wrapping::make(config, true));
  BV_TRY(modules, modules_of(base, mtp, naming));
  BV_TRY(of_class, class_model(base));
  std::set<std::string> names;
  const bool all_linear = config.target_modules.regex == "all-linear";
  const std::set<std::string> others =
      all_linear ? not_linear(base, naming) : std::set<std::string>();
  for (const std::string& module : modules) {
    if (wrapping.takes(module) && !others.contains(module)) {
      names.insert(std::string(last_component(module)));
    }
  }
  for (const model::Mapping& mapping : of_class.mappings) {
    for (const std::string& in_class : mapping.hf) {
      const std::string parameter = naming.of_whole(in_class);
      const std::string container(module_of(parameter + ".weight"));
      const std::string_view last = last_component(container);
      for (const std::string_view projection : kExpertNames) {
        const std::string probed =
            container.substr(0, container.size() - last.size()) + std::string(projection);
        if (mapping.rule->expert && mapping.expert < 0 && last == packed_parameter(projection) &&
            (all_linear || wrapping.takes(probed))) {
          names.insert(std::string(projection));
        }
      }
    }
  }
  if (all_linear) {
    names.insert("gate");
  }
  out.target_modules = {{names.begin(), names.end()}, ""};
  return out;
}

}  // namespace

bool wraps_all(const AdapterConfig& config, const std::vector<std::string>& modules,
               const checkpoint::HfModel& base) {
  const auto resolved =
      with_pattern_resolved(config, base, mtp_layers_of(base, modules), {base.model.family.get()});
  if (!resolved) {
    return false;
  }
  const auto wrapping = Wrapping::make(*resolved, moves_experts(base));
  return wrapping && std::all_of(modules.begin(), modules.end(), [&](const std::string& module) {
           return wrapping->takes(module);
         });
}

namespace {

bool names_both(const AdapterConfig& config) {
  const auto moves = [&](std::string_view projection) {
    return std::any_of(config.target_modules.names.begin(), config.target_modules.names.end(),
                       [&](const std::string& one) { return last_component(one) == projection; });
  };
  return moves("gate_proj") && moves("up_proj");
}

/// The parameters whose rank PEFT doubles: it moves gate_proj and up_proj into gate_up_proj, and
/// appends a pattern of twice r, which decides where no pattern of the config does.
class DoubledRanks {
 public:
  static Result<DoubledRanks> make(const AdapterConfig& config, bool converts) {
    DoubledRanks out;
    out.doubles_ = converts && names_both(config);
    out.rank_ = config.r;
    for (const auto& [text, rank] : config.rank_pattern) {
      BV_TRY(pattern, PathPattern::compile(text, PathPattern::Extent::Suffix));
      out.patterns_.push_back(std::move(pattern));
    }
    return out;
  }

  /// The parameter that PEFT gives another rank than this pair of a stack has; "" when it has none.
  [[nodiscard]] std::string wrong(const AdapterPair& pair) const {
    const std::size_t experts = pair.base.find(".experts.");
    const std::string_view last = last_component(module_of(pair.base));
    if (!doubles_ || experts == std::string::npos || pair.rank() != rank_ || last == "down_proj") {
      return "";
    }
    std::string parameter = pair.base.substr(0, experts) + ".experts.gate_up_proj";
    const bool decided =
        std::any_of(patterns_.begin(), patterns_.end(),
                    [&](const PathPattern& pattern) { return pattern.matches(parameter); });
    return decided ? "" : parameter;
  }

 private:
  bool doubles_ = false;
  std::int64_t rank_ = 0;
  std::vector<PathPattern> patterns_;
};

}  // namespace

Result<bool> doubles_gate_up(const AdapterConfig& config, const checkpoint::HfModel& base) {
  if (!moves_experts(base)) {
    return false;
  }
  BV_TRY(resolved,
         with_pattern_resolved(config, base, MtpLayers::LeftOut, {base.model.family.get()}));
  return names_both(resolved);
}

namespace {

/// PEFT moves the keys of one expert where a target names its projection, or the parameter.
bool moves_projection(const AdapterConfig& config, const std::string& path) {
  const std::string_view projection = last_component(path);
  const auto& names = config.target_modules.names;
  const auto named = [&](std::string_view wanted) {
    return std::any_of(names.begin(), names.end(),
                       [&](const std::string& one) { return last_component(one) == wanted; });
  };
  const auto& parameters = config.target_parameters;
  return (projection == "down_proj" ? named(projection) : named("gate_proj") && named("up_proj")) ||
         std::any_of(parameters.begin(), parameters.end(), [&](const std::string& one) {
           return last_component(one) == packed_parameter(projection);
         });
}

}  // namespace

Result<TargetGaps> target_gaps(const Adapter& adapter, const checkpoint::HfModel& base) {
  const bool converts = moves_experts(base);
  const Naming names = naming_of(adapter, base);
  std::vector<std::string> tensors;
  for (const AdapterPair& pair : adapter.pairs) {
    tensors.push_back(pair.base);
  }
  const MtpLayers mtp = mtp_layers_of(base, tensors);
  BV_TRY(config, with_pattern_resolved(adapter.config, base, mtp, names));
  BV_TRY(wrapping, Wrapping::make(config, converts));
  BV_TRY(doubled, DoubledRanks::make(config, converts));
  BV_TRY(modules, modules_of(base, mtp, names));
  const std::set<std::string> known(modules.begin(), modules.end());
  std::set<std::string> paired;
  TargetGaps out;
  std::set<std::string> gaps;
  for (const AdapterPair& pair : adapter.pairs) {
    std::string why;
    const auto key = parse_adapter_key(pair.b.key(), why);
    const bool packed = !key || !known.contains(key->path);
    if (packed) {
      const bool single = key && expert_of(key->path);
      if (single && !(converts && moves_projection(config, key->path))) {
        gaps.insert(key->path);  // the class has no module for one expert
      }
      if (const std::string parameter = doubled.wrong(pair); !single && !parameter.empty()) {
        gaps.insert(parameter);
      }
      continue;
    }
    paired.insert(key->path);
    if (!is_parameter_target(config, key->path + ".weight") && !wrapping.takes(key->path)) {
      gaps.insert(key->path);
    }
  }
  out.not_loaded.assign(gaps.begin(), gaps.end());
  const auto& saved = adapter.config.modules_to_save;
  const bool all_linear = config.target_modules.regex == "all-linear";
  const std::set<std::string> others =
      all_linear ? not_linear(base, names) : std::set<std::string>();
  for (const std::string& module : modules) {
    const bool kept = std::any_of(saved.begin(), saved.end(), [&](const std::string& one) {
      return saves_module(one, module);
    });
    if (wrapping.takes(module) && !paired.contains(module) && !kept && !others.contains(module)) {
      out.fresh.push_back(module);
    }
  }
  return out;
}

}  // namespace bv::lora
