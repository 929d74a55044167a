#pragma once
// Reads the golden cases under fixtures/golden: checkpoints, shards and the vectors computed by the
// real libraries. A reader of its own, so that these tests share nothing with core/io.

#include <string>
#include <vector>

#include "oracles/forward/forward.hpp"

namespace bv::oracle::forward::golden {

/// Every tensor of one safetensors file, widened exactly to float64 (F64, F32, BF16, I64). Throws
/// when it cannot.
[[nodiscard]] NamedTensors read_file(const std::string& path);
/// Every tensor of the model*.safetensors files of fixtures/golden/hf/<name>.
[[nodiscard]] NamedTensors read_checkpoint(const std::string& name);
[[nodiscard]] std::string read_text(const std::string& path);
[[nodiscard]] ModelFacts facts_of(const std::string& name);
[[nodiscard]] NamedTensors vectors_of(const std::string& name);
[[nodiscard]] std::string root();

/// The text input of a case's vectors, and the input with the image.
[[nodiscard]] Inputs text_inputs(const NamedTensors& vectors);
[[nodiscard]] Inputs image_inputs(const NamedTensors& vectors);

/// The shards that the real bridge wrote for fixtures/golden/megatron/<name>/<layout>.json: the
/// command makes their bytes again, and every tensor has the digest of the real one. Throws when
/// one has not.
[[nodiscard]] std::vector<RankTensors> read_shards(const std::string& name,
                                                   const std::string& layout);

/// The same tensor without its leading axes of extent 1.
[[nodiscard]] Tensor squeezed(const Tensor& tensor, std::size_t ndim);

}  // namespace bv::oracle::forward::golden
