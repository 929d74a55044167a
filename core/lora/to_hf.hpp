#pragma once
// A Megatron adapter -> the keys and the config that PEFT loads into the base's class.

#include <memory>
#include <string>
#include <vector>

#include "core/convert/stream.hpp"
#include "core/lora/adapter.hpp"
#include "core/lora/megatron_adapter.hpp"

namespace bv::lora {

struct HfAdapterFiles {
  convert::OutputFile weights;  // adapter_model.safetensors: boxes over the shards
  AdapterConfig config;
  std::string config_text;  // adapter_config.json
  std::vector<std::string> notes;
  std::shared_ptr<const void> keeps;  // what was computed of the adapter
};

/// The layout of the packed version that is written: A [E*r, in], B [out, r*E].
inline constexpr const char* kWrittenPeftVersion = "0.21.2";

/// The base as its class has it, experts packed where the family knows that form: what PEFT names.
/// Errors: those of model::resolve.
[[nodiscard]] Result<model::Model> class_model(const checkpoint::HfModel& base);

/// `sites` are those of the adapter's layout, `of_class` those of class_model on the same layout.
/// The adapter must be free of faults. Errors: AdapterNoForm; ScaleWrong for pairs on one layer of
/// the class whose scales differ by no power of two.
[[nodiscard]] Result<HfAdapterFiles> plan_to_hf(const MegatronAdapter& adapter,
                                                const SitePlan& sites, const SitePlan& of_class,
                                                const checkpoint::HfModel& base);

/// A Megatron adapter as pairs on the base, its factors put together in memory: for a merge or a
/// judgement. Errors: those of plan_to_hf and fit_adapter.
[[nodiscard]] Result<Adapter> adapter_in_memory(const HfAdapterFiles& files,
                                                const checkpoint::HfModel& base,
                                                const kinds::Catalogue& kinds);

}  // namespace bv::lora
