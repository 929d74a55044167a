#pragma once
// A folder that lora slice wrote, or says that it did: slices.json and a file for each rank.

#include <filesystem>
#include <string>
#include <vector>

#include "core/base/result.hpp"
#include "core/io/checkpoint.hpp"
#include "core/serve/slice.hpp"

namespace bv::lora {

struct SlicesFolder {
  Serving serving;                    // as slices.json says it
  std::string text;                   // of slices.json: a JSON object of our schema
  std::vector<std::size_t> ranks;     // numbers of the files that are there, ascending
  std::vector<io::Checkpoint> files;  // one a number
};
/// Errors: AdapterInvalid for a slices.json that is not there or cannot be used; those of
/// io::Checkpoint::open.
[[nodiscard]] Result<SlicesFolder> open_slices(const std::filesystem::path& folder);

}  // namespace bv::lora
