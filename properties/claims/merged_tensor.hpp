#pragma once
// One tensor of a merged checkpoint, held against base and adapter.

#include <span>
#include <string>

#include "core/merge/merge_tensor.hpp"
#include "core/verdict/verdict.hpp"
#include "oracles/lora_merge.hpp"

namespace bv::claims {

/// A verdict of the claim adapter-merge about one tensor.
[[nodiscard]] Verdict merge_verdict(const std::string& tensor, Outcome outcome);
[[nodiscard]] Verdict refuted_merge(const std::string& tensor, Code code, std::string title,
                                    std::string found, std::string wanted, std::string help);

/// A tensor that the adapter changes: elements that it reaches within the bound, the others as in
/// the base. Both sides have the shape and dtype of `spec`. `tally` is filled with what was found.
[[nodiscard]] Verdict judge_merged_tensor(const TensorSpec& spec, std::span<const std::byte> base,
                                          std::span<const std::byte> found,
                                          const lora::TensorEdits& edits,
                                          oracle::MergeTally& tally);

}  // namespace bv::claims
