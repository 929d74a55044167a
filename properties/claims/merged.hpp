#pragma once
// A merged checkpoint that somebody made, held against base and adapter: every element within the
// bound of what float32 can make of base + s * (B * A), everything else as in the base.

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/progress.hpp"
#include "core/checkpoint/hf_model.hpp"
#include "core/io/checkpoint.hpp"
#include "core/lora/adapter.hpp"
#include "core/verdict/verdict.hpp"
#include "oracles/lora_merge.hpp"

namespace bv::claims {

struct MergedJudgement {
  /// One for each tensor that the adapter changes, one for all others that are as in the base, and
  /// one for each that is not. A refuted one carries the histogram of error over bound.
  std::vector<Verdict> verdicts;
  oracle::MergeTally tally;          // of all merged tensors together
  std::int64_t merged = 0;           // tensors that the adapter changes
  std::string worst;                 // the tensor with the largest error over bound
  std::vector<std::string> notes{};  // copies that one of the two stores and the other does not
};

/// The base needs its weights; the adapter was fitted to it and has no faults. `ties`: the config
/// of the merge ties the output layer, which it then need not store. Errors: Stopped.
[[nodiscard]] Result<MergedJudgement> judge_merged(const checkpoint::HfModel& base,
                                                   const lora::Adapter& adapter,
                                                   const io::Checkpoint& merged, bool ties,
                                                   int jobs, ProgressSink* progress);

/// "0: 1,204  to 2^-8: 3  ...  above 1: 0": only bins that hold something.
[[nodiscard]] std::string histogram_text(const oracle::MergeTally& tally);

}  // namespace bv::claims
