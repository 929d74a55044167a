#pragma once
// What a Megatron parameter of a layer belongs to, by its usual name.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace bv::foreign {

/// The part behind "decoder.layers.*."; "" for another name.
[[nodiscard]] std::string_view inside_layer(std::string_view usual);
/// Attention or what stands in its place.
[[nodiscard]] bool is_mixer(std::string_view inside);
/// An MLP or experts.
[[nodiscard]] bool is_feed(std::string_view inside);
[[nodiscard]] bool is_norm(std::string_view inside);
/// "layers 1, 2, 3": at most eight of them.
[[nodiscard]] std::string layer_numbers(const std::vector<std::int64_t>& layers);

/// What to do with an HF tensor of a layer behind the last of `layers` decoder layers, which is how
/// HF stores MTP layers; "" for others.
[[nodiscard]] std::string behind_the_layers(const std::string& tensor, std::int64_t layers);

}  // namespace bv::foreign
