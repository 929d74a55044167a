#include "core/lora/adapter_keys.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "core/base/text.hpp"

namespace bv::lora {
namespace {

constexpr std::array kEndings = {
    std::pair{std::string_view(".lora_A.weight"), KeyKind::A},
    std::pair{std::string_view(".lora_B.weight"), KeyKind::B},
    std::pair{std::string_view(".lora_B.bias"), KeyKind::BiasB},
    std::pair{std::string_view(".lora_magnitude_vector"), KeyKind::Magnitude},
    std::pair{std::string_view(".lora_embedding_A"), KeyKind::EmbeddingA},
    std::pair{std::string_view(".lora_embedding_B"), KeyKind::EmbeddingB},
    std::pair{std::string_view(".base_layer.bias"), KeyKind::BaseBias},
    std::pair{std::string_view(".base_layer.weight"), KeyKind::BaseCopy},
};
/// What PEFT puts around a module to save: its copy, and the module itself.
constexpr std::array kWrappers = {
    std::pair{std::string_view(".modules_to_save"), KeyKind::Again},
    std::pair{std::string_view(".original_module"), KeyKind::Original},
};
constexpr std::string_view kBaseLayer = ".base_layer";
constexpr std::string_view kWeight = ".weight";

std::vector<std::string_view> components_of(std::string_view name) {
  std::vector<std::string_view> out;
  for (std::size_t at = 0; at <= name.size();) {
    const std::size_t end = std::min(name.find('.', at), name.size());
    out.push_back(name.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

std::optional<std::int64_t> integer(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  return whole && value >= 0 ? std::optional(value) : std::nullopt;
}

/// The index of the component behind `word` that is a number.
std::optional<std::size_t> number_behind(const std::vector<std::string_view>& parts,
                                         std::string_view word) {
  for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
    if (parts[i] == word && integer(parts[i + 1])) {
      return i + 1;
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<AdapterKey> parse_adapter_key(std::string_view key, std::string& why) {
  if (!key.starts_with(kPeftPrefix)) {
    why = fmt::format("it does not begin with {}", kPeftPrefix);
    return std::nullopt;
  }
  const std::string_view name = key.substr(kPeftPrefix.size());
  for (const auto& [ending, kind] : kEndings) {
    if (!name.ends_with(ending) || name.size() == ending.size()) {
      continue;
    }
    AdapterKey out{kind, std::string(name.substr(0, name.size() - ending.size()))};
    while (out.path.ends_with(kBaseLayer)) {
      out.path.resize(out.path.size() - kBaseLayer.size());
      ++out.depth;
    }
    why = out.path.empty() ? "it names no module" : "";
    return out.path.empty() ? std::nullopt : std::optional(std::move(out));
  }
  const std::size_t lora = name.find(".lora_");
  if (lora != std::string_view::npos) {
    why = fmt::format("\"{}\" is not an ending that PEFT writes",
                      escaped(bounded(std::string(name.substr(lora)), 60)));
    return std::nullopt;
  }
  if (name.ends_with(kWeight) || name.ends_with(".bias")) {
    for (const auto& [wrapper, kind] : kWrappers) {
      const std::size_t at = name.rfind('.') - std::min(name.rfind('.'), wrapper.size());
      if (at > 0 && name.substr(at).starts_with(wrapper)) {
        return AdapterKey{
            kind, std::string(name.substr(0, at)) + std::string(name.substr(at + wrapper.size()))};
      }
    }
    return AdapterKey{KeyKind::Trained, std::string(name)};
  }
  why = "it is neither a factor nor a weight or bias";
  return std::nullopt;
}

std::string adapter_key(std::string_view base, KeyKind kind) {
  std::string out = fmt::format("{}{}", kPeftPrefix, module_of(base));
  for (const auto& [ending, one] : kEndings) {
    if (one == kind) {
      out += ending;
    }
  }
  return out;
}

std::string_view module_of(std::string_view base) {
  return base.ends_with(kWeight) ? base.substr(0, base.size() - kWeight.size()) : base;
}

std::string_view last_component(std::string_view path) {
  const std::size_t dot = path.rfind('.');
  return dot == std::string_view::npos ? path : path.substr(dot + 1);
}

std::optional<std::int64_t> expert_of(std::string_view name) {
  const auto parts = components_of(name);
  const auto at = number_behind(parts, "experts");
  return at ? integer(parts[*at]) : std::nullopt;
}

std::string without_expert(std::string_view name) {
  const auto parts = components_of(name);
  const auto at = number_behind(parts, "experts");
  std::string out;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (!at || i != *at) {
      out += (out.empty() ? "" : ".") + std::string(parts[i]);
    }
  }
  return out;
}

std::string place_text(std::string_view name) {
  const auto parts = components_of(name);
  std::string out;
  for (const char* word : {"layers", "blocks", "h"}) {
    if (const auto at = number_behind(parts, word)) {
      out = fmt::format("layer {}", parts[*at]);
      break;
    }
  }
  for (const char* word : {"experts", "local_experts"}) {
    if (const auto at = number_behind(parts, word)) {
      out += fmt::format("{}expert {}", out.empty() ? "" : ", ", parts[*at]);
      break;
    }
  }
  return out;
}

std::vector<NestedParameter> nesting_of(const std::vector<std::string>& registered,
                                        const std::vector<std::string>& targeted) {
  std::vector<NestedParameter> out;
  for (const std::string& name : registered) {
    if (std::find(targeted.begin(), targeted.end(), name) != targeted.end()) {
      out.push_back({name, 0});
    }
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i].depth = static_cast<int>(out.size() - 1 - i);
  }
  return out;
}

}  // namespace bv::lora
