// Sizes that layers have of their own, and the words that say what a layer is.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/family/expression.hpp"
#include "core/model/config_field.hpp"

namespace bv::model {
namespace {

using nlohmann::json;
using Sizes = std::map<std::string, std::int64_t, std::less<>>;

constexpr double kMillion = 1e6;
constexpr double kDecimalMax = 1e6;

/// A decimal as whole millionths: 5.25 is 5250000.
Result<std::int64_t> millionths_of(const json& node, const std::string& path) {
  const bool number = node.is_number() && std::isfinite(node.get<double>()) &&
                      std::abs(node.get<double>()) <= kDecimalMax;
  if (!number) {
    return wrong_field(path, node, "a number up to 1,000,000");
  }
  return std::llround(node.get<double>() * kMillion);
}

class SizeReader {
 public:
  SizeReader(const family::Family& family, const json& config, Geometry& geometry)
      : family_(family), config_(config), geometry_(geometry) {}

  Status run() {
    for (const family::LayerSize& size : family_.layer_sizes) {
      BV_CHECK(read(size));
    }
    BV_CHECK(compute(geometry_.symbols, nullptr));
    for (Sizes& own : geometry_.layer_sizes) {
      BV_CHECK(compute(own, &own));
    }
    return Done{};
  }

 private:
  Status read(const family::LayerSize& size) {
    const json* list = nullptr;
    std::string path;
    if (!size.list.path.empty()) {
      BV_TRY(found, first_list(family_, config_, {size.list}));
      if (!found) {
        return Done{};
      }
      path = found->first;
      list = found->second;
      if (!list->is_array()) {
        return Done{};  // one number for all layers: the symbol's own
      }
      BV_CHECK(check_length(*list, path));
    }
    for (std::size_t layer = 0; layer < geometry_.layer_sizes.size(); ++layer) {
      if (!family::holds(family_, size.when, {&geometry_.symbols, &geometry_.layer_flags[layer]})) {
        continue;
      }
      const json* node = list == nullptr ? nullptr : in_entry((*list)[layer], size.entry);
      if (list != nullptr && (node == nullptr || node->is_null())) {
        continue;
      }
      BV_CHECK(set(size, path, node, layer));
    }
    return Done{};
  }

  [[nodiscard]] Status check_length(const json& list, const std::string& path) const {
    if (list.size() == geometry_.layer_sizes.size()) {
      return Done{};
    }
    return fail(Code::ConfigField, fmt::format("config.json {} has {} entries for {} layers", path,
                                               list.size(), geometry_.layer_sizes.size()))
        .at("config.json")
        .pair(counted(list.size(), "entry"),
              fmt::format("{} entries, one for each layer", geometry_.layer_sizes.size()))
        .advise("use the config.json that belongs to the checkpoint");
  }

  Status set(const family::LayerSize& size, const std::string& path, const json* node,
             std::size_t layer) {
    const std::string at =
        fmt::format("{}[{}]{}{}", path, layer, size.entry.empty() ? "" : ".", size.entry);
    std::int64_t entry = 0;
    if (node != nullptr) {
      BV_TRY(number, size.millionths ? millionths_of(*node, at) : number_of(*node, at, false));
      entry = number;
    }
    for (const std::string& word : family::identifiers(size.value)) {
      if (word != "entry" && !geometry_.symbols.contains(word)) {
        return absent_field(family_, geometry_, *family_.symbol(word),
                            fmt::format("{} of layer {}", size.symbol, layer), {});
      }
    }
    auto value = family::evaluate_with(
        size.value, [&](std::string_view word) -> std::optional<std::int64_t> {
          return word == "entry" && node != nullptr ? std::optional(entry) : geometry_.get(word);
        });
    if (!value) {
      const Error error = family::at_place(std::move(value).error(), size.source, size.value);
      return error.code == Code::RulesInvalid ? error : Error(error).at("config.json").fact(at);
    }
    const family::SymbolRule& symbol = *family_.symbol(size.symbol);
    if (*value < symbol.min || *value > symbol.max) {
      return fail(Code::ConfigField,
                  fmt::format("{} of layer {} is {}", size.symbol, layer, *value))
          .at("config.json")
          .pair(std::to_string(*value), fmt::format("{} to {}", symbol.min, symbol.max))
          .fact(at)
          .advise("correct the field");
    }
    geometry_.layer_sizes[layer][size.symbol] = *value;
    if (geometry_.symbols.emplace(size.symbol, *value).second) {
      geometry_.origin[size.symbol] = at;
    }
    return Done{};
  }

