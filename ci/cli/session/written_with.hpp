#pragma once
// What a checkpoint of ours was written with: options that nobody has to repeat.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "ci/cli/session/session.hpp"
#include "core/checkpoint/megatron_folder.hpp"

namespace bv::cli {

struct WrittenWith {
  /// The given options, and what the file says where the command line says nothing.
  Options options;
  checkpoint::MegatronFolder manifest;  // of a torch_dist checkpoint: its choices alone
  std::string file;                     // as shown
  std::string who;                      // "manifest.json of B"
  std::vector<std::string> notes;       // what was taken, and what contradicts the command line

  /// The options with which the model of A is opened: with the family or the rules of the manifest
  /// where those that A has of itself are others. Errors: those of opening it; ManifestDisagrees
  /// when only its own family reads it, and the file names another.
  [[nodiscard]] Result<OpenedModel> open(const Context& context, const std::string& model,
                                         const Library& library);
  /// After `open`: the options that name family, rules and what was left out, for who opens the
  /// model in another way.
  [[nodiscard]] Options all_options(const std::string& model) const;
  /// The layout of the shards. Errors: ManifestDisagrees when their names say another one.
  [[nodiscard]] Status check_layout(const parallel::Layout& of_names) const;
  /// The error with what was taken. A manifest is input: its numbers are no usage errors.
  [[nodiscard]] Error as_input(Error error) const;

 private:
  [[nodiscard]] Error another_model(const OpenedModel& opened, const std::string& model) const;
};

/// nullopt when the folder has no manifest of ours. Only whole facts are taken: the shards are
/// compared, whatever it says. Errors: those of parse_manifest.
[[nodiscard]] Result<std::optional<WrittenWith>> written_with(const Options& given,
                                                              const std::filesystem::path& folder);
/// The same of an iteration of a torch_dist checkpoint. `side` is what the report calls it.
[[nodiscard]] Result<std::optional<WrittenWith>> dist_written_with(
    const Options& given, const std::filesystem::path& iteration, std::string_view side);

/// What to do when B says that it was written with an adapter, and none was given; "" otherwise. A
/// may be the merged model itself, so that B may hold A all the same.
[[nodiscard]] std::string adapter_hint(const WrittenWith& written, const Options& options);

}  // namespace bv::cli
