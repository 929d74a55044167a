#pragma once
// What the two operands of diff are.

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ci/cli/options/options.hpp"
#include "core/base/result.hpp"
#include "core/checkpoint/hf_model.hpp"
#include "core/checkpoint/megatron_folder.hpp"
#include "core/compare/diff.hpp"
#include "core/io/locate.hpp"
#include "core/plan/plan.hpp"
#include "core/verdict/verdict.hpp"
#include "properties/claims/catalogue.hpp"

namespace bv::cli {

/// Shard files of a folder: name without the suffix -> path. Empty when it holds none.
[[nodiscard]] std::map<std::string, std::filesystem::path> shards_in(
    const std::filesystem::path& folder);

/// The checkpoint of Megatron that a folder holds, its notes told. Errors: CacheIncomplete when the
/// iteration that it names is not there.
[[nodiscard]] Result<std::optional<io::LocatedModel>> megatron_in(const std::string& reference,
                                                                  std::vector<std::string>& notes);

/// Two operands, and the first is no shards. Errors: BadValue.
[[nodiscard]] Status check_sides(const std::vector<std::string>& sides);

/// Why `reference` is no checkpoint of Megatron, and what was meant.
[[nodiscard]] Error no_megatron(const std::string& reference);
/// Errors: Conflict for --tp and its like, which say nothing of a torch_dist checkpoint.
[[nodiscard]] Status check_no_sizes(const Options& options);

/// Sizes of the names of shards, and what names cannot say from the options. Errors: Conflict when
/// they disagree; those of compare::layout_of_shards.
[[nodiscard]] Result<parallel::Layout> layout_of(
    const std::map<std::string, std::filesystem::path>& shards, const Options& options);
[[nodiscard]] Result<compare::Shards> open_shards(
    const std::map<std::string, std::filesystem::path>& shards, bool strict);

/// Boxes are only read over tensors of the shapes that the rules state. Errors: ConfigField.
[[nodiscard]] Status shapes_right(const checkpoint::HfModel& hf, const plan::Plan& plan);

/// A note when the tensors of a Megatron checkpoint stand behind a common prefix ("module.",
/// "model."): what wrapped the model was saved with it.
void tell_wrapper(const model::Model& model, const Headers& found, std::vector<std::string>& notes);
/// The same of the tensors of all ranks.
void tell_wrapper(const model::Model& model, const compare::Shards& found,
                  std::vector<std::string>& notes);
/// What a layout of one rank says of a torch_dist checkpoint.
[[nodiscard]] std::string one_rank_note(const parallel::Layout& layout);

/// What --exclude takes on either side is no part of the two models. Errors: those of
/// model::excluded_names.
[[nodiscard]] Status leave_out(const Options& options, Headers all, const Headers& found,
                               compare::Comparison& comparison, std::vector<std::string>& notes);

/// Whether every rank that holds a copy of a parameter holds the same one, and with the manifest of
/// a folder of ours whether no rank, layer or expert holds what another one held: verdicts of claim
/// bytes. None when a rank of the plan is not there. Errors: ManifestDisagrees.
[[nodiscard]] Result<std::vector<Verdict>> copy_verdicts(const plan::Plan& plan,
                                                         compare::Shards shards,
                                                         const checkpoint::MegatronFolder* written,
                                                         int jobs);

/// What is wrong with the names of A, which decide what B must hold: verdicts of claim names.
[[nodiscard]] std::vector<Verdict> name_faults(const checkpoint::HfModel& hf,
                                               const kinds::Catalogue& kinds);

/// What the rules under test leave open, as verdicts of claim "rules". Empty when all of them can
/// be judged.
[[nodiscard]] std::vector<Verdict> open_rules(const claims::Subject& subject);

}  // namespace bv::cli
