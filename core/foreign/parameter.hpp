#pragma once
// A Megatron parameter by its name alone: where it lives, and which parameters are its like.

#include <string>
#include <string_view>

#include "core/family/rule.hpp"
#include "core/foreign/rules_file.hpp"

namespace bv::foreign {

/// The two ends of the vocabulary, without the prefix of the text model.
inline constexpr std::string_view kEmbedding = "embedding.word_embeddings.weight";
inline constexpr std::string_view kOutput = "output_layer.weight";

struct Anatomy {
  family::Stage stage = family::Stage::Vision;  // what is outside the text model: first stage
  std::int64_t index = -1;                      // layer, MTP layer, block of a tower
  std::int64_t expert = -1;
  bool sequential = false;  // "local_experts.7." instead of "weight7"
  /// Numbers as `*`, without the prefix of the text model; an MTP layer's transformer layer as a
  /// decoder layer: "decoder.layers.*.self_attention.linear_proj.weight". "" outside the text
  /// model.
  std::string usual;
  /// With {i} {k} {j} and {e} for its numbers, as family rules write names.
  std::string name_template;
};

/// What stands before "decoder.layers." in the rules that make the text model: "language_model.",
/// "thinker.language_model.", "".
[[nodiscard]] std::string text_prefix(const ForeignRules& rules);

[[nodiscard]] Anatomy anatomy_of(std::string_view name, std::string_view text_prefix);

/// The variable of a stage's section: "i" for decoder layers, "k" MTP layers, "j" blocks, else "".
[[nodiscard]] std::string_view variable_of(family::Stage stage);

}  // namespace bv::foreign
