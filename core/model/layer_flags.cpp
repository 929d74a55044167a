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

  /// The list that the config has, with its path; nothing when it has none of them.
  Result<std::optional<std::pair<std::string, const json*>>> list() const {
    return first_list(family, config, flag.lists);
  }

  /// "layer_types and no attn_types", for what holds where the config has none of them.
  std::string no_list() const {
    std::vector<std::string> names;
    for (const family::FieldPath& path : flag.lists) {
      names.push_back(family::dotted(family, path));
    }
    return join(names, " and no ");
  }

  Result<std::vector<bool>> from_list(const std::string& path, const json& node) const {
    BV_TRY(words, layer_words(node, path, flag.entry));
    const std::int64_t more = geometry.get(flag.behind).value_or(0);
    if (std::ssize(words) != layers && std::ssize(words) != layers + more) {
      return fail(Code::ConfigField, fmt::format("config.json {} has {} entries for {} layers",
                                                 path, words.size(), layers))
          .at("config.json")
          .pair(counted(words.size(), "entry"),
                fmt::format("{} entries, one for each of num_hidden_layers", layers))
          .advise("use the config.json that belongs to the checkpoint");
    }
    geometry.origin[flag.name] = path;
    return of_words(words, path);
  }

  Result<std::vector<bool>> of_words(const std::vector<std::string>& words,
                                     const std::string& path) const {
    const auto among = [](const std::vector<std::string>& known, const std::string& word) {
      return std::find(known.begin(), known.end(), word) != known.end();
    };
    std::vector<bool> yes;
    for (const std::string& word : words) {
      if (!among(flag.equals, word) && !among(flag.others, word)) {
        return fail(Code::ConfigField,
                    fmt::format("config.json {} names the layer kind \"{}\" at entry {}", path,
                                escaped(word), yes.size()))
            .at("config.json")
            .pair(escaped(word),
                  fmt::format("{} or {}", join(flag.equals, " or "), join(flag.others, " or ")))
            .advise(fmt::format("family {} has no rules for such a layer; give --rules for it",
                                family.name));
      }
      yes.push_back(among(flag.equals, word));
    }
    return yes;
  }

  /// Layers whose number + 1 the interval does not divide.
  Result<std::vector<bool>> from_interval(const family::FieldPath& path,
                                          std::int64_t fallback) const {
    std::int64_t interval = fallback;
    const std::string list = flag.lists.empty() ? "" : fmt::format("{} and no ", no_list());
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

  [[nodiscard]] std::string place() const {
    return fmt::format("{}: layer flag {}", family.file, flag.name);
  }

  /// The layers from `flag.from` on.
  Result<std::vector<bool>> from_first() const {
    BV_TRY(first, family::evaluate_at(place(), flag.from, geometry.symbols));
    std::vector<bool> later(static_cast<std::size_t>(layers), false);
    for (std::int64_t i = first; first >= 0 && i < layers; ++i) {
      later[static_cast<std::size_t>(i)] = true;
    }
    const std::vector<std::string> fields = fields_behind(family, geometry, flag.from);
    geometry.origin[flag.name] =
        flag.indices.path.empty()
            ? fmt::format("layers from {}", fields.empty() ? flag.from : join(fields, ", "))
            : fmt::format("default layers from {}: config.json has no {}", first,
                          family::dotted(family, flag.indices));
    return later;
  }

  /// All layers that one of the edges takes.
  Result<std::vector<bool>> from_edges() const {
    std::vector<bool> yes(static_cast<std::size_t>(layers), false);
    std::vector<std::string> origins;
    const auto add = [&](const Result<std::vector<bool>>& some) -> Status {
      if (!some) {
        return some.error();
      }
      for (std::size_t i = 0; i < yes.size(); ++i) {
        yes[i] = yes[i] || (*some)[i];
      }
      origins.push_back(geometry.origin[flag.name]);
      return Done{};
    };
    if (!flag.below.empty()) {
      BV_CHECK(add(from_below()));
    }
    if (!flag.from.empty()) {
      BV_CHECK(add(from_first()));
    }
    if (!flag.interval.path.empty()) {
      BV_CHECK(add(from_interval(flag.interval, std::max<std::int64_t>(flag.interval_default, 1))));
    }
    geometry.origin[flag.name] = join(origins, "; ");
    return yes;
  }

  Result<std::vector<bool>> from_indices() const {
    BV_TRY(node, field(flag.indices));
    if (node == nullptr && !flag.from.empty()) {
      return from_first();
    }
    if (node == nullptr && flag.schedule) {
      return from_schedule();
    }
    BV_TRY(yes, from_interval(flag.step, 1));
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

  Result<std::vector<bool>> from_below() const {
    BV_TRY(limit, family::evaluate_at(place(), flag.below, geometry.symbols));
    std::vector<bool> yes(static_cast<std::size_t>(layers), false);
    for (std::int64_t i = 0; i < std::min(limit, layers); ++i) {
      yes[static_cast<std::size_t>(i)] = true;
    }
    const std::vector<std::string> fields = fields_behind(family, geometry, flag.below);
    geometry.origin[flag.name] =
        fmt::format("layers below {}", fields.empty() ? flag.below : join(fields, ", "));
    if (!flag.lists.empty()) {
      geometry.origin[flag.name] += fmt::format(": config.json has no {}", no_list());
    }
    return yes;
  }

  /// At least `least`; `fallback` where the field is absent or null.
  Result<std::int64_t> size_or(const family::FieldPath& path, std::int64_t least,
                               std::int64_t fallback) const {
    BV_TRY(node, field(path));
    if (node == nullptr) {
      return fallback;
    }
    BV_TRY(number, number_of(*node, family::dotted(family, path), false));
    if (number < least || number > INT32_MAX) {
      return wrong_field(family::dotted(family, path), *node, fmt::format("at least {}", least));
    }
    return number;
  }

  Result<std::vector<bool>> from_schedule() const {
    const family::LayerSchedule& schedule = *flag.schedule;
    BV_TRY(every, size_or(schedule.every, 1, 1));
    BV_TRY(after, size_or(schedule.after, 0, schedule.after_default));
    const std::int64_t distance = std::max(after, schedule.after_least);
    std::vector<bool> yes;
    for (std::int64_t i = 0; i < layers; ++i) {
      yes.push_back(std::max<std::int64_t>(i - distance + 1, 0) % every == 0);
    }
    geometry.origin[flag.name] =
        fmt::format("{} {}", family::dotted(family, schedule.every), every);
    if (!flag.lists.empty() || !flag.indices.path.empty()) {
      geometry.origin[flag.name] +=
          ": config.json has no " +
          (flag.lists.empty() ? family::dotted(family, flag.indices) : no_list());
    }
    return yes;
  }

  Result<std::vector<bool>> run() const {
    if (!flag.indices.path.empty()) {
      return from_indices();
    }
    BV_TRY(stated, list());
    if (stated) {
      return from_list(stated->first, *stated->second);
    }
    if (std::ssize(flag.words) == layers) {
      geometry.origin[flag.name] =
          fmt::format("default {}: config.json has no {}", join(flag.words, ", "), no_list());
      return of_words(flag.words, no_list());
    }
    if (flag.schedule) {
      return from_schedule();
    }
    if (flag.lists.empty()) {
      return from_edges();
    }
    return flag.below.empty() ? from_interval(flag.interval, flag.interval_default) : from_below();
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
    const std::size_t decoder = geometry.layer_flags.size();
    if (flag.not_last && decoder > 0 && yes.size() >= decoder) {
      yes[decoder - 1] = false;
    }
    for (std::size_t i = 0; i < yes.size(); ++i) {
      if (i >= decoder && geometry.mtp_flags.size() <= i - decoder) {
        geometry.mtp_flags.emplace_back();
      }
      if (yes[i]) {
        (i < decoder ? geometry.layer_flags[i] : geometry.mtp_flags[i - decoder]).insert(flag.name);
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
