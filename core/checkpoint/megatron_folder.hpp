#pragma once
// A Megatron folder of ours, opened: its manifest, and the model that its shards hold.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/base/tensor_spec.hpp"
#include "core/io/digest.hpp"
#include "core/model/model.hpp"
#include "core/parallel/parallel.hpp"
#include "core/plan/dtype_policy.hpp"

namespace bv::checkpoint {

/// A Megatron folder of ours: manifest, shards, and the HF side that it was made from.
struct MegatronFolder {
  std::filesystem::path folder;
  parallel::Layout layout;
  plan::DtypePolicy dtype;
  std::string family;
  model::ResolveOptions resolve;
  std::string config_text;
  Headers hf_headers;
  std::map<std::string, std::string> hf_file_of;                          // tensor -> file name
  std::map<std::string, std::map<std::string, std::string>> hf_metadata;  // file -> __metadata__
  std::vector<std::string> carried;
  io::Digests digests;
  model::Model model;
};
/// Errors: NoConfig, RulesInvalid, ShapeMismatch: manifest and shards must agree.
[[nodiscard]] Result<MegatronFolder> open_megatron(const std::filesystem::path& folder,
                                                   const std::vector<family::FamilyPtr>& families);

}  // namespace bv::checkpoint
