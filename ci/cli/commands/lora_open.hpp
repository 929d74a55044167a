#pragma once
// What the verbs of `lora` look at: a base model with its weights, and an adapter fitted to it.

#include "ci/cli/session/adapter_session.hpp"
#include "core/lora/adapter.hpp"

namespace bv::cli {

struct BaseAndAdapter {
  OpenedModel model;
  lora::Adapter adapter;  // views nothing of the model
};
/// --model and --adapter, of PEFT; gives the run its header. Errors: those of open_adapter_base and
/// lora::open_adapter; ModelNotFound for a base that is known by its headers alone;
/// AdapterNotFinite.
[[nodiscard]] Result<BaseAndAdapter> open_base_and_adapter(Context& context, const Options& options,
                                                           const Library& library, Run& run,
                                                           UnknownBase unknown);

/// --merged DIR: a merged checkpoint, held against base and adapter; verdicts, a claim and notes
/// are added to the run. Errors: those of io::Checkpoint::open.
[[nodiscard]] Status judge_merged_folder(Context& context, const Options& options,
                                         const checkpoint::HfModel& base,
                                         const lora::Adapter& adapter, Run& run);

}  // namespace bv::cli
