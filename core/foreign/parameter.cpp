#include "core/foreign/parameter.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>

#include "core/foreign/pattern.hpp"

namespace bv::foreign {
namespace {

constexpr std::string_view kLayers = "decoder.layers.";
constexpr std::string_view kMtp = "mtp.layers.";

/// No layer and no expert of a model has a larger number.
constexpr std::int64_t kNumbersMax = 65536;

/// A number as templates write it again: no sign, no leading zero.
std::optional<std::int64_t> number_of(std::string_view text) {
  std::int64_t out = 0;
  const auto end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, out);
  const bool plain = !text.empty() && (text.size() == 1 || text.front() != '0');
  return plain && text.front() != '-' && read.ec == std::errc() && read.ptr == end &&
                 out < kNumbersMax
             ? std::optional(out)
             : std::nullopt;
}

struct Found {
  std::size_t begin = 0, size = 0;
  std::int64_t number = -1;
};

/// The first whole part of the name at or behind `from` that is a number.
std::optional<Found> numbered_part(std::string_view name, std::size_t from) {
  for (std::size_t begin = from; begin < name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    if (const auto number = number_of(name.substr(begin, end - begin))) {
      return Found{begin, end - begin, *number};
    }
    begin = end + 1;
  }
  return std::nullopt;
}

/// "...experts.linear_fc1.weight7", "...experts.local_experts.7.linear_fc1.weight".
std::optional<Found> expert_part(std::string_view name, bool& sequential) {
  constexpr std::string_view kLocal = ".experts.local_experts.";
  if (const std::size_t at = name.find(kLocal); at != std::string_view::npos) {
    const std::size_t begin = at + kLocal.size();
    const std::size_t size = std::min(name.find('.', begin), name.size()) - begin;
    sequential = true;
    const auto number = number_of(name.substr(begin, size));
    return number ? std::optional(Found{begin, size, *number}) : std::nullopt;
  }
  const std::size_t digits = name.find_last_not_of("0123456789") + 1;
  const std::string_view stem = name.substr(0, digits);
  const auto number = number_of(name.substr(digits));
  const bool grouped = name.find(".experts.linear_fc") != std::string_view::npos &&
                       (stem.ends_with(".weight") || stem.ends_with(".bias"));
  return grouped && number ? std::optional(Found{digits, name.size() - digits, *number})
                           : std::nullopt;
}

/// The name with parts replaced, the last part first.
std::string with_variables(std::string_view name, const std::optional<Found>& index,
                           std::string_view variable, const std::optional<Found>& expert) {
  std::string out(name);
  if (expert) {
    out.replace(expert->begin, expert->size, "{e}");
  }
  if (index) {
    out.replace(index->begin, index->size, fmt::format("{{{}}}", variable));
  }
  return out;
}

family::Stage stage_of(std::string_view text_name) {
  return text_name.starts_with(kLayers)           ? family::Stage::Decoder
         : text_name.starts_with(kMtp)            ? family::Stage::Mtp
         : text_name.starts_with("decoder.")      ? family::Stage::FinalNorm
         : text_name.starts_with("output_layer.") ? family::Stage::Output
         : text_name.starts_with("embedding.")    ? family::Stage::Embedding
                                                  : family::Stage::Vision;
}

/// "mtp.layers.0.mtp_model_layer.mlp.router.weight" -> "decoder.layers.0.mlp.router.weight"
std::string as_decoder_layer(std::string_view name, const Found& index) {
  const std::size_t end = index.begin + index.size;
  for (const std::string_view inner : {".mtp_model_layer.", ".transformer_layer."}) {
    if (name.substr(end).starts_with(inner)) {
      return std::string(kLayers) + std::to_string(index.number) + "." +
             std::string(name.substr(end + inner.size()));
    }
  }
  return std::string(name);
}

bool is_tower(std::string_view prefix) {
  return prefix.find("vision") != std::string_view::npos ||
         prefix.find("visual") != std::string_view::npos ||
         prefix.find("audio") != std::string_view::npos;
}

}  // namespace

std::string_view variable_of(family::Stage stage) {
  return stage == family::Stage::Decoder  ? "i"
         : stage == family::Stage::Mtp    ? "k"
         : stage == family::Stage::Vision ? "j"
                                          : "";
}

std::string text_prefix(const ForeignRules& rules) {
  std::map<std::string_view, std::size_t> counts;
  for (const ForeignRule& rule : rules.rules) {
    const std::string_view name = rule.megatron;
    if (name.ends_with(kEmbedding)) {
      return std::string(name.substr(0, name.size() - kEmbedding.size()));
    }
    const std::size_t at = name.find(kLayers);
    if (at != std::string_view::npos && !is_tower(name.substr(0, at))) {
      ++counts[name.substr(0, at)];
    }
  }
  const auto most =
      std::max_element(counts.begin(), counts.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  const std::string prefix(most == counts.end() ? "" : most->first);
  return prefix.find('*') == std::string::npos ? prefix : "";
}

Anatomy anatomy_of(std::string_view name, std::string_view text_prefix) {
  Anatomy out;
  const bool text = name.starts_with(text_prefix);
  out.stage = text ? stage_of(name.substr(text_prefix.size())) : family::Stage::Vision;
  const bool layered = !variable_of(out.stage).empty();
  const auto index = layered ? numbered_part(name, text ? text_prefix.size() : 0) : std::nullopt;
  if (layered && !index && out.stage != family::Stage::Vision) {
    out.stage = family::Stage::Vision;  // "decoder.layers.x": no layer of the text model
  }
  const bool inside = out.stage != family::Stage::Vision;
  const auto expert = inside && index ? expert_part(name, out.sequential) : std::nullopt;
  out.index = index ? index->number : -1;
  out.expert = expert ? expert->number : -1;
  out.name_template = with_variables(name, index, variable_of(out.stage), expert);
  if (inside) {
    const std::size_t start = text_prefix.size();
    out.usual = starred(index ? as_decoder_layer(name.substr(start),
                                                 {index->begin - start, index->size, index->number})
                              : std::string(name.substr(start)));
  }
  return out;
}

}  // namespace bv::foreign
