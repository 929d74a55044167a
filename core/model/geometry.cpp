#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/family/expression.hpp"
#include "core/family/family.hpp"
#include "core/family/symbols.hpp"
#include "core/model/config_field.hpp"

namespace bv::model {
namespace {

using nlohmann::json;

constexpr std::int64_t kProbeMax = 64;

/// Reads the symbols of a family on demand: defaults and derived values may use each other.
class GeometryReader {
 public:
  GeometryReader(const family::Family& family, const json& config, const NamesThere* there)
      : family_(family), config_(config), there_(there) {}

  Result<Geometry> run() {
    BV_CHECK(check_top());
    for (const family::SymbolRule& symbol : family_.symbols) {
      BV_CHECK(read(symbol));
    }
    for (const family::Section& section : family_.sections) {
      if (section.layered && geometry_.layer_flags.empty()) {
        BV_CHECK(needed(section.over, "the number of decoder layers", {}));
        BV_TRY(layers, repeats(family_, section, geometry_));
        for (const family::LayerFlag& flag : family_.layer_flags) {
          BV_CHECK(needed(flag.below, fmt::format("the layer flag {}", flag.name), {}));
        }
        BV_CHECK(read_layer_flags(family_, config_, layers, geometry_));
        BV_CHECK(read_layer_sizes(family_, config_, geometry_));
      }
    }
    BV_CHECK(check_musts(family_, config_, geometry_));
    for (const family::Section& section : family_.sections) {
      BV_CHECK(check_needs(section));
    }
    return std::move(geometry_);
  }

 private:
  using Value = std::optional<std::int64_t>;

  /// An absent or null level is what transformers makes of it: every field has its default. A level
  /// of another type is refused, also where this family does not read it: transformers does.
  Status check_top() const {
    if (!config_.is_object()) {
      return fail(Code::ConfigField, "config.json is not a JSON object")
          .at("config.json")
          .pair(fmt::format("a {}", config_.type_name()), "an object with the fields of the model")
          .advise("point at the config.json of the checkpoint");
    }
    for (const char* level : {"text_config", "vision_config", "quantization_config"}) {
      const auto found = config_.find(level);
      if (found != config_.end() && !found->is_null() && !found->is_object()) {
        return wrong_field(level, *found, "an object");
      }
    }
    return Done{};
  }

  Status read(const family::SymbolRule& symbol) {
    const auto [entry, fresh] = done_.try_emplace(symbol.name, false);
    if (!fresh) {
      if (!entry->second) {
        return fail(Code::RulesInvalid,
                    fmt::format("{}: symbol {} is defined by itself", symbol.file, symbol.name))
            .at(symbol.file)
            .pair("a circle of defaults", "symbols that end in config fields")
            .advise("remove one of the defaults");
      }
      return Done{};
    }
    BV_TRY(value,
           symbol.value ? computed(symbol, *symbol.value, *symbol.value) : from_config(symbol));
    done_[symbol.name] = true;
    if (value) {
      if (*value < symbol.min || *value > symbol.max) {
        return out_of_range(symbol, *value);
      }
      geometry_.symbols[symbol.name] = *value;
    }
    return Done{};
  }

  Error out_of_range(const family::SymbolRule& symbol, std::int64_t value) const {
    const std::string wanted = value < symbol.min ? fmt::format("at least {}", symbol.min)
                                                  : fmt::format("at most {}", symbol.max);
    const std::string& origin = geometry_.origin.at(symbol.name);
    const bool stated = std::any_of(
        symbol.fields.begin(), symbol.fields.end(),
        [&](const family::FieldPath& field) { return family::dotted(family_, field) == origin; });
    if (!stated) {  // the family computes it
      const std::string& text = symbol.value ? *symbol.value : symbol.default_value.value_or("");
      const bool own = family::identifiers(text).empty();
      return fail(own ? Code::RulesInvalid : Code::ConfigField,
                  fmt::format("{}: symbol {} is {}, wanted {}", escaped(symbol.file),
                              escaped(symbol.name), value, wanted))
          .at(own ? symbol.file : "config.json")
          .fact(escaped(origin))
          .pair(std::to_string(value), wanted)
          .advise(own ? "correct this number of the rules file"
                      : "correct the sizes in config.json, or overrule them with --set");
    }
    return fail(Code::ConfigField, fmt::format("config.json {} is {}, wanted {}",
                                               geometry_.origin.at(symbol.name), value, wanted))
        .at("config.json")
        .pair(std::to_string(value), wanted)
        .advise("correct the field, or overrule it with --set");
  }

