#include "core/lora/idle_entries.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/path_pattern.hpp"
#include "core/base/text.hpp"
#include "core/family/family.hpp"
#include "core/io/fault_text.hpp"
#include "core/lora/adapter_keys.hpp"
#include "core/lora/class_modules.hpp"
#include "core/lora/to_hf.hpp"
#include "core/lora/wrapped.hpp"

namespace bv::lora {
namespace {

/// What the entries of a config can name: modules and parameters, in the spelling of the class.
Result<std::set<std::string>> nameable(const Adapter& adapter, const checkpoint::HfModel& base) {
  const Naming naming = naming_of(adapter, base);
  BV_TRY(modules, modules_of(base, MtpLayers::Built, naming));
  std::set<std::string> out(modules.begin(), modules.end());
  for (const auto& [name, spec] : base.headers) {
    out.insert(naming.of(name));
    out.insert(naming.of(module_of(name)));
  }
  if (base.model.family != nullptr) {  // parameters that the files hold in parts, as stacks
    BV_TRY(of_class, class_model(base));
    for (const model::Mapping& mapping : of_class.mappings) {
      for (const std::string& name : mapping.hf) {
        out.insert(naming.of_whole(name));
        out.insert(naming.of(module_of(name)));
      }
    }
  }
  for (const AdapterPair& pair : adapter.pairs) {
    std::string why;
    if (const auto key = parse_adapter_key(pair.b.key(), why)) {
      out.insert(key->path);
    }
  }
  return out;
}

class IdleEntries {
 public:
  IdleEntries(const AdapterConfig& config, std::set<std::string> names)
      : config_(config), names_(std::move(names)) {}

  void list(std::string_view entry, const std::vector<std::string>& values) {
    for (const std::string& value : values) {
      if (none([&](const std::string& path) { return names_module(value, path); })) {
        say(entry, value);
      }
    }
  }

  void saved(const std::vector<std::string>& values) {
    for (const std::string& value : values) {
      if (none([&](const std::string& path) { return saves_module(value, path); })) {
        say("modules_to_save", value);
      }
    }
  }

  Status patterns(std::string_view entry, const std::vector<std::string>& values) {
    for (const std::string& value : values) {
      BV_TRY(pattern, PathPattern::compile(value, PathPattern::Extent::Suffix));
      if (none([&](const std::string& path) { return pattern.matches(path); })) {
        say(entry, value);
      }
    }
    return Done{};
  }

  Status whole(std::string_view entry, const std::string& regex) {
    if (regex.empty() || regex == "all-linear") {
      return Done{};
    }
    BV_TRY(pattern, PathPattern::compile(regex, PathPattern::Extent::Whole));
    if (none([&](const std::string& path) { return pattern.matches(path); })) {
      say(entry, regex);
    }
    return Done{};
  }

  void layers() {
    std::set<std::int64_t> there;
    for (const std::string& path : names_) {
      if (const auto layer = layer_of(path, config_.layers_pattern)) {
        there.insert(*layer);
      }
    }
    for (const std::int64_t layer : config_.layers_to_transform) {
      if (!there.contains(layer)) {
        out_.push_back(
            fmt::format("layers_to_transform of adapter_config.json names layer {}, and the base "
                        "has no such layer: PEFT ignores it",
                        layer));
      }
    }
    if (config_.layers_to_transform.empty() && !config_.layers_pattern.empty()) {
      out_.emplace_back(
          "layers_pattern of adapter_config.json stands without layers_to_transform: PEFT refuses "
          "this config");
      return;
    }
    for (const std::string& pattern : config_.layers_pattern) {
      if (none([&](const std::string& path) { return layer_of(path, {pattern}).has_value(); })) {
        say("layers_pattern", pattern);
      }
    }
  }

  [[nodiscard]] std::vector<std::string> take() { return std::move(out_); }

 private:
  template <class Matches>
  [[nodiscard]] bool none(const Matches& matches) const {
    return std::none_of(names_.begin(), names_.end(), matches);
  }

  void say(std::string_view entry, const std::string& value) {
    std::set<std::string> last;
    for (const std::string& path : names_) {
      last.insert(std::string(last_component(path)));
    }
    const auto near = nearest(std::string(last_component(value)),
                              std::vector<std::string>(last.begin(), last.end()));
    out_.push_back(fmt::format(
        "{} of adapter_config.json names {}, which matches nothing of the "
        "base: PEFT ignores it{}",
        entry, io::in_quotes(value), near ? fmt::format("; the nearest name is {}", *near) : ""));
  }

  const AdapterConfig& config_;
  std::set<std::string> names_;
  std::vector<std::string> out_;
};

std::vector<std::string> keys_of(const auto& pairs) {
  std::vector<std::string> out;
  for (const auto& [key, value] : pairs) {
    out.push_back(key);
  }
  return out;
}

}  // namespace

Result<std::vector<std::string>> idle_entries(const Adapter& adapter,
                                              const checkpoint::HfModel& base) {
  const AdapterConfig& config = adapter.config;
  BV_TRY(names, nameable(adapter, base));
  IdleEntries idle(config, std::move(names));
  std::vector<std::string> targets;
  for (const std::string& name : config.target_modules.names) {
    if (!moved_by_peft(base, name)) {  // else it is a part of the packed experts
      targets.push_back(name);
    }
  }
  idle.list("target_modules", targets);
  idle.list("exclude_modules", config.exclude_modules.names);
  BV_CHECK(idle.whole("exclude_modules", config.exclude_modules.regex));
  idle.list("target_parameters", config.target_parameters);
  idle.saved(config.modules_to_save);
  BV_CHECK(idle.patterns("rank_pattern", keys_of(config.rank_pattern)));
  BV_CHECK(idle.patterns("alpha_pattern", keys_of(config.alpha_pattern)));
  idle.layers();
  std::vector<std::string> out = idle.take();
  if (config.lora_bias && adapter.biases.empty()) {
    out.emplace_back(
        "lora_bias of adapter_config.json is true, and the adapter holds no lora_B.bias: PEFT "
        "starts them at zero");
  }
  return out;
}

}  // namespace bv::lora
