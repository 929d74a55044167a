#pragma once
// The differences of two checkpoints as verdicts: one for each cause and pattern of names.

#include <string>
#include <vector>

#include "core/compare/diff.hpp"
#include "core/verdict/verdict.hpp"

namespace bv::cli {

struct DiffVerdicts {
  std::vector<Verdict> names;
  std::vector<Verdict> bytes;
};
/// `layout` is that of the shards; empty for two HF checkpoints. `holder` is named in place of the
/// files of ranks where there are none: the iteration of a torch_dist checkpoint.
[[nodiscard]] DiffVerdicts diff_verdicts(const compare::Comparison& comparison,
                                         const compare::DiffReport& report,
                                         const std::string& layout, const std::string& holder = "");
/// Verdicts of bytes as verdicts of the claim shapes, where values were not compared.
[[nodiscard]] std::vector<Verdict> shapes_alone(std::vector<Verdict> of_bytes);
/// A sentence for each reason why parameters in another type than the model's are none the less
/// equal to it.
[[nodiscard]] std::vector<std::string> recast_notes(const compare::DiffReport& report,
                                                    const compare::DiffOptions& how);

}  // namespace bv::cli
