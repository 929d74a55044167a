#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/model/config_field.hpp"

namespace bv::model {
namespace {

using nlohmann::json;

/// One flag for all layers: bit i is layer i.
struct FlagReader {
  const family::Family& family;
  const json& config;
  const family::LayerFlag& flag;
  std::int64_t layers;
  Geometry& geometry;

  /// nullptr when the field is absent; also when it is null, unless null is refused.
  Result<const json*> field(const family::FieldPath& path, bool null = true) const {
    if (path.path.empty()) {
      return static_cast<const json*>(nullptr);
    }
    BV_TRY(node, find_field(family, config, path));
    if (node != nullptr && node->is_null() && !null) {
      return wrong_field(family::dotted(family, path), *node, "a whole number");
    }
    return node == nullptr || node->is_null() ? static_cast<const json*>(nullptr) : node;
  }

  Result<std::vector<bool>> from_list(const json& node) const {
    const std::string path = family::dotted(family, flag.list);
    BV_TRY(words, words_of(node, path));
    if (static_cast<std::int64_t>(words.size()) != layers) {
      return fail(Code::ConfigField, fmt::format("config.json {} has {} entries for {} layers",
                                                 path, words.size(), layers))
          .at("config.json")
          .pair(counted(words.size(), "entry"),
                fmt::format("{} entries, one for each of num_hidden_layers", layers))
          .advise("use the config.json that belongs to the checkpoint");
    }
    std::vector<bool> yes;
    for (const std::string& word : words) {
      if (word != flag.equals &&
          std::find(flag.others.begin(), flag.others.end(), word) == flag.others.end()) {
        return fail(Code::ConfigField,
                    fmt::format("config.json {} names the layer kind \"{}\" at entry {}", path,
                                escaped(word), yes.size()))
            .at("config.json")
            .pair(escaped(word), fmt::format("{} or {}", flag.equals, join(flag.others, " or ")))
            .advise(fmt::format("family {} has no rules for such a layer; give --rules for it",
                                family.name));
      }
      yes.push_back(word == flag.equals);
    }
    geometry.origin[flag.name] = path;
    return yes;
  }

  /// Layers whose number + 1 the interval does not divide.
  Result<std::vector<bool>> from_interval(const family::FieldPath& path,
                                          std::int64_t fallback) const {
    std::int64_t interval = fallback;
    const std::string list =
        flag.list.path.empty() ? "" : fmt::format("{} and no ", family::dotted(family, flag.list));
    geometry.origin[flag.name] = path.path.empty()
                                     ? ""
                                     : fmt::format("default interval {}: config.json has no {}{}",
                                                   fallback, list, family::dotted(family, path));
    BV_TRY(node, field(path, false));
    if (node != nullptr) {
      BV_TRY(number, number_of(*node, family::dotted(family, path), false));
      if (number < 1) {
        return wrong_field(family::dotted(family, path), *node, "at least 1");
      }
      interval = number;
      geometry.origin[flag.name] = family::dotted(family, path);
    }
    std::vector<bool> yes(static_cast<std::size_t>(layers), false);
    for (std::size_t i = 0; interval > 0 && i < yes.size(); ++i) {
      yes[i] = (i + 1) % static_cast<std::size_t>(interval) != 0;
    }
    return yes;
  }

  Result<std::vector<bool>> from_indices() const {
    BV_TRY(yes, from_interval(flag.step, 1));
    BV_TRY(node, field(flag.indices));
    const std::string step = geometry.origin[flag.name];
    const std::string path = family::dotted(family, flag.indices);
    geometry.origin[flag.name] =
        node != nullptr ? path : fmt::format("default none: config.json has no {}", path);
    if (!step.empty()) {
      geometry.origin[flag.name] += "; " + step;
    }
    if (node != nullptr) {
      BV_TRY(numbers, numbers_of(*node, family::dotted(family, flag.indices)));
      for (const std::int64_t number : numbers) {
        if (number < 0 || number >= layers) {
          return wrong_field(family::dotted(family, flag.indices), *node,
                             fmt::format("layer numbers from 0 to {}", layers - 1));
        }
        yes[static_cast<std::size_t>(number)] = true;
      }
    }
    return std::move(yes);
  }

