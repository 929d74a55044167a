#pragma once
// The modules that transformers' class has for a base, by the names that an adapter's keys have.

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/lora/adapter.hpp"
#include "core/lora/class_names.hpp"

namespace bv::lora {

/// Classes of transformers leave MTP layers of a checkpoint out; those that models bring along may
/// build them.
enum class MtpLayers { LeftOut, Built };
/// Whether any of these HF tensors belongs to an MTP layer: then the class builds them.
[[nodiscard]] MtpLayers mtp_layers_of(const checkpoint::HfModel& base,
                                      const std::vector<std::string>& tensors);

/// What the adapter's class calls its modules: classes of another age had the names of the files.
struct Naming {
  const family::Family* family = nullptr;  // null: as the files
  std::optional<TextClass> text = {};      // the class is the text model alone
  /// "" for what is not part of the class.
  [[nodiscard]] std::string of(std::string_view in_file) const;
  /// The same for a name of the whole class.
  [[nodiscard]] std::string of_whole(std::string name) const;
};
/// The text class that keys of an adapter are of: nullopt where the whole class, or the files, have
/// modules that begin as each of them does.
[[nodiscard]] std::optional<TextClass> text_class_of(const checkpoint::HfModel& base,
                                                     const std::vector<std::string>& paths);
/// The same of an adapter that was read.
[[nodiscard]] bool is_of_text_class(const Adapter& adapter, const model::Model& model);
/// The names that the keys of the adapter have.
[[nodiscard]] Naming naming_of(const Adapter& adapter, const checkpoint::HfModel& base);

/// Modules with a weight of two dimensions or more, by full path. Errors: those of class_model.
[[nodiscard]] Result<std::vector<std::string>> modules_of(const checkpoint::HfModel& base,
                                                          MtpLayers mtp, const Naming& names);
/// The same by the names of the class.
[[nodiscard]] Result<std::vector<std::string>> class_modules(const checkpoint::HfModel& base,
                                                             MtpLayers mtp);
/// Modules with a weight that are no linear layers: embeddings, routers (parameters of a module of
/// their own) and convolutions. "all-linear" leaves them out.
[[nodiscard]] std::set<std::string> not_linear(const checkpoint::HfModel& base,
                                               const Naming& names);

}  // namespace bv::lora
