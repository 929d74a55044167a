#include "core/quantised/quantised.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "core/base/text.hpp"
#include "core/quantised/blocks.hpp"
#include "core/quantised/form.hpp"
#include "core/quantised/module.hpp"
#include "core/quantised/said_modules.hpp"

namespace bv::quantised {
namespace {

constexpr std::size_t kShownGroups = 5;
constexpr std::size_t kShownCompanions = 4;

/// Every quantised weight with its group.
class Collector {
 public:
  explicit Collector(const Hints& hints) : hints_(hints) {}

  /// Modules whose parameters have the same names, dtypes and shapes, and which the same targets
  /// name, hold the same: a model has a few kinds of them, and up to a hundred thousand modules.
  void add(std::string_view module_name, const Module& module) {
    constexpr std::size_t kRememberedMax = 16;
    const std::vector<std::size_t> named = hints_.kinds.size() > 1
                                               ? kinds_named(hints_.targets, module_name)
                                               : std::vector<std::size_t>();
    if (module.size() > kRememberedMax) {
      place(module_name, module, known_of(module, named));
      return;
    }
    set_signature(module, named);
    const auto found = remembered_.find(signature_);
    place(module_name, module,
          found != remembered_.end()
              ? found->second
              : remembered_.emplace(signature_, known_of(module, named)).first->second);
  }

  std::optional<Source> take(std::size_t tensors) {
    if (groups_.empty()) {
      return std::nullopt;
    }
    Source out;
    for (auto& [scheme, group] : groups_) {
      group.scheme = scheme;
      if (!std::ranges::is_sorted(group.weights, {}, &Weight::name)) {
        std::ranges::stable_sort(group.weights, {}, &Weight::name);
      }
      out.groups.push_back(std::move(group));
    }
    std::stable_sort(out.groups.begin(), out.groups.end(), [](const Group& a, const Group& b) {
      return a.weights.size() > b.weights.size();
    });
    out.tensors = static_cast<std::int64_t>(taken_);
    out.left = static_cast<std::int64_t>(tensors - taken_);
    return out;
  }

 private:
  /// A weight of a module, by the places of its parameters.
  struct KnownWeight {
    Group* group = nullptr;
    std::string stem;
    std::size_t bits = 0;
    std::vector<std::size_t> companions;
    std::optional<std::size_t> scale;  // when one is read
    std::optional<kinds::QuantisedForm> form;
    std::string undefined;
  };
  struct Known {
    std::vector<KnownWeight> weights;
    std::size_t tensors = 0;  // parameters that belong to one of them
  };

  void set_signature(const Module& module, const std::vector<std::size_t>& named) {
    signature_.clear();
    const auto add_number = [this](std::int64_t number) {
      signature_.append(reinterpret_cast<const char*>(&number), sizeof number);
    };
    add_number(std::ssize(named));
    for (const std::size_t kind : named) {
      add_number(static_cast<std::int64_t>(kind));
    }
    for (const auto& [parameter, spec] : module) {
      add_number(static_cast<std::int64_t>(parameter.size()));
      signature_.append(parameter);
      add_number(static_cast<std::int64_t>(spec->dtype));
      add_number(static_cast<std::int64_t>(spec->shape.size()));
      for (const std::int64_t extent : spec->shape) {
        add_number(extent);
      }
    }
  }

  Known known_of(const Module& module, const std::vector<std::size_t>& named) {
    Known out;
    std::vector<bool> taken(module.size());
    const auto take = [&](std::string_view parameter) {
      const auto at = static_cast<std::size_t>(module.find(parameter) - module.begin());
      taken[at] = true;
      return at;
    };
    const std::vector<std::string_view> companions = quantised::companions(module);
    for (const auto& [parameter, spec] : module) {
      auto recognised = recognise(module, companions, parameter, hints_);
      if (!recognised) {
        continue;
      }
      Group& group = groups_[recognised->scheme];
      group.upstream = std::move(recognised->upstream);
      Weight weight;
      weight.name = "m." + recognised->weight;
      weight.bits = spec;
      KnownWeight known{&group, std::move(recognised->weight), take(parameter), {}, {}, {}, ""};
      for (const std::string_view companion : recognised->companions) {
        known.companions.push_back(take(companion));
        weight.companions.push_back(module[known.companions.back()].second);
      }
      define(weight, hints_, named);
      for (const std::size_t at : known.companions) {
        known.scale = module[at].second == weight.scale ? at : known.scale;
      }
      known.form = std::move(weight.form);
      known.undefined = std::move(weight.undefined);
      out.weights.push_back(std::move(known));
    }
    out.tensors = static_cast<std::size_t>(std::ranges::count(taken, true));
    return out;
  }

