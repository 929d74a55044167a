#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "core/checkpoint/config_text.hpp"
#include "core/checkpoint/dequantise.hpp"
#include "core/checkpoint/manifest.hpp"
#include "core/checkpoint/movable.hpp"
#include "core/comm/shares.hpp"
#include "core/convert/convert.hpp"
#include "core/convert/hf_side.hpp"
#include "core/convert/kept_form.hpp"
#include "core/convert/shard_outputs.hpp"
#include "core/convert/shared_output.hpp"
#include "core/io/digest.hpp"
#include "core/io/output_folder.hpp"
#include "core/io/writer.hpp"

namespace bv::convert {
namespace fs = std::filesystem;

namespace {

std::vector<OutputFile> shard_outputs(const checkpoint::HfModel& source, const plan::Plan& plan,
                                      const plan::DtypePolicy& policy) {
  std::vector<OutputFile> out;
  for (const plan::ShardFile& file : plan.files()) {
    OutputFile output;
    output.name = file.name;
    output.metadata = {{"format", "pt"}};
    for (const plan::Target& target : file.targets) {
      output.tensors.push_back(output_of(source, plan, target, policy));
    }
    out.push_back(std::move(output));
  }
  return out;
}

/// An earlier output of ours is known by its manifest.
std::optional<std::string> first_stranger(const fs::path& folder) {
  const auto names = checkpoint::files_of(folder);
  return io::first_unlisted(folder, names ? *names : std::vector<std::string>{});
}

io::OutputRequest request_for(const checkpoint::HfModel& source, const fs::path& out,
                              const ConvertOptions& options) {
  io::OutputRequest request{out, options.overwrite, options.resume};
  request.sources = source.checkpoint->files();
  request.sources.push_back(source.folder);
  request.sources.insert(request.sources.end(), options.also_read.begin(), options.also_read.end());
  if (!options.rules.empty()) {
    request.sources.push_back(options.rules);
  }
  request.first_stranger = first_stranger;
  return request;
}

/// Every file of the finished folder, relative.
std::set<std::string> all_files(const std::vector<OutputFile>& shards, const CarryPlan& carried,
                                const std::optional<KeptForm>& kept,
                                const ConvertOptions& options) {
  std::set<std::string> out = names_of(shards);
  add_names(carried, checkpoint::kCarriedFolder, out);
  if (kept) {
    add_names(kept->carried, checkpoint::kQuantisedFolder, out);
  }
  if (!options.rules.empty()) {
    out.emplace(checkpoint::kRulesName);
  }
  out.emplace(checkpoint::kManifestName);
  return out;
}

/// What goes along with the shards, and what the manifest says of it.
Status write_companions(const fs::path& folder, const CarryPlan& carried,
                        const ConvertOptions& options, checkpoint::MegatronFolder& description) {
  BV_TRY(prints, carry(carried, folder / checkpoint::kCarriedFolder));
  description.carried = std::move(prints);
  if (!options.rules.empty()) {
    BV_TRY(rules, copy_rules(options.rules, folder));
    description.rules = rules;
  }
  return Done{};
}

/// The quantised form, with the companions that were written with the shards.
Status keep(const checkpoint::HfModel& source, const fs::path& folder, KeptForm& kept,
            const ConvertOptions& options, checkpoint::MegatronFolder& description,
            std::vector<std::string>& notes) {
  auto written = description.digests.extract(std::string(checkpoint::kCompanionsName));
  BV_TRY(prints, carry(kept.carried, folder / checkpoint::kQuantisedFolder));
  BV_CHECK(seal(source, std::move(written.mapped()), std::move(prints), options.jobs,
                options.progress, kept, notes));
  description.quantised = std::move(kept.side);
  const std::string text = kept.carried.files.at("config.json").text.value();
  BV_TRY(config, checkpoint::parse_config(text, "config.json"));
  BV_TRY(weights, checkpoint::kept_weights(description, config, "config.json"));
  BV_ASSERT(weights.size() == kept.weights.size());  // the way back knows what was kept
  return Done{};
}

}  // namespace

Status check_place_for_megatron(const checkpoint::HfModel& source, const fs::path& out,
                                const ConvertOptions& options) {
  return io::check_output_place(request_for(source, out, options));
}

Result<ConvertReport> to_megatron(const checkpoint::HfModel& source, const kinds::Catalogue& kinds,
                                  const parallel::Layout& layout, const fs::path& out,
                                  const ConvertOptions& options) {
  BV_TRY(plan, plan::Plan::make(source.model, kinds, layout));
  BV_CHECK(plan::check_dtypes(source.model, source.headers));
  for (const model::Mapping& mapping : source.model.mappings) {
    BV_CHECK(checkpoint::check_movable(source.headers, mapping, options.dtype));
  }
  checkpoint::MegatronFolder description = describe_hf_side(source, layout, options.dtype);
  description.plan_digest = checkpoint::plan_digest(plan);
  description.adapter = options.adapter;
  BV_TRY(carried, plan_hf_side(source, description, options.follow_links));
  BV_TRY(more_bytes, carried_bytes(carried));
  BV_TRY(kept, keep_form(source, description, options.dtype, options.jobs, options.follow_links));
  auto outputs = shard_outputs(source, plan, options.dtype);
  if (kept) {
    outputs.push_back(kept->companions);
  }
  BV_TRY(plans, plan_files(outputs));

  io::OutputRequest request = request_for(source, out, options);
  request.files = all_files(outputs, carried, kept, options);
  const std::set<std::string> names = request.files;
  BV_TRY(folder, SharedOutput::create(std::move(request), names_of(outputs), options.world));
  ConvertReport report;
  auto processes =
      comm::processes_of_files(plan, options.world == nullptr ? 1 : options.world->size());
  processes.resize(outputs.size(), 0);  // the companions are the host's
  BV_TRY(digests, folder.write(outputs, std::move(plans), processes,
                               {options.jobs, options.progress, options.resume, options.windows,
                                more_bytes, options.device},
                               options.verify));
  if (folder.is_host()) {
    BV_CHECK(write_companions(folder.partial(), carried, options, description));
    description.digests = digests;
    if (kept) {
      BV_CHECK(keep(source, folder.partial(), *kept, options, description, report.notes));
    }
    BV_CHECK(io::write_file(folder.partial() / checkpoint::kManifestName,
                            checkpoint::manifest_text(description)));
  }
  BV_CHECK(folder.finish(names));

  report.notes.insert(report.notes.end(), carried.notes.begin(), carried.notes.end());
  tell_left_out(source, description, report.notes);
  report.digests = std::move(digests);
  for (const OutputFile& file : outputs) {
    report.tensors += static_cast<std::int64_t>(file.tensors.size());
  }
  return report;
}

}  // namespace bv::convert
