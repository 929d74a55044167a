#pragma once
// The output layer of a tied model: a module of the class that has no tensor of its own in the
// files.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/checkpoint/hf_model.hpp"

namespace bv::lora {

struct TiedHead {
  TensorSpec weight;   // as files of the family name it: "lm_head.weight", "embed_out.weight"
  std::string stored;  // the embedding, which it is
};
/// nullopt when the embeddings are not tied, or the output layer is stored too. Without a family
/// the config has to say that they are tied, and one tensor alone has the rows of the vocabulary.
[[nodiscard]] std::optional<TiedHead> tied_head(const checkpoint::HfModel& base);

/// The tensor of the output layer, stored or not, as files of the base name it.
[[nodiscard]] std::string head_name(const checkpoint::HfModel& base);

/// Members of config.json that untie the output layer, as JSON, at every level that a class reads.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> untied_members(
    const checkpoint::HfModel& base);

/// Is the base a model still when its output layer is a tensor of its own? Errors: MergeTied for a
/// family that ties it whatever the config says, or that takes no config which does not.
[[nodiscard]] Status check_unties(const checkpoint::HfModel& base);

}  // namespace bv::lora