  /// nullopt: absent, and without a default.
  Result<Value> from_config(const family::SymbolRule& symbol) {
    std::string why;
    for (const family::FieldPath& field : symbol.fields) {
      const std::string path = family::dotted(family_, field);
      BV_TRY(node, find_field(family_, config_, field));
      if (node == nullptr) {
        continue;
      }
      if (!node->is_null()) {
        geometry_.origin[symbol.name] = path;
        BV_TRY(number, !symbol.equals.empty() ? equals_of(*node, path, symbol.equals)
                       : symbol.flag          ? flag_of(*node, path)
                                              : number_of(*node, path, field.count));
        if (number < 0 && symbol.negative_value) {
          return computed(
              symbol, *symbol.negative_value,
              fmt::format("{}: config.json {} is {}", *symbol.negative_value, path, number));
        }
        return Value(number);
      }
      if (!symbol.null_value) {
        return wrong_field(path, *node,
                           !symbol.equals.empty() ? "a word"
                           : symbol.flag          ? "true or false"
                                                  : "a whole number");
      }
      why = fmt::format("config.json {} is null", path);
      if (!symbol.null_value->empty()) {
        return computed(symbol, *symbol.null_value, default_text(*symbol.null_value, why));
      }
    }
    BV_TRY(counted, from_names(symbol));
    if (counted > 0) {
      return Value(counted);
    }
    if (symbol.default_value) {
      if (why.empty()) {
        why = fmt::format("config.json has no {}", family::dotted(family_, symbol.fields.front()));
      }
      return computed(symbol, *symbol.default_value, default_text(*symbol.default_value, why));
    }
    return Value();
  }

  static std::string default_text(const std::string& value, const std::string& why) {
    return fmt::format("default {}: {}", value, why);
  }

  /// How many of the probe's names, counted from k = 0, stand in the headers.
  Result<std::int64_t> from_names(const family::SymbolRule& symbol) {
    std::int64_t count = 0;
    if (symbol.probe.empty() || there_ == nullptr || there_->headers == nullptr) {
      return count;
    }
    for (const std::string& piece : family::identifiers(symbol.probe)) {
      if (const family::SymbolRule* used = family_.symbol(piece)) {
        BV_CHECK(read(*used));
      }
    }
    for (; count < kProbeMax; ++count) {
      BV_TRY(name, expand_hf(family_, symbol.probe,
                             {there_->prefixes, &geometry_.symbols, "k", count, -1}));
      if (!there_->headers->contains(name)) {
        break;
      }
      geometry_.origin[symbol.name] = fmt::format("headers ({} is there)", name);
    }
    return count;
  }

  Result<Value> computed(const family::SymbolRule& symbol, const std::string& expression,
                         std::string origin) {
    for (const std::string& word : family::identifiers(expression)) {
      if (const family::SymbolRule* used = family_.symbol(word)) {
        BV_CHECK(read(*used));
      }
      if (!geometry_.symbols.contains(word)) {
        return Value();
      }
    }
    auto evaluated =
        family::evaluate_at(fmt::format("{}: symbol {}", symbol.file, escaped(symbol.name)),
                            expression, geometry_.symbols);
    if (!evaluated) {
      Error error = std::move(evaluated).error();
      const auto fields = fields_behind(family_, geometry_, expression);
      if (!fields.empty() && error.code != Code::RulesInvalid) {
        error.where = "config.json";
        error.facts.push_back(join(fields, ", "));
      }
      return error;
    }
    const std::int64_t value = *evaluated;
    geometry_.origin[symbol.name] = std::move(origin);
    return Value(value);
  }

  /// Every symbol of an expression has a value.
  Status needed(const std::string& expression, const std::string& by,
                const std::vector<std::string>& related) const {
    for (const std::string& word : family::identifiers(expression)) {
      const family::SymbolRule* symbol = family_.symbol(word);
      if (symbol != nullptr && !geometry_.symbols.contains(word)) {
        return absent_field(family_, geometry_, *absent_root(*symbol), by, related);
      }
    }
    return Done{};
  }

  /// The field that is missing when `symbol` is derived from others. Circles were refused before.
  const family::SymbolRule* absent_root(const family::SymbolRule& symbol) const {
    const std::string expression = symbol.value.value_or(symbol.default_value.value_or(""));
    for (const std::string& word : family::identifiers(expression)) {
      const family::SymbolRule* used = family_.symbol(word);
      if (used != nullptr && !geometry_.symbols.contains(word)) {
        return absent_root(*used);
      }
    }
    return &symbol;
  }

