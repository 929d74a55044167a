#pragma once
// Checkpoints whose weights are stored in fewer bits (FP8, MXFP4, GPTQ, ...), recognised in one
// place for every family and for none: from tensor names, dtypes and shapes, and from what
// config.json says. A dequantiser starts from `Weight`.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/result.hpp"
#include "core/base/tensor_spec.hpp"
#include "core/kinds/dequantise.hpp"

namespace bv::quantised {

/// One weight that is stored in fewer bits: the tensor with its bits, and those that give its
/// values back (scales, zero points, ...), in name order. The headers must outlive it.
struct Weight {
  std::string name;  // of the weight that it stands for: "model.layers.0.mlp.up_proj.weight"
  const TensorSpec* bits = nullptr;
  std::vector<const TensorSpec*> companions;
  const TensorSpec* scale = nullptr;         // the companion that `form` reads
  std::optional<kinds::QuantisedForm> form;  // how its elements are computed
  std::string undefined;                     // why they are not, when there is no form
};

/// Weights of one scheme.
struct Group {
  std::string scheme;    // "FP8 (E4M3) with 128 x 128 block scales"
  std::string upstream;  // what makes a dequantised checkpoint of it; "" when nothing is known
  std::vector<Weight> weights;
};

struct Source {
  std::vector<Group> groups;                // most weights first, then by name
  std::string config;                       // what config.json says, "" when it says nothing
  std::vector<std::string> taken;           // sizes of blocks that it does not say, and from what
  std::vector<std::string> contradictions;  // modules that it says otherwise of (said_modules.hpp)
  std::int64_t tensors = 0;                 // weights with their companions
  std::int64_t left = 0;                    // tensors that are not quantised
};

/// The quantised weights of a checkpoint; nullopt when it has none, whatever its config says. A
/// tensor of an odd dtype without companions is none: nothing says how its values are meant.
/// Tensors of absent shards are known by name alone (BF16 without a shape): unmistakable names
/// count.
[[nodiscard]] std::optional<Source> find(std::span<const TensorSpec* const> tensors,
                                         const nlohmann::json& config);
[[nodiscard]] std::optional<Source> find(const Headers& headers, const nlohmann::json& config);

/// "quantization_config: quant_method fp8, weight_block_size [128, 128]": what config.json says of
/// a quantisation, at the top or in one of its objects; "" when it says nothing.
[[nodiscard]] std::string stated(const nlohmann::json& config);

/// "448 tensors in FP8 (E4M3) with 128 x 128 block scales", the groups joined.
[[nodiscard]] std::string summary(const Source& source);

/// Takes away what the config says of a quantisation, at the top and in its objects. The paths:
/// "quantization_config", "text_config.quantization_config".
std::vector<std::string> forget(nlohmann::json& config);

/// Has every weight a form?
[[nodiscard]] bool can_dequantise(const Source& source);

/// Unsupported, as one message: scheme, counts, examples, how it is known, the next step.
[[nodiscard]] Error refusal(const Source& source);

}  // namespace bv::quantised
