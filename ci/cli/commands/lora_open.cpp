#include "ci/cli/commands/lora_open.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "ci/cli/session/diff_configs.hpp"
#include "core/base/text.hpp"
#include "core/checkpoint/config_text.hpp"
#include "core/family/symbols.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/writer.hpp"
#include "properties/claims/adapter.hpp"
#include "properties/claims/merged.hpp"

namespace bv::cli {
namespace {

using Json = nlohmann::json;

/// "merge  384 tensors, worst error 0.21 of its bound (layers.12...)"; for BF16 and F16 also how
/// many elements had two admissible values.
void add_notes(const claims::MergedJudgement& judged, Run& run) {
  run.notes.insert(run.notes.end(), judged.notes.begin(), judged.notes.end());
  const oracle::MergeTally& tally = judged.tally;
  if (tally.elements == 0) {
    return;
  }
  run.notes.push_back(fmt::format("merge: {}, worst error {:.2g} of its bound ({})",
                                  counted(static_cast<std::uint64_t>(judged.merged), "tensor"),
                                  tally.worst, io::printable(judged.worst)));
  run.notes.push_back("error over bound, elements: " + claims::histogram_text(tally));
  if (tally.several > 0) {
    run.notes.push_back(fmt::format(
        "{} outside the allowed roundings; for {:.1f} % of the elements several are allowed",
        counted(static_cast<std::uint64_t>(tally.outside), "element"),
        100.0 * static_cast<double>(tally.several) / static_cast<double>(tally.elements)));
  }
}

Error headers_only(const std::string& reference) {
  return fail(Code::ModelNotFound,
              fmt::format("{} is headers only: there are no weights", io::printable(reference)))
      .advise("give the directory with the weights");
}

}  // namespace

Result<BaseAndAdapter> open_base_and_adapter(Context& context, const Options& options,
                                             const Library& library, Run& run,
                                             UnknownBase unknown) {
  BV_TRY(model, open_adapter_base(context, options, library, run, unknown));
  if (!model.hf.checkpoint) {
    return headers_only(model.reference);
  }
  BV_TRY(adapter, lora::open_adapter(options.adapter, model.hf, library.kinds));
  BV_CHECK(lora::check_usable(adapter));
  BV_CHECK(check_before_writing({&adapter, &model.hf, &library.kinds, {}}, run));
  return BaseAndAdapter{std::move(model), std::move(adapter)};
}

namespace {

/// Does the config of the merge tie the output layer? Without a config it is the base's.
bool ties_head(const checkpoint::HfModel& base, const std::string& merged) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  const fs::path file = fs::path(merged) / "config.json";
  if (base.base == nullptr || !fs::exists(file, ignored)) {
    return base.model.tied;
  }
  const auto text = io::read_file(file, checkpoint::kConfigBytesMax, Code::ConfigField);
  const auto config = text ? checkpoint::parse_config(*text, file.string()) : Result<Json>(Json());
  const auto geometry = model::read_geometry(*base.base, config ? *config : Json::object());
  return config && geometry && geometry->ties_embeddings();
}

/// The merge is of the same sizes as its base; an output layer that was untied is its own tensor.
Status judge_merged_config(const checkpoint::HfModel& base, const std::string& merged, Run& run) {
  if (base.base == nullptr) {
    return Done{};
  }
  BV_TRY(configs, diff_configs(base.folder, merged, {base.base}));
  std::erase_if(configs.verdicts, [](const Verdict& one) {
    return one.rule == family::symbols::kTied && one.found.starts_with("0");
  });
  run.notes.insert(run.notes.end(), configs.notes.begin(), configs.notes.end());
  if (configs.verdicts.empty()) {
    return Done{};
  }
  ClaimSummary summary;
  summary.claim = "shapes";
  summary.title = "config.json gives the sizes of the base";
  for (Verdict& verdict : configs.verdicts) {
    summary.subjects += verdict.cases;
    run.verdicts.push_back(std::move(verdict));
  }
  run.claims.push_back(std::move(summary));
  return Done{};
}

}  // namespace

Status judge_merged_folder(Context& context, const Options& options,
                           const checkpoint::HfModel& base, const lora::Adapter& adapter,
                           Run& run) {
  ClaimSummary summary = claims::summary_of(claims::adapter_claim("adapter-merge"));
  if (!adapter.faults.empty()) {
    summary.reached = false;
    summary.note = "the adapter has faults";
    run.claims.push_back(std::move(summary));
    return Done{};
  }
  if (!base.checkpoint) {
    return headers_only(options.model);
  }
  BV_TRY(merged, io::Checkpoint::open(options.merged, options.strict));
  CommandProgress progress(context, options);
  BV_TRY(judged, claims::judge_merged(base, adapter, merged, ties_head(base, options.merged),
                                      jobs_of(options), &progress));
  add_notes(judged, run);
  for (Verdict& verdict : judged.verdicts) {
    summary.subjects += verdict.cases;
    run.verdicts.push_back(std::move(verdict));
  }
  summary.vacuous = summary.subjects == 0;
  run.claims.push_back(std::move(summary));
  BV_CHECK(judge_merged_config(base, options.merged, run));
  return merged.unchanged();
}

}  // namespace bv::cli
