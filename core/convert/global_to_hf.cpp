#include <fmt/format.h>

#include <map>
#include <set>
#include <utility>

#include "core/base/text.hpp"
#include "core/checkpoint/global_shard.hpp"
#include "core/checkpoint/movable.hpp"
#include "core/convert/convert.hpp"
#include "core/convert/fingerprints.hpp"
#include "core/convert/hf_outputs.hpp"
#include "core/convert/hf_side.hpp"
#include "core/io/output_folder.hpp"

namespace bv::convert {
namespace fs = std::filesystem;

namespace {

/// Gives HF tensors the type that the checkpoint stores their parameter in, where it is not the one
/// that the model's own would have given it. Returns those that got another one.
std::vector<RecastTensors> take_dtypes(const plan::Plan& plan, const checkpoint::Shards& shards,
                                       checkpoint::MegatronFolder& description) {
  std::map<std::pair<DType, DType>, RecastTensors> changed;
  for (std::size_t m = 0; m < plan.model().mappings.size(); ++m) {
    const model::Mapping& mapping = plan.model().mappings[m];
    const TensorSpec* const stored =
        checkpoint::stored_at(shards, plan, plan.owners()[m].front()).spec;
    const DType wanted = plan::target_dtype(
        *mapping.rule, plan::dtypes_of(description.hf_headers, mapping), description.dtype);
    if (stored == nullptr || stored->dtype == wanted) {
      continue;
    }
    for (const std::string& hf : mapping.hf) {
      DType& dtype = description.hf_headers.find(hf)->second.dtype;
      RecastTensors& recast = changed[{stored->dtype, dtype}];
      recast.stored = stored->dtype;
      recast.wanted = std::exchange(dtype, stored->dtype);
      recast.tensors.push_back(hf);
    }
  }
  for (const auto& [copy, original] : plan.model().must_equal) {
    const auto a = description.hf_headers.find(copy);
    const auto b = description.hf_headers.find(original);
    if (a != description.hf_headers.end() && b != description.hf_headers.end()) {
      a->second.dtype = b->second.dtype;
    }
  }
  std::vector<RecastTensors> out;
  for (auto& [dtypes, recast] : changed) {
    out.push_back(std::move(recast));
  }
  return out;
}

io::OutputRequest request_for(const checkpoint::HfModel& like, const io::TensorStore& store,
                              const fs::path& out, const ConvertOptions& options) {
  io::OutputRequest request{out, options.overwrite, options.resume};
  request.sources = store.files();
  request.sources.push_back(like.folder);
  return request;
}

}  // namespace

Result<ConvertReport> global_to_hf(const checkpoint::HfModel& like, const io::TensorStore& store,
                                   const kinds::Catalogue& kinds, const fs::path& out,
                                   const ConvertOptions& options) {
  BV_CHECK(plan::check_dtypes(like.model, like.headers));
  const parallel::Layout layout = checkpoint::global_layout(store, like.model);
  BV_TRY(plan, plan::Plan::make(like.model, kinds, layout));
  checkpoint::MegatronFolder description = describe_hf_side(like, layout, {});
  description.folder = store.files().empty() ? fs::path() : store.files().front().parent_path();
  checkpoint::Shards shards;
  shards.push_back(std::make_unique<const checkpoint::GlobalShard>(store, plan));
  ConvertReport report;
  report.faults = name_faults(shards, plan, "the checkpoint");
  if (!report.faults.empty()) {
    BV_CHECK(store.unchanged());
    return report;
  }
  checkpoint::MegatronFolder stored = description;
  report.recast = take_dtypes(plan, shards, stored);
  if (auto fits = checkpoint::check_shard(*shards.front(), plan.files().front(), stored, plan);
      !fits) {
    return std::move(fits)
        .error()
        .at(io::printable_path(description.folder))
        .advise("give the HF model that this checkpoint is of with --like");
  }
  for (const model::Mapping& mapping : plan.model().mappings) {
    BV_CHECK(checkpoint::check_movable(stored.hf_headers, mapping, {}));
    BV_CHECK(checkpoint::check_movable(description.hf_headers, mapping, {}));
  }

  BV_TRY(carried, plan_hf_side(like, description, options.follow_links));
  BV_TRY(more_bytes, carried_bytes(carried));
  const std::vector<OutputFile> outputs = hf_outputs(description, plan, shards);
  BV_TRY(plans, plan_files(outputs));
  io::OutputRequest request = request_for(like, store, out, options);
  request.first_stranger = io::all_but(known_files(outputs, plans));
  BV_CHECK(io::check_output_place(request));
  report.replicas = compare_replicas(plan, shards, {});
  if (!report.replicas.empty()) {
    BV_CHECK(store.unchanged());
    return report;
  }
  report.dropped_rows = find_dropped_rows(plan, shards);
  std::set<std::string> names = names_of(outputs);
  add_names(carried, "", names);
  request.files = names;
  BV_TRY(folder, io::OutputFolder::create(std::move(request)));
  BV_CHECK(folder.keep_only(names_of(outputs)));
  BV_TRY(digests, write_files(folder.partial(), outputs, std::move(plans),
                              {options.jobs, options.progress, options.resume, options.windows,
                               more_bytes, options.device}));
  if (options.verify) {
    BV_CHECK(verify_files(folder.partial(), digests, options.jobs));
  }
  BV_CHECK(carry(carried, folder.partial()));
  BV_CHECK(check_opens(folder.partial(), description.hf_headers));
  BV_CHECK(folder.finish(names));
  report.digests = std::move(digests);
  report.tensors = static_cast<std::int64_t>(description.hf_headers.size());
  report.notes.insert(report.notes.end(), carried.notes.begin(), carried.notes.end());
  tell_left_out(like, description, report.notes);
  return report;
}

}  // namespace bv::convert
