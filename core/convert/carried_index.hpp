#pragma once
// The index of an HF folder among the files that are carried along.

#include <exception>
#include <filesystem>
#include <string>

#include "core/base/result.hpp"
#include "core/convert/carry.hpp"

namespace bv::convert {

/// The index that the weights of `folder` were found by, as it is to be written; nullptr without
/// one. That of torch files gets the names of the safetensors that are written. Errors:
/// IndexInvalid, ReadFailed.
[[nodiscard]] Result<CarriedFile*> carried_index(CarryPlan& carried,
                                                 const std::filesystem::path& folder);

/// What is written of the file. Errors: IndexInvalid when it is too large for an index, ReadFailed.
[[nodiscard]] Result<std::string> text_of(const CarriedFile& file);

/// The error of an index that was read before, and that a change of it could not read.
[[nodiscard]] Error cannot_write_index(const std::exception& problem);

}  // namespace bv::convert
