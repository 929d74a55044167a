#pragma once
// The HF folder of a conversion: which of its tensors come back, in which files, and what goes
// along.

#include <string>
#include <vector>

#include "core/checkpoint/hf_model.hpp"
#include "core/checkpoint/megatron_folder.hpp"
#include "core/convert/carry.hpp"
#include "core/plan/dtype_policy.hpp"

namespace bv::convert {

/// What a manifest says of the HF side; `source` has its checkpoint.
[[nodiscard]] checkpoint::MegatronFolder describe_hf_side(const checkpoint::HfModel& source,
                                                          const parallel::Layout& layout,
                                                          const plan::DtypePolicy& policy);

/// Config, tokenizer and code go along; what the options changed goes along as they left it.
[[nodiscard]] Result<CarryPlan> plan_hf_side(const checkpoint::HfModel& source,
                                             const checkpoint::MegatronFolder& description,
                                             bool follow_links);

/// Config and index of the quantised form: what says other than in the plain one. `side` has its
/// headers.
[[nodiscard]] Result<CarryPlan> plan_quantised_side(const checkpoint::HfModel& source,
                                                    const checkpoint::MegatronFolder& description,
                                                    const checkpoint::QuantisedSide& side,
                                                    bool follow_links);

/// The file of --rules into `folder`, as checkpoint::kRulesName. Errors: those of reading and
/// writing.
[[nodiscard]] Result<io::FilePrint> copy_rules(const std::filesystem::path& rules,
                                               const std::filesystem::path& folder);

/// Notes buffers that loaders compute; what --drop-mtp and --exclude take away is told by the
/// command.
void tell_left_out(const checkpoint::HfModel& source, const checkpoint::MegatronFolder& description,
                   std::vector<std::string>& notes);

}  // namespace bv::convert
