#pragma once
// An adapter of PEFT for whatever model a folder holds, so that merges of large models can be timed
// where nothing else makes one.

#include <cstdint>
#include <filesystem>

#include "core/base/result.hpp"

namespace bv::cuda {

/// Factors in BF16 for every projection of the layers of `model`, packed experts included, in the
/// forms of PEFT 0.19.1 and later; their number. `out` is made. Errors: ModelNotFound.
[[nodiscard]] Result<std::int64_t> write_adapter(const std::filesystem::path& model,
                                                 const std::filesystem::path& out,
                                                 std::int64_t rank);

}  // namespace bv::cuda
