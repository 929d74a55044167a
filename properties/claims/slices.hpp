#pragma once
// What a server loads on each rank, held against the adapter: by what slicing computes, and by
// putting the parts together.

#include <filesystem>
#include <vector>

#include "core/base/result.hpp"
#include "core/verdict/verdict.hpp"
#include "properties/claims/adapter.hpp"

namespace bv::claims {

/// Verdicts of the claim adapter-slices about a folder of lora slice: one for each layer of the
/// server, one for each fault. The adapter has no faults. Errors: those of lora::open_slices.
[[nodiscard]] Result<std::vector<Verdict>> judge_slices(const AdapterSubject& subject,
                                                        const std::filesystem::path& folder);

}  // namespace bv::claims