  Result<std::vector<bool>> run() const {
    if (!flag.below.empty()) {
      BV_TRY(limit, family::evaluate(flag.below, geometry.symbols));
      std::vector<bool> yes(static_cast<std::size_t>(layers), false);
      for (std::int64_t i = 0; i < std::min(limit, layers); ++i) {
        yes[static_cast<std::size_t>(i)] = true;
      }
      geometry.origin[flag.name] =
          fmt::format("layers below {}", join(fields_behind(family, geometry, flag.below), ", "));
      return yes;
    }
    if (!flag.indices.path.empty()) {
      return from_indices();
    }
    BV_TRY(list, field(flag.list));
    return list == nullptr ? from_interval(flag.interval, flag.interval_default) : from_list(*list);
  }
};

Error unmet(const std::string& message, std::string found, std::string wanted,
            const std::string& because) {
  return fail(Code::ConfigField, message)
      .at("config.json")
      .fact(because)
      .pair(std::move(found), std::move(wanted))
      .advise(
          "use the config.json that belongs to the checkpoint, or rules for this variant with "
          "--rules");
}

std::string named(const Geometry& geometry, const std::string& symbol) {
  const auto origin = geometry.origin.find(symbol);
  const std::string from = origin == geometry.origin.end() || origin->second == symbol
                               ? ""
                               : fmt::format(" ({})", origin->second);
  return fmt::format("{}={}{}", symbol, geometry.at(symbol), from);
}

Status check_must(const family::Family& family, const json& config, const Geometry& geometry,
                  const family::MustRule& must) {
  if (must.equals) {
    BV_TRY(node, find_field(family, config, must.field));
    const bool absent = node == nullptr || (node->is_null() && must.null);
    if (!absent && *node != json(*must.equals)) {
      const std::string wanted = *must.equals ? "true" : "false";
      const Error wrong = wrong_field(family::dotted(family, must.field), *node, wanted);
      return unmet(wrong.message, wrong.found, wanted, must.because);
    }
  }
  if (must.at_most && geometry.get(must.symbol).value_or(0) > *must.at_most) {
    return unmet(fmt::format("config.json says {}, wanted at most {}", named(geometry, must.symbol),
                             *must.at_most),
                 std::to_string(geometry.at(must.symbol)), fmt::format("at most {}", *must.at_most),
                 must.because);
  }
  const auto both = [&geometry](const std::vector<std::string>& pair) {
    return pair.size() == 2 && geometry.get(pair[0]) && geometry.get(pair[1]);
  };
  if (both(must.equal) && geometry.at(must.equal[0]) != geometry.at(must.equal[1])) {
    return unmet(fmt::format("config.json says {} and {}, which must be equal",
                             named(geometry, must.equal[0]), named(geometry, must.equal[1])),
                 std::to_string(geometry.at(must.equal[0])),
                 std::to_string(geometry.at(must.equal[1])), must.because);
  }
  if (both(must.divides) && (geometry.at(must.divides[0]) < 1 ||
                             geometry.at(must.divides[1]) % geometry.at(must.divides[0]) != 0)) {
    return fail(Code::IndivisibleDim,
                fmt::format("{} does not divide {}", named(geometry, must.divides[0]),
                            named(geometry, must.divides[1])))
        .at("config.json")
        .fact(must.because)
        .pair(std::to_string(geometry.at(must.divides[1])),
              fmt::format("a multiple of {}", geometry.at(must.divides[0])))
        .advise("use the config.json that belongs to the checkpoint");
  }
  return Done{};
}

}  // namespace

Status read_layer_flags(const family::Family& family, const json& config, std::int64_t layers,
                        Geometry& geometry) {
  geometry.layer_flags.assign(static_cast<std::size_t>(layers), {});
  for (const family::LayerFlag& flag : family.layer_flags) {
    BV_TRY(yes, (FlagReader{family, config, flag, layers, geometry}.run()));
    for (std::size_t i = 0; i < yes.size(); ++i) {
      if (yes[i]) {
        geometry.layer_flags[i].insert(flag.name);
      }
    }
  }
  return Done{};
}

Status check_musts(const family::Family& family, const json& config, const Geometry& geometry) {
  for (const family::MustRule& must : family.musts) {
    BV_CHECK(check_must(family, config, geometry, must));
  }
  return Done{};
}

}  // namespace bv::model
