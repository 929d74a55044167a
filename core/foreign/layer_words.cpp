#include "core/foreign/layer_words.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"

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

std::string layers_text(const std::vector<std::int64_t>& layers) {
  constexpr std::size_t kShown = 8;
  std::vector<std::string> out;
  for (std::size_t i = 0; i < std::min(layers.size(), kShown); ++i) {
    out.push_back(std::to_string(layers[i]));
  }
  return fmt::format("layer{} {}{}", layers.size() == 1 ? "" : "s", join(out, ", "),
                     layers.size() > kShown ? ", ..." : "");
}

}  // namespace bv::foreign
