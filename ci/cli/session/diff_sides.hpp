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
#include "core/io/locate.hpp"
#include "core/plan/plan.hpp"

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

/// Sizes of the names of shards, and what names cannot say from the options. Errors: Conflict when
/// they disagree; those of compare::layout_of_shards.
[[nodiscard]] Result<parallel::Layout> layout_of(const std::vector<std::string>& names,
                                                 const Options& options);

/// Boxes are only read over tensors of the shapes that the rules state. Errors: ConfigField.
[[nodiscard]] Status shapes_right(const checkpoint::HfModel& hf, const plan::Plan& plan);

/// A sentence when the tensors of a Megatron checkpoint stand behind a common prefix ("module.",
/// "model."): what wrapped the model was saved with it. "" otherwise.
[[nodiscard]] std::string wrapper_note(const plan::Plan& plan, const Headers& found);

}  // namespace bv::cli
