#pragma once
// The files of an HF checkpoint as they are made of Megatron shards.

#include <filesystem>
#include <vector>

#include "core/checkpoint/megatron_folder.hpp"
#include "core/checkpoint/megatron_shards.hpp"
#include "core/convert/stream.hpp"

namespace bv::convert {

/// `source` was held against the plan: every listed tensor is made by one mapping, or is a copy of
/// such a one. Plan and shards must outlive the result.
[[nodiscard]] std::vector<OutputFile> hf_outputs(const checkpoint::MegatronFolder& source,
                                                 const plan::Plan& plan,
                                                 const checkpoint::Shards& shards);

/// Opens what was written, as the next reader will, before it gets its name: index, names of files
/// and headers must make the checkpoint that was meant. Errors: IndexDisagrees with what the reader
/// says.
[[nodiscard]] Status check_opens(const std::filesystem::path& folder, const Headers& wanted);

}  // namespace bv::convert
