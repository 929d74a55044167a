#pragma once
// A PEFT adapter -> one file a rank, as Megatron's adapter modules hold their factors.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/convert/stream.hpp"
#include "core/lora/adapter.hpp"
#include "core/lora/adapter_record.hpp"
#include "core/lora/sites.hpp"

namespace bv::lora {

struct ToMegatronOptions {
  /// One pair for each of q, k, v, gate and up (Megatron-Bridge's CanonicalLoRA) in place of one
  /// for the fused layer.
  bool canonical = false;
};

/// What the files hold; tensors are boxes over the adapter, made when they are written.
struct MegatronAdapterFiles {
  std::vector<convert::OutputFile> files;  // of the plan; without tensors where it has no adapter
  AdapterRecord record;
  std::vector<std::string> notes;
  std::map<const TensorSpec*, int> folds;  // sources that are a factor times that power of two
  std::shared_ptr<const void> keeps;       // them
};

/// The adapter must be free of faults. Pairs of one fused layer share its A when theirs are equal
/// bit for bit; else A is stacked and B put beside zeros. Where their scales differ by a power of
/// two B takes it in, which changes no digit. Errors: AdapterNoForm (embeddings, trained biases and
/// modules, layers that Megatron has no module for, DoRA of a part of a layer), ScaleWrong (other
/// scales, which one layer cannot have),
/// ExpertPairCount (experts of different ranks), IndivisibleDim.
[[nodiscard]] Result<MegatronAdapterFiles> plan_to_megatron(const Adapter& adapter,
                                                            const SitePlan& sites,
                                                            const ToMegatronOptions& options = {});

/// "decoder.layers.0.self_attention.linear_qkv" (and a key of canonical LoRA, or "") -> names of
/// its factors.
struct AdapterNames {
  std::string a, b, magnitude;
};
[[nodiscard]] AdapterNames megatron_names(std::string_view module, std::string_view key);

}  // namespace bv::lora
