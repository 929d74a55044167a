#pragma once
// How a checkpoint of somebody else spells the names that Megatron spells in several ways.

#include <functional>
#include <string>
#include <vector>

#include "ci/cli/options/options.hpp"
#include "core/model/model.hpp"

namespace bv::cli {

/// Gives `model` the spelling of which most names are there, among those that no option decides:
/// fused norms or not (--transformer-impl), grouped or sequential experts. The spelling of `model`
/// wins a tie. A note says what was taken.
void take_spelling(const Options& options, const std::function<bool(const std::string&)>& has,
                   model::Model& model, std::vector<std::string>& notes);

}  // namespace bv::cli
