#pragma once
// What may be assumed of an architecture that no family knows: where its numbers stand in
// config.json, and which parameters the modules of Megatron-Core have.

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/model/model.hpp"

namespace bv::foreign {

/// A family without rules whose numbers are the usual fields of a HF config, laid flat.
[[nodiscard]] Result<family::FamilyPtr> usual_family();
[[nodiscard]] bool is_usual(const family::Family& family);
[[nodiscard]] bool is_usual(const model::Model& model);
/// The names of its numbers.
[[nodiscard]] Result<std::vector<std::string>> usual_symbols();

/// A config whose usual fields stand at the top under one name each.
struct UsualConfig {
  std::string level;                           // "thinker_config.text_config", "" for the top
  std::map<std::string, std::string> origins;  // number -> where it came from
  bool layers_differ = false;                  // a field gives each layer a structure of its own
  /// Fields that give each layer one of several kinds: "layer_types" -> its word for each layer.
  std::map<std::string, std::vector<std::string>> layer_kinds;
  bool tie_is_said = false;     // tie_word_embeddings stands there, and only one answer
  bool untied_is_said = false;  // at one level at least
  std::int64_t mtp_layers = 0;
};
[[nodiscard]] UsualConfig read_usual(const nlohmann::json& config, nlohmann::json& flat);
/// The flat config alone: what the usual family is resolved with.
[[nodiscard]] nlohmann::json flat_config(const nlohmann::json& config);

/// One parameter of a Megatron module. Names are those of a text model without a prefix, with `*`
/// for numbers; MTP layers have the parameters of decoder layers.
struct UsualParameter {
  const family::Rule* rule = nullptr;  // kind and sizes; kind "opaque": from the tensors
  std::string module;                  // "attention", "mla", "experts", ...
  std::string name;
  bool optional = false;  // only some modules of this sort have it
  bool grouped = true;    // one of the spellings of experts, or neither
  bool sequential = true;
};
class UsualModules {
 public:
  static Result<UsualModules> load();
  /// Every module that may have a parameter of that name.
  [[nodiscard]] std::vector<const UsualParameter*> find(std::string_view starred_name) const;
  [[nodiscard]] const std::vector<UsualParameter>& all() const { return parameters_; }
  [[nodiscard]] const family::Family& family() const { return *family_; }

 private:
  family::FamilyPtr family_;
  std::vector<UsualParameter> parameters_;
  std::multimap<std::string, std::size_t, std::less<>> by_name_;
};

}  // namespace bv::foreign
