#include "ci/cli/session/adapter_session.hpp"

#include <fmt/format.h>

#include <set>

#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"

namespace bv::cli {
namespace fs = std::filesystem;

Result<LayerPlan> plan_layers(const model::Model& model, const kinds::Catalogue& kinds,
                              const parallel::Layout& layout) {
  BV_TRY(plan, plan::Plan::make(model, kinds, layout));
  LayerPlan out;
  out.plan = std::make_unique<plan::Plan>(std::move(plan));
  BV_TRY(sites, lora::SitePlan::make(*out.plan, kinds));
  out.sites = std::make_unique<lora::SitePlan>(std::move(sites));
  return out;
}

bool is_megatron_adapter(const fs::path& folder) {
  std::error_code ignored;
  return !fs::exists(folder / lora::kAdapterConfigName, ignored) &&
         (fs::exists(folder / lora::kRecordName, ignored) ||
          lora::layout_from_files(folder).has_value());
}

Result<OpenedMegatronAdapter> open_adapter_of_ranks(const Options& options,
                                                    const checkpoint::HfModel& base,
                                                    const kinds::Catalogue& kinds) {
  const fs::path folder = options.adapter;
  BV_TRY(record, lora::read_record(folder));
  const bool sized = !options.tp.empty() || !options.pp.empty() || !options.ep.empty() ||
                     !options.etp.empty() || !options.layout.empty();
  if (record && sized) {
    return fail(Code::Conflict, fmt::format("{} says the layout of the adapter", lora::kRecordName))
        .advise("leave the sizes out");
  }
  parallel::Layout layout = lora::layout_from_files(folder).value_or(parallel::Layout{});
  if (sized) {
    BV_TRY(asked, one_layout(options));
    layout = asked;
  }
  if (record) {
    layout = record->layout;
  }
  layout = plan::with_padding(base.model, layout);
  OpenedMegatronAdapter out;
  BV_TRY(layers, plan_layers(base.model, kinds, layout));
  out.layers = std::move(layers);
  BV_TRY(of_class, lora::class_model(base));
  out.of_class = std::make_unique<model::Model>(std::move(of_class));
  BV_TRY(class_layers, plan_layers(*out.of_class, kinds, layout));
  out.class_layers = std::move(class_layers);
  std::optional<double> alpha;
  if (options.alpha) {
    alpha = static_cast<double>(*options.alpha);
  }
  BV_TRY(adapter, lora::open_megatron_adapter(folder, *out.layers.sites, std::move(record),
                                              {layout, alpha}));
  out.adapter = std::move(adapter);
  return out;
}

Result<OpenedModel> open_adapter_base(Context& context, const Options& options,
                                      const Library& library, Run& run) {
  if (options.adapter.empty()) {
    return fail(Code::BadValue, "lora needs an adapter").advise("write --adapter DIR");
  }
  BV_TRY(opened, open_model(context, options, library));
  if (!opened.hf.model.faults.empty()) {
    const model::NameFault& fault = opened.hf.model.faults.front();
    return fail(fault.code, fmt::format("the base is not whole: {}", fault.message))
        .pair(fault.found, fault.wanted)
        .advise("bridge-verify check --model DIR says what is wrong with it");
  }
  describe_model(opened, run);
  return std::move(opened);
}

std::string adapter_line(const lora::Adapter& adapter) {
  std::set<std::int64_t> ranks;
  std::set<double> scales;
  for (const lora::AdapterPair& pair : adapter.pairs) {
    ranks.insert(pair.rank());
    scales.insert(lora::scale64(pair.scale, pair.alpha, pair.rank()));
  }
  std::vector<std::string> rank_texts;
  for (const std::int64_t rank : ranks) {
    rank_texts.push_back(std::to_string(rank));
  }
  std::vector<std::string> scale_texts;
  for (const double scale : scales) {
    scale_texts.push_back(fmt::format("{:.6g}", scale));
  }
  return fmt::format("adapter: {} of rank {}, scale {}", counted(adapter.pairs.size(), "pair"),
                     join(rank_texts, " "), join(scale_texts, " "));
}

}  // namespace bv::cli
