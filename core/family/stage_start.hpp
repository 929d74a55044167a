#pragma once
// Which layers a pipeline stage may start on.

#include <string>
#include <vector>

#include "core/family/families.hpp"

namespace bv::family {

/// What the first layer of every pipeline stage but the first must be.
struct StageStart {
  std::string flag;     // layer flag: "indexer"
  std::string noun;     // what such a layer has: "indexer of its own"
  std::string because;  // why, with its source
};
/// Those of the decoder.
[[nodiscard]] std::vector<StageStart> stage_starts(const Family& family);

}  // namespace bv::family
