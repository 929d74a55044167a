#pragma once
// A base and its adapter, whichever side the adapter is of.

#include <filesystem>
#include <memory>
#include <optional>

#include "ci/cli/session/session.hpp"
#include "core/lora/convert_adapter.hpp"
#include "core/lora/megatron_adapter.hpp"
#include "core/lora/to_hf.hpp"
#include "properties/claims/adapter.hpp"

namespace bv::cli {

/// The layers of a model that hold adapters on one layout; parts view each other.
struct LayerPlan {
  std::unique_ptr<plan::Plan> plan;
  std::unique_ptr<lora::SitePlan> sites;
};
/// The model and the catalogue must outlive it. Errors: those of Plan::make and SitePlan::make.
[[nodiscard]] Result<LayerPlan> plan_layers(const model::Model& model,
                                            const kinds::Catalogue& kinds,
                                            const parallel::Layout& layout);

/// Does a folder hold files of ranks in place of an adapter of PEFT?
[[nodiscard]] bool is_megatron_adapter(const std::filesystem::path& folder);

/// A Megatron adapter with everything that it is read through.
struct OpenedMegatronAdapter {
  LayerPlan layers;
  std::unique_ptr<model::Model> of_class;
  LayerPlan class_layers;
  lora::MegatronAdapter adapter;
};
/// The layout is that of adapter.json, of the sizes that are given, or of the files' names. Errors:
/// those of open_megatron_adapter; Conflict for sizes beside adapter.json.
[[nodiscard]] Result<OpenedMegatronAdapter> open_adapter_of_ranks(const Options& options,
                                                                  const checkpoint::HfModel& base,
                                                                  const kinds::Catalogue& kinds);

/// A base of an architecture that no family knows: nothing says how Megatron holds it, and an
/// adapter of PEFT can be judged on it and merged into it.
enum class UnknownBase { Refuse, Open };
/// Opens --model and gives the run its header. Errors: BadValue without --adapter; those of
/// open_model.
[[nodiscard]] Result<OpenedModel> open_adapter_base(Context& context, const Options& options,
                                                    const Library& library, Run& run,
                                                    UnknownBase unknown = UnknownBase::Refuse);

/// --adapter of either side, as pairs on tensors of the base.
struct PairsOfFolder {
  OpenedMegatronAdapter ranks;  // viewed by the pairs
  lora::Adapter adapter;
  std::optional<parallel::Layout> layout;  // of the ranks
};
/// Errors: those of open_adapter and open_adapter_of_ranks.
[[nodiscard]] Result<PairsOfFolder> open_pairs(const Options& options,
                                               const checkpoint::HfModel& base,
                                               const kinds::Catalogue& kinds);

/// What is asked of an adapter before anything is made of it. Modules that PEFT does not wrap for
/// the config, or wraps too many of, are a warning: what is made is right. Errors: AdapterNotFinite
/// naming factor and element.
[[nodiscard]] Status check_before_writing(const claims::AdapterSubject& subject, Run& run);

/// --adapter of either side on its base: the claims about it are added to the run. `layouts` are
/// those that an adapter of PEFT is judged on; one of ranks has its own. Of those that nobody asked
/// for, the ones that cut a factor unevenly are left out, and a note says which. Errors: those of
/// open_adapter and open_adapter_of_ranks.
[[nodiscard]] Status judge_adapter_folder(const Options& options, const checkpoint::HfModel& base,
                                          const kinds::Catalogue& kinds,
                                          const ChosenLayouts& layouts, Run& run);

/// One verdict for each file that was written and read back; `layout` is "" for HF files.
void add_written_files(const io::Digests& digests, const Options& options,
                       const std::string& layout, Run& run);
/// The same, and what the report of a conversion says.
void add_written(const lora::ConvertAdapterReport& report, const Options& options,
                 const std::string& layout, Run& run);

/// "r 16, alpha 32, scale 2, 384 pairs" for the report.
[[nodiscard]] std::string adapter_line(const lora::Adapter& adapter);

}  // namespace bv::cli