  /// Symbols that are computed from sizes of `own` (all symbols: those that have no number yet).
  Status compute(Sizes& into, const Sizes* own) {
    for (bool more = true; more;) {
      more = false;
      for (const family::SymbolRule& symbol : family_.symbols) {
        if (!symbol.value || into.contains(symbol.name)) {
          continue;
        }
        bool known = true;
        bool touched = own == nullptr;
        for (const std::string& word : family::identifiers(*symbol.value)) {
          known = known && geometry_.symbols.contains(word);
          touched = touched || own->contains(word);
        }
        if (known && touched) {
          BV_TRY(value,
                 family::evaluate_at(fmt::format("{}: symbol {}", symbol.file, symbol.name),
                                     *symbol.value, own == nullptr ? into : geometry_.with(*own)));
          into[symbol.name] = value;
          more = true;
        }
      }
    }
    return Done{};
  }

  const family::Family& family_;
  const json& config_;
  Geometry& geometry_;
};

}  // namespace

Status read_layer_sizes(const family::Family& family, const json& config, Geometry& geometry) {
  geometry.layer_sizes.assign(geometry.layer_flags.size(), {});
  return family.layer_sizes.empty() ? Status(Done{}) : SizeReader(family, config, geometry).run();
}

Result<std::optional<std::pair<std::string, const json*>>> first_list(
    const family::Family& family, const json& config,
    const std::vector<family::FieldPath>& fields) {
  for (const family::FieldPath& path : fields) {
    BV_TRY(node, find_field(family, config, path));
    if (node != nullptr && !node->is_null()) {
      return std::optional(std::pair(family::dotted(family, path), node));
    }
  }
  return std::optional<std::pair<std::string, const json*>>();
}

const json* in_entry(const json& node, const std::string& entry) {
  const json* at = &node;
  for (std::size_t begin = 0; begin < entry.size();) {
    const std::size_t end = std::min(entry.find('.', begin), entry.size());
    if (!at->is_object()) {
      return nullptr;
    }
    const auto found = at->find(entry.substr(begin, end - begin));
    if (found == at->end()) {
      return nullptr;
    }
    at = &*found;
    begin = end + 1;
  }
  return at;
}

Result<std::vector<std::string>> layer_words(const json& node, const std::string& path,
                                             const std::string& entry) {
  if (node.is_string() && entry.empty()) {
    std::vector<std::string> letters;
    for (const char letter : node.get<std::string>()) {
      letters.emplace_back(1, letter);
    }
    return letters;
  }
  if (!node.is_array()) {
    return wrong_field(path, node, "a list of strings, or a string of letters");
  }
  const auto plain = [](const json& item) { return item.is_string() || item.is_number_integer(); };
  if (entry.empty() && !std::all_of(node.begin(), node.end(), plain)) {
    return words_of(node, path);
  }
  std::vector<std::string> out;
  for (const json& item : node) {
    const json* word = in_entry(item, entry);
    if (word == nullptr || word->is_null()) {
      out.emplace_back("null");
    } else if (word->is_string()) {
      out.push_back(word->get<std::string>());
    } else {
      out.push_back(word->dump());
    }
  }
  return out;
}

}  // namespace bv::model
