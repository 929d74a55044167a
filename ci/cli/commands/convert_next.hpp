#pragma once
// What convert wrote, and the command that judges it.

#include "ci/cli/options/options.hpp"
#include "core/checkpoint/hf_model.hpp"
#include "core/verdict/verdict.hpp"

namespace bv::cli {

/// `next` of a run that wrote a Megatron checkpoint of `source`: check --megatron, with what
/// neither manifest.json nor bridge-verify.json says. Nothing when nothing was written.
void add_next_of_megatron(const Options& options, const checkpoint::HfModel& source, Run& run);
/// `next` of a run that wrote an HF model: the same command with the model that was written.
void add_next_of_hf(const Options& options, Run& run);

}  // namespace bv::cli
