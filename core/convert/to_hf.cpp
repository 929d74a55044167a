#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/text.hpp"
#include "core/checkpoint/manifest.hpp"
#include "core/checkpoint/megatron_shards.hpp"
#include "core/convert/convert.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/output_folder.hpp"
#include "core/io/shard_index.hpp"

namespace bv::convert {
namespace fs = std::filesystem;

namespace {

/// Boxes that make one HF tensor out of its distinct owners.
std::vector<layout::Box> boxes_back(const plan::Plan& plan,
                                    const std::vector<plan::Plan::Owner>& distinct,
                                    std::size_t hf) {
  std::vector<layout::Box> out;
  for (std::size_t i = 0; i < distinct.size(); ++i) {
    for (const layout::Box& box : plan.shard(checkpoint::target_at(plan, distinct[i])).boxes) {
      if (box.source == static_cast<int>(hf)) {
        out.push_back(layout::inverse(box, static_cast<int>(i)));
      }
    }
  }
  return out;
}

/// The manifest was held against the plan: every listed tensor is made by one mapping, or is a copy
/// of such a one.
std::vector<OutputFile> hf_outputs(const checkpoint::MegatronFolder& source, const plan::Plan& plan,
                                   const checkpoint::Shards& shards) {
  std::map<std::string, OutputFile> files;
  for (const auto& [name, metadata] : source.hf_metadata) {
    files[name].name = name;
    files[name].metadata = metadata;
    files[name].metadata.try_emplace("format", "pt");
  }
  const auto add = [&](const std::string& hf, std::size_t mapping, std::size_t position) {
    const model::Mapping& map = plan.model().mappings[mapping];
    OutputTensor tensor;
    tensor.spec = source.hf_headers.find(hf)->second;
    const auto distinct = checkpoint::split_owners(plan, mapping).distinct;
    for (const plan::Plan::Owner& owner : distinct) {
      tensor.sources.push_back({&shards[owner.file], &checkpoint::stored_at(shards, plan, owner)});
    }
    tensor.boxes = [&plan, distinct, position] { return boxes_back(plan, distinct, position); };
    tensor.add = -map.rule->value.added_on_import();
    files[source.hf_file_of.at(hf)].tensors.push_back(std::move(tensor));
  };
  std::map<std::string, std::pair<std::size_t, std::size_t>> place_of;
  for (std::size_t m = 0; m < plan.model().mappings.size(); ++m) {
    for (std::size_t i = 0; i < plan.model().mappings[m].hf.size(); ++i) {
      place_of[plan.model().mappings[m].hf[i]] = {m, i};
      add(plan.model().mappings[m].hf[i], m, i);
    }
  }
  for (const auto& [copy, original] :
       plan.model().must_equal) {  // stored twice in the source: given back twice
    const auto place = place_of.find(original);
    if (source.hf_headers.contains(copy) && place != place_of.end()) {
      add(copy, place->second.first, place->second.second);
    }
  }
  std::vector<OutputFile> out;
  for (auto& [name, file] : files) {
    out.push_back(std::move(file));
  }
  return out;
}

/// The files beside the shards, links resolved. Errors: UnsafePath for a link that leads out,
/// ReadFailed for a file that is gone.
Result<CarryPlan> carried_files(const checkpoint::MegatronFolder& source, bool follow_links) {
  const fs::path folder = source.folder / checkpoint::kCarriedFolder;
  BV_TRY(boundary, io::link_boundary(folder));
  CarryPlan out;
  for (const auto& [name, print] : source.carried) {
    auto inside = io::resolve_inside(folder, name, boundary);
    if (!inside && !follow_links) {
      Error error = std::move(inside).error();
      error.help += ", or take it with --follow-links";
      return error;
    }
    if (inside && !*inside) {
      return fail(Code::ReadFailed, fmt::format("{} is listed in manifest.json and is not there",
                                                io::printable_path(folder / name)))
          .at(io::printable_path(folder / name))
          .advise("convert the HF directory again");
    }
    std::error_code ignored;
    out.files[name] = {inside ? **inside : fs::canonical(folder / name, ignored), std::nullopt};
  }
  return out;
}

FolderFault changed_file(const std::string& name, const std::string& more) {
  FolderFault out;
  out.subject = name;
  out.cases = 1;
  out.title = fmt::format("{} changed since it was written{}", io::printable(name), more);
  out.found = "another fingerprint";
  out.wanted = "the fingerprint of manifest.json";
  out.help =
      "put the file back that convert wrote; --accept-changed takes another one. Nothing was "
      "written";
  return out;
}

/// Files that are not the ones that were written.
Result<std::vector<std::string>> changed_files(const checkpoint::MegatronFolder& source,
                                               const CarryPlan& carried) {
  std::vector<std::string> out = source.changed;
  for (const auto& [name, file] : carried.files) {
    const std::string shown = fmt::format("{}/{}", checkpoint::kCarriedFolder, name);
    if (std::find(out.begin(), out.end(), shown) != out.end()) {
      continue;
    }
    BV_TRY(print, io::print_of_file(file.from));
    if (print != source.carried.at(name)) {
      out.push_back(shown);
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

/// What must hold of the folder before anything is made of it.
Status judge(const checkpoint::MegatronFolder& source, const plan::Plan& plan,
             const checkpoint::Shards& shards, const CarryPlan& carried,
             const ConvertOptions& options, ConvertReport& report) {
  BV_TRY(prints,
         compare_fingerprints(shards, plan, source.digests, options.jobs, options.progress));
  report.faults = folder_faults(prints, options.accept_changed);
  BV_TRY(files, changed_files(source, carried));
  if (!source.same_plan) {
    report.faults.push_back(
        changed_file(join(source.changed, " and "),
                     ": with it rows of the shards belong elsewhere than where they were put"));
    report.faults.back().help = "put back the file that convert wrote; nothing was written";
  } else if (!options.accept_changed) {
    for (const std::string& name : files) {
      report.faults.push_back(changed_file(name, ""));
    }
  }
  if (options.accept_changed) {
    if (const std::int64_t changed = trained(prints); changed > 0) {
      report.notes.push_back(fmt::format("{} of {} changed since convert (accepted)",
                                         thousands(changed), counted(prints.tensors, "tensor")));
    }
    if (!files.empty()) {
      report.notes.push_back("changed since convert (accepted): " + join(files, ", "));
    }
  }
  if (report.faults.empty()) {  // a changed replica is told as changed
    report.replicas = compare_replicas(plan, shards, prints.found);
  }
  return Done{};
}

io::OutputRequest request_for(const checkpoint::MegatronFolder& source,
                              const checkpoint::Shards& shards, const fs::path& out,
                              const ConvertOptions& options) {
  io::OutputRequest request{out, options.overwrite, options.resume};
  request.sources = {source.folder};
  for (const io::Checkpoint& shard : shards) {
    request.sources.push_back(shard.files().front());
  }
  if (!options.rules.empty()) {
    request.sources.push_back(options.rules);
  }
  return request;
}

/// An earlier output of this conversion: its files, with the headers that this run writes and the
/// carried files as they are; or Megatron shards by their manifest.
io::FirstStranger strangers(io::KnownFiles known, const checkpoint::MegatronFolder& source) {
  for (const auto& [name, print] : source.carried) {
    known[name] = {print.bytes, "", print.digest};
  }
  return [known = io::all_but(std::move(known))](const fs::path& folder) {
    const auto listed = checkpoint::files_of(folder);
    return listed ? io::first_unlisted(folder, *listed) : known(folder);
  };
}

}  // namespace

Result<ConvertReport> to_hf(const checkpoint::MegatronFolder& source, const kinds::Catalogue& kinds,
                            const fs::path& out, const ConvertOptions& options) {
  BV_CHECK(plan::check_dtypes(source.model, source.hf_headers));
  BV_TRY(plan, plan::Plan::make(source.model, kinds, source.layout));
  BV_TRY(shards, checkpoint::open_shards(source, plan, options.strict));
  BV_TRY(carried, carried_files(source, options.follow_links));
  BV_TRY(more_bytes, carried_bytes(carried));
  const std::vector<OutputFile> outputs = hf_outputs(source, plan, shards);
  BV_TRY(plans, plan_files(outputs));
  io::OutputRequest request = request_for(source, shards, out, options);
  request.first_stranger = strangers(known_files(outputs, plans), source);
  BV_CHECK(io::check_output_place(request));

  ConvertReport report;
  BV_CHECK(judge(source, plan, shards, carried, options, report));
  if (!report.faults.empty() || !report.replicas.empty()) {
    return report;
  }
  report.dropped_rows = find_dropped_rows(plan, shards);
  BV_TRY(folder, io::OutputFolder::create(std::move(request)));
  BV_CHECK(folder.keep_only(names_of(outputs)));
  BV_TRY(digests, write_files(folder.partial(), outputs, std::move(plans),
                              {options.jobs, options.progress, options.resume, options.windows,
                               more_bytes}));
  if (options.verify) {
    BV_CHECK(verify_files(folder.partial(), digests, options.jobs));
  }
  BV_TRY(prints, carry(carried, folder.partial()));
  if (!options.accept_changed && prints != source.carried) {
    return fail(Code::IndexDisagrees,
                fmt::format("a file of {} changed while it was read",
                            io::printable_path(source.folder / checkpoint::kCarriedFolder)))
        .advise("stop the program that writes there, then repeat");
  }
  std::set<std::string> names = names_of(outputs);
  for (const auto& [name, print] : prints) {
    names.insert(name);
  }
  BV_CHECK(folder.finish(names));
  report.digests = std::move(digests);
  report.tensors = static_cast<std::int64_t>(source.hf_headers.size());
  return report;
}

}  // namespace bv::convert
