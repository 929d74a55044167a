#pragma once
// Quantised weights of an opened checkpoint as the tensors that they are dequantised to.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "core/checkpoint/hf_model.hpp"
#include "core/quantised/quantised.hpp"

namespace bv::checkpoint {

/// Every weight of `source`, which has a form, as a tensor of `dtype`; in name order.
[[nodiscard]] std::vector<Dequantised> dequantised_weights(const quantised::Source& source,
                                                           DType dtype);
/// Takes away what the config says of a quantisation, in both of its forms.
void drop_quantisation(nlohmann::json& config, std::string& config_text);
/// The checkpoint gives the weights from now on. Errors: QuantisedSource when a tensor weight_shape
/// says another shape than the one that the packed values have.
[[nodiscard]] Status add_dequantised(const std::vector<Dequantised>& weights,
                                     io::Checkpoint& checkpoint);
/// What was done, and what stays behind. `summary` is that of the source.
[[nodiscard]] std::string dequantised_note(const std::vector<Dequantised>& weights,
                                           const std::string& summary);

}  // namespace bv::checkpoint
