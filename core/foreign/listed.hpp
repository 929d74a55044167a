#pragma once
// Parameters that only their names describe.

#include <string>
#include <vector>

#include "core/foreign/name_faults.hpp"

namespace bv::foreign {

/// A parameter without a rule of a family: stage, number, template and expert from its name.
[[nodiscard]] WantedParameter from_name(const std::string& name, const std::string& text_prefix);

/// The model has the listed parameters: layers, MTP layers, experts and an output layer of its own
/// are those of the list, whatever the config says.
void follow_list(const std::vector<WantedParameter>& parameters, model::Model& model);
}  // namespace bv::foreign
