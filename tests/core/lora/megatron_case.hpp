#pragma once
// Adapters that the real Megatron-Bridge trained, opened on the base that they were trained on.

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "core/lora/megatron_adapter.hpp"
#include "core/lora/to_hf.hpp"
#include "core/plan/layout_set.hpp"
#include "tests/core/lora/golden.hpp"

namespace bv::lora::golden {

/// A case with everything that views each other kept in place.
struct MegatronCase {
  /// `base_folder`: in place of the golden that the adapter was trained on.
  explicit MegatronCase(const std::string& name, const std::filesystem::path& base_folder = {})
      : folder(kGolden / "lora" / name), run(json_of(folder / "run.json")) {
    checkpoint::OpenOptions options;
    options.resolve.spelling.grouped_experts = name.find("_seq") == std::string::npos;
    base = checkpoint::open_hf(
               base_folder.empty() ? kGolden / "hf" / run["case"].get<std::string>() : base_folder,
               family::builtin_families().value(), options)
               .value();
    parallel::Layout layout;
    layout.tp = run["layout"]["tp"];
    layout.pp = run["layout"]["pp"];
    layout.ep = run["layout"]["ep"];
    layout.etp = run["layout"]["etp"];
    layout = plan::with_padding(base.model, layout);
    plan = plan::Plan::make(base.model, kinds_of_build(), layout).value();
    sites = SitePlan::make(*plan, kinds_of_build()).value();
    of_class = class_model(base).value();
    class_plan = plan::Plan::make(of_class, kinds_of_build(), layout).value();
    class_sites = SitePlan::make(*class_plan, kinds_of_build()).value();
    megatron = open_megatron_adapter(folder / "megatron", *sites, {},
                                     {layout, run["lora"]["alpha"].get<double>()})
                   .value();
  }

  std::filesystem::path folder;
  nlohmann::json run;
  checkpoint::HfModel base;
  std::optional<plan::Plan> plan;
  std::optional<SitePlan> sites;
  model::Model of_class;
  std::optional<plan::Plan> class_plan;
  std::optional<SitePlan> class_sites;
  std::optional<MegatronAdapter> megatron;
};

inline std::vector<std::string> megatron_cases() {
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(kGolden / "lora")) {
    if (entry.is_directory()) {
      out.push_back(entry.path().filename().string());
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace bv::lora::golden
