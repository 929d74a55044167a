#pragma once
// A Megatron folder of ours, opened: its manifest, and the model that its shards hold. Everything
// in it is untrusted: the manifest is held against config, rules and plan before it is used.

#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/tensor_spec.hpp"
#include "core/io/carry_file.hpp"
#include "core/io/digest.hpp"
#include "core/kinds/catalogue.hpp"
#include "core/model/model.hpp"
#include "core/parallel/parallel.hpp"
#include "core/plan/dtype_policy.hpp"

namespace bv::checkpoint {

/// The quantised form that the HF side had before its weights were dequantised: the tensors that
/// they were stored as, values and companions. Values are made of the shards again, companions lie
/// in kCompanionsName.
struct QuantisedSide {
  Headers headers;
  std::map<std::string, std::string> file_of;  // tensor -> file name
  std::map<std::string, std::string> digests;  // tensor -> fingerprint in the source
  std::map<std::string, std::map<std::string, std::string>> metadata;  // every file of that form
  /// Files that take the place of those in `carried`, relative to kQuantisedFolder: config.json
  /// with what it says of the quantisation, the index.
  std::map<std::string, io::FilePrint> carried;
};

/// An adapter that was merged while a checkpoint was written.
struct MergedAdapter {
  std::string digest;   // 32 hex digits over its config and its tensors
  bool untied = false;  // --untie: a tied tensor that it changes became two
};

/// A Megatron folder of ours: manifest, shards, and the HF side that it was made from.
struct MegatronFolder {
  std::filesystem::path folder;
  parallel::Layout layout;
  plan::DtypePolicy dtype;
  std::string family;  // with rules of another bridge: the one that the model was resolved with
  std::optional<io::FilePrint> rules;  // rules.json, what --rules gave
  model::ResolveOptions resolve;
  std::vector<std::pair<std::string, std::string>> settings;  // --set: config.json has them
  std::optional<MergedAdapter> adapter;
  Headers hf_headers;
  std::map<std::string, std::string> hf_file_of;                          // tensor -> file name
  std::map<std::string, std::map<std::string, std::string>> hf_metadata;  // file -> __metadata__
  std::vector<std::string> left_out;  // HF tensors of the source that do not come back, sorted
  std::map<std::string, io::FilePrint> carried;  // relative to hf/
  std::optional<QuantisedSide> quantised;
  io::Digests digests;
  std::string plan_digest;

  // Made when the folder is opened.
  std::string config_text;
  model::Model model;
  std::vector<std::string> changed;  // hf/config.json, rules.json: not the bytes that were written
  bool same_plan = true;  // config and rules, changed or not, put every row where it was put
};

/// Rules of another bridge (rules.json of the folder, or others) in place of a family's.
struct RulesHook {
  /// The config as the family reads it.
  std::function<nlohmann::json(const family::Family&, const nlohmann::json& config)> view;
  /// The family's model -> the same under the rules.
  std::function<Result<model::Model>(const MegatronFolder&, model::Model)> apply;
};

/// Errors: ManifestInvalid, DuplicateKey for the manifest by itself; ManifestDisagrees when it is
/// not what config, rules and kinds make of it; ArchitectureUnknown; those of parse_config,
/// model::resolve, check_layout. A config or rules file that changed since it was written is an
/// error only when it no longer fits; else it stands in `changed`. Without `rules` a folder that
/// was made with rules of another bridge is refused.
[[nodiscard]] Result<MegatronFolder> open_megatron(const std::filesystem::path& folder,
                                                   const std::vector<family::FamilyPtr>& families,
                                                   const kinds::Catalogue& kinds,
                                                   const RulesHook& rules = {});

/// The part of open_megatron that needs no files: holds a parsed manifest against a config, and
/// fills in the model. `file` is for messages.
[[nodiscard]] Status fit_manifest(MegatronFolder& folder, const nlohmann::json& config,
                                  const std::vector<family::FamilyPtr>& families,
                                  const kinds::Catalogue& kinds, const RulesHook& rules,
                                  const std::string& file);

/// Every shard file that a manifest lists is there. Errors: CacheIncomplete naming those that are
/// not.
[[nodiscard]] Status check_shards_there(const std::filesystem::path& folder,
                                        const io::Digests& listed);
/// The same for a folder whose manifest may be of another program, or absent: then nothing is known
/// and nothing is wrong.
[[nodiscard]] Status check_shards_there(const std::filesystem::path& folder);

/// Every file of the folder that its manifest lists, relative; errors as for the manifest.
[[nodiscard]] Result<std::vector<std::string>> files_of(const std::filesystem::path& folder);

}  // namespace bv::checkpoint
