#pragma once
// An adapter of packed experts as one pair an expert and projection: for runtimes that know no
// packed parameters. gate and up share the values of their A.

#include "core/convert/stream.hpp"
#include "core/lora/adapter.hpp"

namespace bv::lora {

/// The base as a model whose decoder experts are stored one by one, headers alone. Errors:
/// AdapterNoForm when its family has no such form.
[[nodiscard]] Result<checkpoint::HfModel> per_expert_base(const checkpoint::HfModel& base,
                                                          const kinds::Catalogue& kinds);

struct UnpackedAdapter {
  convert::OutputFile weights;
  std::string config_text;
};
/// `adapter` was opened on per_expert_base. Pairs that are no experts' go along as they are.
/// Errors: AdapterNoForm for biases and trained tensors; those of check_usable.
[[nodiscard]] Result<UnpackedAdapter> plan_unpacked(const Adapter& adapter,
                                                    const checkpoint::HfModel& base);

}  // namespace bv::lora
