#include "ci/cli/session/adapter_session.hpp"

#include <fmt/format.h>

#include <set>

#include "core/base/text.hpp"
#include "core/io/entry.hpp"
#include "core/io/fault_text.hpp"
#include "core/lora/idle_entries.hpp"
#include "properties/claims/adapter.hpp"
#include "properties/claims/adapter_compare.hpp"

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
  return !io::has_entry(folder / lora::kAdapterConfigName) &&
         (io::has_entry(folder / lora::kRecordName) || lora::layout_from_files(folder).has_value());
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

namespace {

/// open_model, or what can be opened of a model that no family knows. The error of open_model where
/// a family was named, or the model is no folder.
Result<OpenedModel> open_known_or_not(Context& context, const Options& options,
                                      const Library& library, UnknownBase unknown) {
  auto opened = open_model(context, options, library);
  const bool by_folder = unknown == UnknownBase::Open && !opened &&
                         opened.error().code == Code::ArchitectureUnknown && options.family.empty();
  const auto located =
      by_folder ? locate(context, options) : Result<io::LocatedModel>(io::LocatedModel{});
  if (!by_folder || !located || located->kind != io::ModelKind::HfFolder) {
    return opened;
  }
  OpenedModel out;
  out.reference = options.model;
  out.source = "dir";
  BV_TRY(hf, checkpoint::open_without_family(located->path, open_options(options)));
  out.hf = std::move(hf);
  out.notes = located->notes;
  out.notes.push_back(fmt::format("no family knows {}: Megatron's ranks are not checked",
                                  io::printable(out.hf.architecture)));
  return out;
}

}  // namespace

Result<OpenedModel> open_adapter_base(Context& context, const Options& options,
                                      const Library& library, Run& run, UnknownBase unknown) {
  if (options.adapter.empty()) {
    return fail(Code::BadValue, "lora needs an adapter").advise("write --adapter DIR");
  }
  BV_TRY(opened, open_known_or_not(context, options, library, unknown));
  if (!opened.hf.model.faults.empty()) {
    const model::NameFault& fault = opened.hf.model.faults.front();
    return fail(fault.code, fmt::format("the base is not whole: {}", fault.message))
        .pair(fault.found, fault.wanted)
        .advise("bridge-verify check --model DIR says what is wrong with it");
  }
  describe_model(options, opened, run);
  return std::move(opened);
}

namespace {

/// An adapter of ranks as pairs on the base; its faults alone when it cannot be put together.
Result<lora::Adapter> pairs_of(const OpenedMegatronAdapter& ranks, const checkpoint::HfModel& base,
                               const kinds::Catalogue& kinds) {
  if (!ranks.adapter.faults.empty()) {
    lora::Adapter out;
    out.faults = ranks.adapter.faults;
    out.keys = ranks.adapter.parameters;
    return out;
  }
  BV_TRY(files,
         lora::plan_to_hf(ranks.adapter, *ranks.layers.sites, *ranks.class_layers.sites, base));
  return lora::adapter_in_memory(files, base, kinds);
}

}  // namespace

Result<PairsOfFolder> open_pairs(const Options& options, const checkpoint::HfModel& base,
                                 const kinds::Catalogue& kinds) {
  PairsOfFolder out;
  if (!is_megatron_adapter(options.adapter)) {
    BV_TRY(adapter, lora::open_adapter(options.adapter, base, kinds));
    out.adapter = std::move(adapter);
    return out;
  }
  if (!base.model.family) {
    return fail(Code::ArchitectureUnknown,
                fmt::format("no family knows {}, and the adapter is one of Megatron's ranks",
                            io::printable(base.architecture)))
        .advise("name a family of equal structure with --family NAME");
  }
  BV_TRY(ranks, open_adapter_of_ranks(options, base, kinds));
  out.layout = ranks.adapter.layout;
  BV_TRY(adapter, pairs_of(ranks, base, kinds));
  out.adapter = std::move(adapter);
  out.ranks = std::move(ranks);
  return out;
}

namespace {

Status judge_against(const Options& options, const lora::Adapter& found,
                     const checkpoint::HfModel& base, const kinds::Catalogue& kinds, Run& run) {
  Options other = options;
  other.adapter = options.against;
  BV_TRY(wanted, open_pairs(other, base, kinds));
  BV_CHECK(lora::check_usable(wanted.adapter));
  ClaimSummary row = claims::summary_of(claims::adapter_claim("adapter-same"));
  if (!found.faults.empty()) {
    row.reached = false;
    row.note = "keys or shapes are wrong";
    run.claims.push_back(std::move(row));
    return Done{};
  }
  std::vector<Verdict> verdicts = claims::compare_adapters(found, wanted.adapter);
  for (Verdict& verdict : verdicts) {
    row.subjects += verdict.cases;
    run.verdicts.push_back(std::move(verdict));
  }
  row.vacuous = row.subjects == 0;
  run.claims.push_back(std::move(row));
  return Done{};
}

}  // namespace

