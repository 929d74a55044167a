#include "core/foreign/layer_words.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "core/base/text.hpp"
#include "core/foreign/shown.hpp"

namespace bv::foreign {

std::string_view inside_layer(std::string_view usual) {
  constexpr std::string_view kLayer = "decoder.layers.*.";
  return usual.starts_with(kLayer) ? usual.substr(kLayer.size()) : std::string_view();
}

bool is_mixer(std::string_view inside) {
  return inside.starts_with("self_attention.") || inside.starts_with("mixer.") ||
         inside.starts_with("cross_attention.");
}
bool is_feed(std::string_view inside) {
  return inside.starts_with("mlp.") || inside.starts_with("moe.");
}
bool is_norm(std::string_view inside) {
  return inside.find("norm") != std::string_view::npos;
}

std::string layer_numbers(const std::vector<std::int64_t>& layers) {
  constexpr std::size_t kShown = 8;
  std::vector<std::string> out;
  for (std::size_t i = 0; i < std::min(layers.size(), kShown); ++i) {
    out.push_back(std::to_string(layers[i]));
  }
  return fmt::format("layer{} {}{}", layers.size() == 1 ? "" : "s", join(out, ", "),
                     layers.size() > kShown ? ", ..." : "");
}

std::string behind_the_layers(const std::string& tensor, std::int64_t layers) {
  constexpr std::string_view kLayers = "layers.";
  const std::size_t at = tensor.find(kLayers);
  std::int64_t number = -1;
  if (at != std::string::npos) {
    std::from_chars(tensor.data() + at + kLayers.size(), tensor.data() + tensor.size(), number);
  }
  return layers == 0 || number < layers
             ? ""
             : fmt::format(
                   "{0}{1} is MTP layer {2}: add rules that make mtp.layers.{2}.* of it, "
                   "with the number written out",
                   shown(tensor.substr(0, at + kLayers.size())), number, number - layers);
}

}  // namespace bv::foreign
