#pragma once
// The verbs of `lora`: one file each.

#include "ci/cli/command.hpp"

namespace bv::cli {

int run_lora_check(Context& context, const Options& options);
int run_lora_convert(Context& context, const Options& options);
int run_lora_merge(Context& context, const Options& options);
int run_lora_slice(Context& context, const Options& options);
int run_lora_unpack(Context& context, const Options& options);

}  // namespace bv::cli