namespace {

/// Nothing is left out when nothing would be left.
void leave_out_indivisible(claims::AdapterSubject& subject, Run& run) {
  const auto errors = claims::indivisible_layouts(subject);
  std::vector<parallel::Layout> kept;
  std::vector<std::string> ids;
  std::string why;
  for (std::size_t i = 0; i < errors.size(); ++i) {
    if (errors[i]) {
      ids.push_back(parallel::layout_id(subject.layouts[i]));
      why = why.empty() ? errors[i]->message : why;
    } else {
      kept.push_back(subject.layouts[i]);
    }
  }
  if (ids.empty() || kept.empty()) {
    return;
  }
  subject.layouts = std::move(kept);
  run.notes.push_back(fmt::format("the adapter does not fit {}: {} ({})",
                                  counted(ids.size(), "layout"), join(ids, " "), why));
}

}  // namespace

Status judge_adapter_folder(const Options& options, const checkpoint::HfModel& base,
                            const kinds::Catalogue& kinds, const ChosenLayouts& layouts, Run& run) {
  BV_TRY(opened, open_pairs(options, base, kinds));
  claims::AdapterSubject subject{&opened.adapter, &base, &kinds, layouts.layouts};
  subject.ranks_optional =
      !layouts.asked_for && (!options.merged.empty() || !options.slices.empty());
  if (opened.layout) {
    subject.layouts = {*opened.layout};
  } else if (!layouts.asked_for) {
    leave_out_indivisible(subject, run);
  }
  claims::judge_adapter(subject, run);
  BV_TRY(idle, lora::idle_entries(opened.adapter, base));
  run.notes.insert(run.notes.end(), idle.begin(), idle.end());
  run.notes.push_back(adapter_line(opened.adapter));
  run.notes.insert(run.notes.end(), opened.adapter.notes.begin(), opened.adapter.notes.end());
  return options.against.empty() ? Status(Done{})
                                 : judge_against(options, opened.adapter, base, kinds, run);
}

namespace {

Error error_of(const Verdict& verdict) {
  return fail(verdict.code, verdict.title).pair(verdict.found, verdict.wanted).advise(verdict.help);
}

}  // namespace

Status check_before_writing(const claims::AdapterSubject& subject, Run& run) {
  for (const Verdict& verdict : claims::check_adapter_values(subject)) {
    if (verdict.outcome == Outcome::Refuted) {
      return error_of(verdict);
    }
  }
  for (const Verdict& verdict : claims::check_adapter_targets(subject)) {
    if (verdict.outcome == Outcome::Refuted) {
      run.warnings.push_back(error_of(verdict));
    }
  }
  BV_TRY(idle, lora::idle_entries(*subject.adapter, *subject.base));
  run.notes.insert(run.notes.end(), idle.begin(), idle.end());
  return Done{};
}

void add_written_files(const io::Digests& digests, const Options& options,
                       const std::string& layout, Run& run) {
  ClaimSummary row = claims::summary_of(claims::adapter_claim("adapter-written"));
  for (const auto& [file, tensors] : digests) {
    Verdict verdict;
    verdict.claim = row.claim;
    verdict.rule = file;
    verdict.megatron = file;
    verdict.layout = layout;
    verdict.outcome = options.no_verify ? Outcome::Inconclusive : Outcome::Held;
    verdict.evidence.bytes = !options.no_verify;
    verdict.cases = std::max<std::int64_t>(1, std::ssize(tensors));
    if (options.no_verify) {
      verdict.code = Code::WriteLost;
      verdict.title = file + " was written and not read back";
      verdict.help = "leave --no-verify out";
    }
    row.subjects += verdict.cases;
    run.verdicts.push_back(std::move(verdict));
  }
  row.vacuous = digests.empty();
  run.claims.push_back(std::move(row));
}

void add_written(const lora::ConvertAdapterReport& report, const Options& options,
                 const std::string& layout, Run& run) {
  add_written_files(report.digests, options, layout, run);
  run.notes.insert(run.notes.end(), report.notes.begin(), report.notes.end());
  run.notes.push_back(fmt::format("{} written to {}", counted(report.digests.size(), "file"),
                                  io::printable(options.out)));
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
  if (adapter.pairs.empty()) {
    return "adapter: no pair fits the base";
  }
  return fmt::format("adapter: {} of rank {}, scale {}", counted(adapter.pairs.size(), "pair"),
                     join(rank_texts, " "), join(scale_texts, " "));
}

}  // namespace bv::cli
