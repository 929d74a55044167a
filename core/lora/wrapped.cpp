#include "core/lora/wrapped.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "core/family/family.hpp"
#include "core/lora/adapter_keys.hpp"
#include "core/lora/class_names.hpp"
#include "core/lora/path_pattern.hpp"
#include "core/lora/to_hf.hpp"

namespace bv::lora {
namespace {

constexpr std::array kExpertNames = {"gate_proj", "up_proj", "down_proj"};

/// PEFT 0.21.2 looks at the last component of a target, in lists and in what a pattern matches.
bool names_experts(std::string_view target) {
  return std::find(kExpertNames.begin(), kExpertNames.end(), last_component(target)) !=
         kExpertNames.end();
}

bool names_module(const std::string& name, const std::string& path) {
  return path == name || path.ends_with("." + name);
}

/// The number of the layer that PEFT takes from a path: behind one of the patterns, else the last
/// number with a name before it.
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

/// What the adapter's class calls its modules: classes of another age had the names of the files.
struct Naming {
  const family::Family* family = nullptr;  // null: as the files
  [[nodiscard]] std::string of(std::string_view in_file) const {
    return joined_module(family, class_name(family, in_file));
  }
};

/// The names that the keys of the adapter have.
Naming names_of(const Adapter& adapter, const checkpoint::HfModel& base) {
  const family::Family* family = base.model.family.get();
  const Naming names_of_class{family};
  const bool of_files =
      std::any_of(adapter.pairs.begin(), adapter.pairs.end(), [&](const AdapterPair& pair) {
        std::string why;
        const auto key = parse_adapter_key(pair.b.key(), why);
        return key && names_of_class.of(key->path) != key->path;
      });
  return {of_files ? nullptr : family};
}

/// The HF tensors of MTP layers.
std::set<std::string> mtp_tensors(const checkpoint::HfModel& base) {
  std::set<std::string> out;
  for (const model::Mapping& mapping : base.model.mappings) {
    if (mapping.stage == family::Stage::Mtp) {
      out.insert(mapping.hf.begin(), mapping.hf.end());
    }
  }
  return out;
}

}  // namespace

MtpLayers mtp_layers_of(const checkpoint::HfModel& base, const std::vector<std::string>& tensors) {
  const std::set<std::string> there = mtp_tensors(base);
  return std::any_of(tensors.begin(), tensors.end(),
                     [&](const std::string& name) { return there.contains(name); })
             ? MtpLayers::Built
             : MtpLayers::LeftOut;
}

namespace {

/// Modules with a weight of two dimensions or more, by the names of the class, or of the files.
Result<std::vector<std::string>> modules_of(const checkpoint::HfModel& base, MtpLayers mtp,
                                            const Naming& names) {
  std::set<std::string> left_out(base.model.dropped.begin(), base.model.dropped.end());
  if (mtp == MtpLayers::LeftOut) {
    left_out.merge(mtp_tensors(base));
  }
  std::set<std::string> in_class;
  if (base.model.family != nullptr) {
    BV_TRY(model, class_model(base));
    for (const model::Mapping& mapping : model.mappings) {
      in_class.insert(mapping.hf.begin(), mapping.hf.end());
    }
  }
  std::set<std::string> out;
  for (const auto& [name, spec] : base.headers) {
    const bool packed_away = expert_of(name) && !in_class.empty() &&
                             !in_class.contains(class_name(base.model.family.get(), name));
    if (spec.shape.size() >= 2 && name.ends_with(".weight") && !packed_away &&
        !left_out.contains(name)) {
      out.insert(names.of(module_of(name)));
    }
  }
  return std::vector<std::string>(out.begin(), out.end());
}

}  // namespace

Result<std::vector<std::string>> class_modules(const checkpoint::HfModel& base, MtpLayers mtp) {
  return modules_of(base, mtp, {base.model.family.get()});
}

namespace {

/// Modules with a weight that are no linear layers: embeddings, routers (parameters of a module of
/// their own) and convolutions. "all-linear" leaves them out.
std::set<std::string> not_linear(const checkpoint::HfModel& base, const Naming& names) {
  std::set<std::string> out;
  for (const model::Mapping& mapping : base.model.mappings) {
    if (mapping.rule->vocabulary || mapping.rule->megatron.find(".router.") != std::string::npos) {
      for (const std::string& name : mapping.hf) {
        out.insert(names.of(module_of(name)));
      }
    }
  }
  for (const auto& [name, spec] : base.headers) {
    if (spec.shape.size() != 2) {
      out.insert(names.of(module_of(name)));
    }
  }
  return out;
}

}  // namespace

bool moved_by_peft(const checkpoint::HfModel& base, std::string_view module) {
  return base.model.family && base.model.family->peft_moves_experts && names_experts(module);
}

bool wraps_all(const AdapterConfig& config, const std::vector<std::string>& modules,
               const checkpoint::HfModel& base) {
  const auto wrapping =
      Wrapping::make(config, base.model.family && base.model.family->peft_moves_experts);
  return wrapping && std::all_of(modules.begin(), modules.end(), [&](const std::string& module) {
           return wrapping->takes(module);
         });
}

namespace {

/// The parameters whose rank PEFT doubles: it moves gate_proj and up_proj into gate_up_proj, and
/// appends a pattern of twice r, which decides where no pattern of the config does.
class DoubledRanks {
 public:
  static Result<DoubledRanks> make(const AdapterConfig& config, bool converts) {
    DoubledRanks out;
    const auto moves = [&](std::string_view projection) {
      return std::any_of(config.target_modules.names.begin(), config.target_modules.names.end(),
                         [&](const std::string& one) { return last_component(one) == projection; });
    };
    out.doubles_ = converts && moves("gate_proj") && moves("up_proj");
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

Result<TargetGaps> target_gaps(const Adapter& adapter, const checkpoint::HfModel& base) {
  const bool converts = base.model.family && base.model.family->peft_moves_experts;
  BV_TRY(wrapping, Wrapping::make(adapter.config, converts));
  BV_TRY(doubled, DoubledRanks::make(adapter.config, converts));
  const Naming names = names_of(adapter, base);
  std::vector<std::string> tensors;
  for (const AdapterPair& pair : adapter.pairs) {
    tensors.push_back(pair.base);
  }
  BV_TRY(modules, modules_of(base, mtp_layers_of(base, tensors), names));
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
      if (single && !converts) {
        gaps.insert(key->path);  // the class has no module for one expert
      }
      if (const std::string parameter = doubled.wrong(pair); !single && !parameter.empty()) {
        gaps.insert(parameter);
      }
      continue;
    }
    paired.insert(key->path);
    if (!is_parameter_target(adapter.config, key->path + ".weight") && !wrapping.takes(key->path)) {
      gaps.insert(key->path);
    }
  }
  out.not_loaded.assign(gaps.begin(), gaps.end());
  const auto& saved = adapter.config.modules_to_save;
  const bool all_linear = adapter.config.target_modules.regex == "all-linear";
  const std::set<std::string> others =
      all_linear ? not_linear(base, names) : std::set<std::string>();
  for (const std::string& module : modules) {
    const bool kept = std::any_of(saved.begin(), saved.end(), [&](const std::string& one) {
      return names_module(one, module);
    });
    if (wrapping.takes(module) && !paired.contains(module) && !kept && !others.contains(module)) {
      out.fresh.push_back(module);
    }
  }
  return out;
}

}  // namespace bv::lora
