#pragma once
// What a Megatron folder of ours was written with: options that nobody has to repeat.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "ci/cli/session/session.hpp"
#include "core/checkpoint/megatron_folder.hpp"

namespace bv::cli {

struct WrittenWith {
  /// The given options, and what manifest.json says where the command line says nothing.
  Options options;
  checkpoint::MegatronFolder manifest;
  std::string file;                // manifest.json as shown
  std::vector<std::string> notes;  // what was taken, and what contradicts the command line

  /// The options with which the model of A is opened: with the family or the rules of the manifest
  /// where those that A has of itself are others.
  [[nodiscard]] Result<OpenedModel> open(const Context& context, const std::string& model,
                                         const Library& library);
  /// The layout of the shards. Errors: ManifestDisagrees when their names say another one.
  [[nodiscard]] Status check_layout(const parallel::Layout& of_names) const;
  /// The error with what was taken. A manifest is input: its numbers are no usage errors.
  [[nodiscard]] Error as_input(Error error) const;
};

/// nullopt when the folder has no manifest of ours. Only whole facts are taken: the shards are
/// compared, whatever it says. Errors: those of parse_manifest.
[[nodiscard]] Result<std::optional<WrittenWith>> written_with(const Options& given,
                                                              const std::filesystem::path& folder);

}  // namespace bv::cli
