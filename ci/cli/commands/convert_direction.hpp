#pragma once
// Which options of convert belong to which direction.

#include "ci/cli/options/options.hpp"
#include "core/base/result.hpp"
#include "core/io/locate.hpp"
#include "core/plan/plan.hpp"
#include "core/torch_dist/store.hpp"
#include "core/verdict/verdict.hpp"

namespace bv::cli {

/// An option that the direction cannot follow would look as if it had been followed. From the
/// environment it may be meant for other commands: then it is a note of the run. Errors: Conflict,
/// UnknownOption.
[[nodiscard]] Status check_direction(const Options& options, Run& run);

/// What --to hf reads there: the Megatron checkpoint of a folder that also has a config.json.
[[nodiscard]] Result<io::LocatedModel> megatron_of(io::LocatedModel located);

/// The layout of the run, with what was decided of it.
[[nodiscard]] std::string layouts_line(const parallel::Layout& layout, const std::string& etp,
                                       const std::string& padding);
/// The numbers of the checkpoint that is read; names and files are those of --like.
void describe_checkpoint(const torch_dist::DistCheckpoint& store, const std::string& like,
                         Run& run);

/// Why --to hf has nothing to read there, and what can be done with it.
[[nodiscard]] Error no_way_back(const io::LocatedModel& located);

/// --quantised restore of a folder that kept no quantised form would look as if it had been
/// followed. Errors: Conflict.
[[nodiscard]] Status check_form(const Options& options, bool keeps_one);

/// A note of tensors of the model that were left out when the folder was written.
void tell_left_out(const Options& options, const std::vector<std::string>& names, Run& run);

}  // namespace bv::cli
