#pragma once
// A model directory -> an HfModel: config, headers, family, mappings.

#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/checkpoint/config_text.hpp"
#include "core/checkpoint/hf_model.hpp"
#include "core/model/name_filter.hpp"

namespace bv::checkpoint {

/// What a model has beside its files: tensors that are made of stored ones (io::Checkpoint::made),
/// and members of config.json, as JSON.
struct Additions {
  std::vector<TensorSpec> tensors;
  std::vector<std::pair<std::string, std::string>> members;
  [[nodiscard]] bool empty() const { return tensors.empty() && members.empty(); }
};

struct OpenOptions {
  model::ResolveOptions resolve;
  std::vector<std::pair<std::string, std::string>>
      settings;                     // --set PATH=VALUE, applied to the config
  model::NameFilter filter = {};    // --match, --exclude
  std::string family;               // --family or --rules NAME; "" chooses by the config
  family::FamilyPtr fallback = {};  // taken when no family knows the architecture
  /// The config as the fallback reads it; none: as it stands.
  std::function<nlohmann::json(const nlohmann::json&)> fallback_view = {};
  /// What quantised weights become; not set: they are refused.
  std::optional<DType> dequantise = {};
  Additions additions = {};  // of open_hf
  bool strict = false;
  bool absent_shards = false;  // open a checkpoint whose index names shards that are not there
};

/// Opens an HF directory. Name faults are in `model.faults`, not errors. Errors: QuantisedSource
/// (Unsupported) for quantised weights that are not to be dequantised or that no form is known of,
/// whatever the family; a dequantised model has the config without what it says of them. With
/// `absent_shards` the
/// names of shards that are not there come from the index: the model then has no checkpoint, shapes
/// are those that are known, and `incomplete` says what is missing.
[[nodiscard]] Result<HfModel> open_hf(const std::filesystem::path& folder,
                                      const std::vector<family::FamilyPtr>& families,
                                      const OpenOptions& options);

/// The same for an architecture that no family knows: config, headers and weights, and a model
/// without a family and without mappings. Errors: those of open_hf, but for ArchitectureUnknown.
[[nodiscard]] Result<HfModel> open_without_family(const std::filesystem::path& folder,
                                                  const OpenOptions& options);

/// The same from headers alone (a dump or a published geometry): there are no bytes.
[[nodiscard]] Result<HfModel> open_headers(std::string config_text, const std::string& config_file,
                                           Headers headers,
                                           const std::vector<family::FamilyPtr>& families,
                                           const OpenOptions& options);

}  // namespace bv::checkpoint
