#pragma once
// The small files of a torch_dist checkpoint, as Megatron-Core reads them.

#include <string>

#include "core/torch_dist/metadata.hpp"

namespace bv::torch_dist {

/// `.metadata`: what read_metadata reads again. `checkpoint_id` is the name of the iteration's
/// folder, `save_id` a UUID. Types are those of parameters.
[[nodiscard]] std::string metadata_text(const Metadata& metadata, const std::string& checkpoint_id,
                                        const std::string& save_id);

/// metadata.json, without keys that older readers refuse.
[[nodiscard]] std::string format_text();

/// common.pt of a checkpoint that a conversion made: iteration 0, nothing of a training run.
[[nodiscard]] std::string common_file();

/// The item of a module's `_extra_state` without state of FP8: a list of one empty tensor.
[[nodiscard]] std::string empty_extra_state();

}  // namespace bv::torch_dist
