#pragma once
// Tensors that go as they are: which there are under the prefixes that a family names.

#include <string_view>

#include "core/model/model.hpp"

namespace bv::model {

struct FoundCarried {
  family::FamilyPtr family;  // with a rule for each tensor that was found
  std::vector<Detected> detected;
  std::vector<NameFault> faults;  // a prefix without a tensor; blocks that lack one of others
};

/// `before` stands before every name of the checkpoint ("module."), or "". Names with braces are
/// left to nobody. What the sizes rule out is not looked for.
[[nodiscard]] FoundCarried find_carried(const family::FamilyPtr& family, const Headers& headers,
                                        std::string_view before, const Geometry& geometry);

}  // namespace bv::model
