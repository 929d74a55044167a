#pragma once
// The output layer of a tied model: a module of the class that has no tensor of its own in the
// files.

#include <optional>
#include <string>

#include "core/checkpoint/hf_model.hpp"

namespace bv::lora {

struct TiedHead {
  TensorSpec weight;   // as the class names it: "lm_head.weight"
  std::string stored;  // the embedding, which it is
};
/// nullopt when the embeddings are not tied, or the output layer is stored too. Without a family
/// the config has to say that they are tied, and one tensor alone has the rows of the vocabulary.
[[nodiscard]] std::optional<TiedHead> tied_head(const checkpoint::HfModel& base);

}  // namespace bv::lora
