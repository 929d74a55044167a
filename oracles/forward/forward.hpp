#pragma once
// The forward oracles: one model computed twice, in float64 and at tiny sizes. The HF form reads a
// checkpoint as transformers does; the Megatron form reads the shards of every rank and computes as
// Megatron-Core does, each rank with its own tensors and with the collectives between them written
// out. Weights that moved rightly give equal outputs; a transposed square matrix or a swapped half
// that survives every round trip does not.
//
// Written from the public model definitions (transformers 5.12.1, Megatron-Core 0.19.2,
// Megatron-Bridge 0.6.2 for the vision tower). Shares with core/ only Result and the config fields;
// the two forms share the functions without weights (norm, rope, softmax attention, delta rule,
// routing) and nothing that says where a weight lies. No LibTorch in this header. Everything is a
// pure function of its arguments; one thread.

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/base/result.hpp"
#include "oracles/forward/facts.hpp"

namespace bv::oracle::forward {

/// A dense tensor, last axis fastest.
struct Tensor {
  std::vector<std::int64_t> shape;
  std::vector<double> values;
};

using NamedTensors = std::map<std::string, Tensor, std::less<>>;

/// What one (pp, tp, ep, etp, vpp) shard holds: local names, layer and expert numbers local.
/// Data-parallel copies may all be given; they are compared.
struct RankTensors {
  std::int64_t pp = 0;
  std::int64_t tp = 0;
  std::int64_t ep = 0;
  std::int64_t etp = 0;
  std::int64_t vpp = 0;
  NamedTensors tensors;
};

/// Flattened patches [patches, channels * temporal * patch * patch] in merge order, and (1, h, w)
/// in patches of each image.
struct Images {
  Tensor pixel_values;
  std::vector<std::array<std::int64_t, 3>> grid_thw;
};

struct Inputs {
  std::vector<std::int64_t> input_ids;  // one sequence; image tokens stand where the image goes
  Images images;                        // none when grid_thw is empty
};

/// S tokens, H hidden, V vocabulary (without padding) or labels.
struct Outputs {
  std::vector<Tensor> layer_outputs;      // [S, H] behind each decoder layer
  Tensor final_norm_output;               // [S, H]
  Tensor logits;                          // [S, V]
  std::optional<Tensor> vision_output;    // [image tokens, H]
  std::vector<Tensor> deepstack_outputs;  // [image tokens, H] each
  std::vector<Tensor> mtp_outputs;        // [S, H] behind the last norm of each MTP depth
  std::vector<Tensor> mtp_logits;         // [S, V] each
  std::vector<std::string> unread;        // of the HF form: tensors that nothing computes with
};

/// Most tokens of one input; attention is quadratic and these are oracles for tiny models.
inline constexpr std::int64_t kTokensMax = 256;
/// Most patches of all images of one input.
inline constexpr std::int64_t kPatchesMax = 1024;

/// The model as transformers computes it; the MTP block (which transformers lacks) as vLLM's
/// qwen3_next_mtp. Errors: HfTensorMissing and ShapeMismatch naming the tensor; BadValue for inputs
/// that do not fit.
[[nodiscard]] Result<Outputs> hf_forward(const ModelFacts& facts, const NamedTensors& hf,
                                         const Inputs& inputs);

/// The model as Megatron-Core computes it over all ranks. The parallel sizes are those of the
/// coordinates present; pipeline stages run in the order chunk, then stage; expert e lives on
/// expert-parallel rank e / (E / ep). A padded vocabulary is cut off at V. Layer outputs are those
/// of tensor-parallel rank 0. Errors: MegatronParamUnfilled and ShapeMismatch naming parameter and
/// rank, IndivisibleDim, LayerOnNoStage, ReplicasDiffer, BadValue.
[[nodiscard]] Result<Outputs> megatron_forward(const ModelFacts& facts,
                                               const std::vector<RankTensors>& ranks,
                                               const Inputs& inputs);

/// Tokens spread over the whole vocabulary (first and last row included), with one image where the
/// model has vision of a size that can be tried. The same arguments give the same inputs.
[[nodiscard]] Inputs probe_inputs(const ModelFacts& facts, std::int64_t tokens, std::uint64_t seed);

/// Largest absolute difference of each output by name ("logits", "layer_output.2", ...); infinity
/// where shapes differ, a value is not finite, or only one side has the output.
[[nodiscard]] std::map<std::string, double> differences(const Outputs& one, const Outputs& other);
[[nodiscard]] double largest_difference(const Tensor& one, const Tensor& other);

/// The forward oracles as the module hands them out (oracle.hpp, Entry).
struct Functions {
  Result<ModelFacts> (*read_facts)(std::string_view config_json, std::string_view like);
  Result<Outputs> (*hf_forward)(const ModelFacts&, const NamedTensors& hf, const Inputs&);
  Result<Outputs> (*megatron_forward)(const ModelFacts&, const std::vector<RankTensors>& ranks,
                                      const Inputs&);
  Inputs (*probe_inputs)(const ModelFacts&, std::int64_t tokens, std::uint64_t seed);
};

}  // namespace bv::oracle::forward