  void place(std::string_view module_name, const Module& module, const Known& all) {
    taken_ += all.tensors;
    for (const KnownWeight& known : all.weights) {
      Weight& weight = known.group->weights.emplace_back();
      weight.name.reserve(module_name.size() + known.stem.size() + 1);
      weight.name.append(module_name).append(module_name.empty() ? "" : ".").append(known.stem);
      weight.bits = module[known.bits].second;
      weight.companions.reserve(known.companions.size());
      for (const std::size_t companion : known.companions) {
        weight.companions.push_back(module[companion].second);
      }
      weight.scale = known.scale ? module[*known.scale].second : nullptr;
      weight.form = known.form;
      weight.undefined = known.undefined;
    }
  }

  const Hints& hints_;
  std::map<std::string, Group> groups_;
  std::size_t taken_ = 0;  // tensors that belong to a weight
  std::unordered_map<std::string, Known> remembered_;
  std::string signature_;
};

std::string count_of(const Group& group) {
  return fmt::format("{} in {}", counted(group.weights.size(), "weight"), group.scheme);
}

std::string tensor_text(const TensorSpec& spec) {
  return fmt::format("{} {}", name(spec.dtype), shape_text(spec.shape));
}

/// "model.layers.0.mlp.up_proj.weight F8_E4M3 [64, 24] with weight_scale_inv BF16 [1, 1]"
std::string example_of(const Weight& weight) {
  std::string out = fmt::format("{} {}", readable(weight.bits->name), tensor_text(*weight.bits));
  for (std::size_t i = 0; i < weight.companions.size() && i < kShownCompanions; ++i) {
    const TensorSpec& companion = *weight.companions[i];
    out += fmt::format("{} {} {}", i == 0 ? " with" : ",",
                       readable(name_of(companion.name).parameter), tensor_text(companion));
  }
  return out + (weight.companions.size() > kShownCompanions ? ", ..." : "");
}

std::string help_of(const Source& source) {
  const std::string here = can_dequantise(source)
                               ? "check, roundtrip, convert, diff and layout dequantise them with "
                                 "--dtype bfloat16 (or float16, "
                                 "float32), as transformers does, without an adapter; or "
                               : "";
  std::string way;
  for (const Group& group : source.groups) {
    if (!group.upstream.empty()) {
      way = group.upstream + ", or ";
      break;
    }
  }
  return fmt::format(
      "{}give a dequantised checkpoint: {}take the release that it was quantised from", here, way);
}

/// Why the first weight that has no form has none.
std::string undefined_of(const Source& source) {
  for (const Group& group : source.groups) {
    for (const Weight& weight : group.weights) {
      if (!weight.form && weight.scale != nullptr) {
        return fmt::format("{}: {}", readable(weight.bits->name), weight.undefined);
      }
    }
  }
  return "";
}

}  // namespace

std::optional<Source> find(std::span<const TensorSpec* const> tensors,
                           const nlohmann::json& config) {
  const Modules modules(tensors);
  if (modules.empty()) {
    return std::nullopt;
  }
  Hints hints = hints_of(config);
  settle_blocks(modules, hints);
  std::vector<std::string> taken = {hints.squares.taken, hints.runs.taken, hints.words.taken};
  std::erase(taken, "");
  Collector collector(hints);
  for (const auto& [name, module] : modules) {
    collector.add(name, module);
  }
  auto out = collector.take(tensors.size());
  if (out) {
    out->config = stated(config);
    out->taken = std::move(taken);
    out->contradictions = contradictions(tensors, out->groups, hints);
  }
  return out;
}

std::optional<Source> find(const Headers& headers, const nlohmann::json& config) {
  std::vector<const TensorSpec*> tensors;
  tensors.reserve(headers.size());
  for (const auto& [name, spec] : headers) {
    tensors.push_back(&spec);
  }
  return find(tensors, config);
}

std::string summary(const Source& source) {
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < source.groups.size() && i < kShownGroups; ++i) {
    parts.push_back(count_of(source.groups[i]));
  }
  if (source.groups.size() > kShownGroups) {
    parts.push_back(counted(source.groups.size() - kShownGroups, "more scheme"));
  }
  return join(parts, ", ");
}

bool can_dequantise(const Source& source) {
  return std::all_of(source.groups.begin(), source.groups.end(), [](const Group& group) {
    return std::all_of(group.weights.begin(), group.weights.end(),
                       [](const Weight& one) { return one.form.has_value(); });
  });
}

Error refusal(const Source& source) {
  Error out = fail(Code::QuantisedSource, "the weights are quantised: " + summary(source));
  for (std::size_t i = 0; i < source.groups.size() && i < kShownGroups; ++i) {
    out.facts.push_back(example_of(source.groups[i].weights.front()));
  }
  out.facts.push_back(source.config.empty()
                          ? "known by the names and dtypes of the tensors; config.json does not "
                            "say it"
                          : "known by the names and dtypes of the tensors, and by " +
                                source.config);
  if (const std::string why = undefined_of(source); !why.empty()) {
    out.facts.push_back(why);
  }
  return std::move(out)
      .pair(fmt::format("quantised weights and their scales in {}, others in {}",
                        counted(source.tensors, "tensor"), counted(source.left, "tensor")),
            "weights in F16, BF16, F32 or F64")
      .advise(help_of(source));
}

}  // namespace bv::quantised