  /// Symbols are required only where a rule that occurs uses them.
  Status check_needs(const family::Section& section) const {
    const std::string by = fmt::format("the section {}", section.title);
    BV_CHECK(needed(section.over, by, {}));
    BV_TRY(count, repeats(family_, section, geometry_));
    for (std::size_t i = section.first_rule; i < section.end_rule; ++i) {
      const family::Rule& rule = family_.rules[i];
      for (const std::string& word : rule.when) {
        BV_CHECK(needed(word, by, {}));
      }
      if (!occurs(family_, section, rule.when, geometry_, count)) {
        continue;
      }
      std::vector<std::string> related;
      for (const auto& [axis, size] : rule.axes) {
        for (std::string& word : family::identifiers(size)) {
          related.push_back(std::move(word));
        }
      }
      const std::string kind = fmt::format("rule kind {}", rule.kind);
      for (const auto& [axis, size] : rule.axes) {
        BV_CHECK(needed(size, kind, related));
      }
      for (const std::string& size : rule.rest) {
        BV_CHECK(needed(size, kind, related));
      }
      BV_CHECK(needed(rule.experts, kind, related));
    }
    return Done{};
  }

  const family::Family& family_;
  const json& config_;
  const NamesThere* there_;
  Geometry geometry_;
  std::map<std::string, bool, std::less<>> done_;
};

}  // namespace

std::optional<std::int64_t> Geometry::get(std::string_view symbol) const {
  const auto found = symbols.find(symbol);
  return found == symbols.end() ? std::nullopt : std::optional(found->second);
}

std::int64_t Geometry::at(std::string_view symbol) const {
  const auto found = get(symbol);
  BV_ASSERT(found.has_value());
  return *found;
}

std::int64_t Geometry::layers() const {
  return get(family::symbols::kLayers).value_or(0);
}
std::int64_t Geometry::experts() const {
  return get(family::symbols::kExperts).value_or(0);
}
std::int64_t Geometry::vocabulary() const {
  return get(family::symbols::kVocabulary).value_or(0);
}
std::optional<std::int64_t> Geometry::hidden() const {
  return get(family::symbols::kHidden);
}
bool Geometry::ties_embeddings() const {
  return get(family::symbols::kTied).value_or(0) != 0;
}

std::map<std::string, std::int64_t, std::less<>> Geometry::with(
    const std::map<std::string, std::int64_t, std::less<>>& sizes) const {
  auto out = symbols;
  for (const auto& [symbol, size] : sizes) {
    out[symbol] = size;
  }
  return out;
}

Result<Geometry> read_geometry_with(const family::Family& family, const json& config,
                                    const NamesThere* there) {
  return GeometryReader(family, config, there).run();
}

Result<Geometry> read_geometry(const family::Family& family, const json& config) {
  return read_geometry_with(family, config, nullptr);
}

Result<std::int64_t> repeats(const family::Family& family, const family::Section& section,
                             const Geometry& geometry) {
  if (section.over.empty()) {
    return std::int64_t{1};
  }
  const std::string place =
      fmt::format("{}: section {}", escaped(family.file), escaped(section.title));
  BV_TRY(count, family::evaluate_at(place, section.over, geometry.symbols));
  if ((count < 0 || count > kRepeatsMax) && fields_behind(family, geometry, section.over).empty()) {
    return fail(Code::RulesInvalid, fmt::format("{} is repeated {} times", place, count))
        .at(place)
        .pair(escaped(section.over), fmt::format("0 to {}", kRepeatsMax))
        .advise("correct \"over\" in the rules file");
  }
  if (count < 0 || count > kRepeatsMax) {
    return fail(Code::ConfigField,
                fmt::format("config.json asks for {} repetitions of the section {} ({})", count,
                            section.title,
                            join(fields_behind(family, geometry, section.over), ", ")))
        .at("config.json")
        .pair(std::to_string(count), fmt::format("0 to {}", kRepeatsMax))
        .advise("correct the field, or overrule it with --set");
  }
  return count;
}

bool occurs(const family::Family& family, const family::Section& section,
            const std::vector<std::string>& when, const Geometry& geometry, std::int64_t count) {
  if (count == 0) {
    return false;
  }
  const std::int64_t repetitions = section.layered
                                       ? std::ssize(geometry.layer_flags)
                                       : std::max<std::int64_t>(1, std::ssize(geometry.mtp_flags));
  // Layers repeat few sets of flags: each set is looked at once.
  std::set<std::set<std::string, std::less<>>> seen;
  for (std::int64_t index = 0; index < repetitions; ++index) {
    const auto [flags, fresh] = seen.insert(section_flags(section, geometry, index));
    if (fresh && holds(family, when, {&geometry.symbols, &*flags})) {
      return true;
    }
  }
  return false;
}

}  // namespace bv::model
