#pragma once
// Names that transformers' class has where files have others: PEFT's keys are those of the class.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/family/family.hpp"
#include "core/model/model.hpp"

namespace bv::lora {

/// "model.layers.0.block_sparse_moe.gate.weight" -> "model.layers.0.mlp.gate.weight" for Mixtral;
/// "language_model.model.layers.0" -> "model.language_model.layers.0" for Mistral 3; the name
/// itself where they are one. `family` may be null.
[[nodiscard]] std::string class_name(const family::Family* family, std::string_view in_file);
/// The way back: every name that a file may have for one of the class, the likeliest first. Files
/// of another age may have the beginning of the one and the modules of the other.
[[nodiscard]] std::vector<std::string> file_names(const family::Family* family,
                                                  std::string_view in_class);

/// The text model of a class with towers, as a class of its own: AutoModelForCausalLM loads it from
/// the same files. Its modules are those below the text prefix, and the output layer.
struct TextClass {
  std::string whole;       // what the modules begin with in the whole class: "model.language_model"
  std::string own;         // and in the text class: "model"
  std::string whole_head;  // the output layer in the whole class; the text class has kOwnHead
  static constexpr std::string_view kOwnHead = "lm_head";

  /// The name in the whole class; nullopt for one that the text class does not have.
  [[nodiscard]] std::optional<std::string> to_whole(std::string_view name) const;
  /// The way back: "" for what is not part of the text class.
  [[nodiscard]] std::string to_own(std::string_view name) const;
};
/// nullopt when the two classes name their modules alike. `head`: the output layer in the files.
[[nodiscard]] std::optional<TextClass> text_class(const model::Model& model, std::string_view head);

/// Linear layers of the files that are one in the class, their rows in this order. In the family's
/// class_modules: "gate_proj+up_proj": "gate_up_proj".
struct JoinedModules {
  std::vector<std::string> in_files;
  std::string in_class;
};
[[nodiscard]] std::vector<JoinedModules> joined_modules(const family::Family* family);

/// The modules of files that one of the class is made of, by their last components, in the order of
/// its rows; empty when it is one in the files too.
[[nodiscard]] std::vector<std::string> modules_in_files(const family::Family* family,
                                                        std::string_view in_class);

/// "….mlp.gate_proj" -> "….mlp.gate_up_proj"; the module itself where the class has it.
[[nodiscard]] std::string joined_module(const family::Family* family, std::string_view module);

}  // namespace bv::lora
