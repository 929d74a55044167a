#pragma once
// Quantised weights of an opened checkpoint as the tensors that they are dequantised to.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "core/checkpoint/hf_model.hpp"
#include "core/checkpoint/megatron_folder.hpp"
#include "core/quantised/quantised.hpp"

namespace bv::checkpoint {

/// Puts each weight of `source`, which has a form, as one tensor of `dtype` in place of its bits
/// and companions. `source` was found in these very headers, and looks at tensors that are gone
/// afterwards. The weights, in name order. Errors: DuplicateKey when a weight is there as well.
[[nodiscard]] Result<std::vector<Dequantised>> take_dequantised(quantised::Source source,
                                                                DType dtype, Headers& headers);
/// Takes away what the config says of a quantisation, in both of its forms.
void drop_quantisation(nlohmann::json& config, std::string& config_text);
/// The checkpoint gives the weights from now on. Errors: QuantisedSource when a tensor weight_shape
/// says another shape than the one that the packed values have.
[[nodiscard]] Status add_dequantised(const std::vector<Dequantised>& weights,
                                     io::Checkpoint& checkpoint);
/// The weights that the quantised form of `folder`, which has one, stands for: recognised from its
/// headers and its config as they were in the source. `file` is for messages. Errors:
/// ManifestDisagrees when they are not weights of the HF side, each with a form.
[[nodiscard]] Result<std::vector<Dequantised>> kept_weights(const MegatronFolder& folder,
                                                            const nlohmann::json& config,
                                                            const std::string& file);
/// The headers of the HF side with these weights, which the folder keeps, as they were stored.
[[nodiscard]] Headers restored_headers(const MegatronFolder& folder,
                                       const std::vector<Dequantised>& weights);
/// What was done, and what stays behind. `summary` is that of the source.
[[nodiscard]] std::string dequantised_note(const std::vector<Dequantised>& weights,
                                           const std::string& summary);

}  // namespace bv::checkpoint
