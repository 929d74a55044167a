#pragma once
// Which HF tensors make a Megatron parameter: written by hand, for the golden
// families only. Shares nothing with core/families.

#include <string>
#include <vector>

#include "golden_checkpoint.hpp"

namespace bv::oracle {

/// HF names of a global Megatron name, chosen among the stored ones; empty when this table does not
/// know it.
std::vector<std::string> hf_names_of(const std::string& megatron, const StoredTensors& stored);

}  // namespace bv::oracle
