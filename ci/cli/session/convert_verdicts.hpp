#pragma once
// What convert found wrong with a Megatron checkpoint, as verdicts.

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "core/convert/convert.hpp"
#include "core/verdict/verdict.hpp"

namespace bv::cli {

/// What is wrong with a Megatron folder that was read; nothing was written then.
[[nodiscard]] std::vector<Verdict> folder_verdicts(const convert::ConvertReport& report);

/// Padding rows that are dropped and hold something, and tensors that were cast. The two folders
/// are those that a comparison of the values takes.
[[nodiscard]] std::vector<Error> value_warnings(const convert::ConvertReport& report,
                                                const std::string& checkpoint,
                                                const std::string& hf);

/// Copies of one parameter that two ranks hold and that differ.
[[nodiscard]] std::vector<Verdict> replica_verdicts(
    const std::vector<convert::ReplicaFault>& faults);

/// About one file that was written, and read back when `verified`.
[[nodiscard]] Verdict written_verdict(const std::string& file, std::size_t tensors, bool verified);

/// How many safetensors files lie below a folder.
[[nodiscard]] std::int64_t weight_files(const std::filesystem::path& folder);

/// What is said behind "N files written to DIR" of a run that refuted casts and wrote them all the
/// same; "" of any other.
[[nodiscard]] std::string_view although_lossy(const Run& run);

}  // namespace bv::cli
