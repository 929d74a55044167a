#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "core/base/text.hpp"
#include "core/checkpoint/manifest.hpp"
#include "core/checkpoint/megatron_shards.hpp"
#include "core/comm/shares.hpp"
#include "core/convert/carry.hpp"
#include "core/convert/convert.hpp"
#include "core/convert/hf_outputs.hpp"
#include "core/convert/restored_form.hpp"
#include "core/convert/shared_output.hpp"
#include "core/convert/source_prints.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/output_folder.hpp"
#include "core/io/shard_index.hpp"

namespace bv::convert {
namespace fs = std::filesystem;

namespace {

/// The files beside the shards that go along, and what the manifest says of each.
struct CarriedFiles {
  CarryPlan plan;
  std::map<std::string, io::FilePrint> prints;
  std::map<std::string, std::string> place;  // name -> where it lies in the Megatron folder
};

/// Adds files of one folder, links resolved; they take the place of those that are there. Errors:
/// UnsafePath for a link that leads out, ReadFailed for a file that is gone.
Status add_carried(const checkpoint::MegatronFolder& source, std::string_view below,
                   const std::map<std::string, io::FilePrint>& prints, bool follow_links,
                   CarriedFiles& out) {
  const fs::path folder = source.folder / below;
  BV_TRY(boundary, io::link_boundary(folder));
  for (const auto& [name, print] : prints) {
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
    out.plan.files[name] = {inside ? **inside : fs::canonical(folder / name, ignored),
                            std::nullopt};
    out.prints[name] = print;
    out.place[name] = fmt::format("{}/{}", below, name);
  }
  return Done{};
}

Result<CarriedFiles> carried_files(const checkpoint::MegatronFolder& source, bool restores,
                                   bool follow_links) {
  CarriedFiles out;
  BV_CHECK(add_carried(source, checkpoint::kCarriedFolder, source.carried, follow_links, out));
  if (restores) {
    BV_CHECK(add_carried(source, checkpoint::kQuantisedFolder, source.quantised->carried,
                         follow_links, out));
  }
  return out;
}

/// Files beside the shards that were put there later, or that the manifest lost: they stay, by
/// name.
Result<std::vector<std::string>> stay_behind(const checkpoint::MegatronFolder& source) {
  BV_TRY(there, plan_carry(source.folder / checkpoint::kCarriedFolder, {}, false));
  std::vector<std::string> names;
  for (const auto& [name, file] : there.files) {
    if (!source.carried.contains(name)) {
      names.push_back(io::in_quotes(name));
    }
  }
  std::vector<std::string> notes;
  if (!names.empty()) {
    notes.push_back(fmt::format("not in manifest.json and left behind in {}: {}",
                                checkpoint::kCarriedFolder, join(io::first_lines(names, 4), ", ")));
  }
  return notes;
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
                                               const CarriedFiles& carried) {
  std::vector<std::string> out = source.changed;
  for (const auto& [name, file] : carried.plan.files) {
    const std::string& shown = carried.place.at(name);
    if (std::find(out.begin(), out.end(), shown) != out.end()) {
      continue;
    }
    BV_TRY(print, io::print_of_file(file.from));
    if (print != carried.prints.at(name)) {
      out.push_back(shown);
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

/// A tensor that lost bits comes back as the source stored it, which says nothing of a trained one.
FolderFault trained_beside_stored(const std::vector<std::string>& stored, std::int64_t trained) {
  FolderFault out;
  out.code = Code::ContentsChanged;
  out.subject = stored.front();
  out.cases = std::ssize(stored);
  out.title = fmt::format(
      "{} of the shards changed, and {} that lost bits in them {} back as the source stored {}",
      counted(trained, "tensor"), counted(stored.size(), "tensor"),
      stored.size() == 1 ? "comes" : "come", stored.size() == 1 ? "it" : "them");
  out.found = io::in_quotes(stored.front()) + " of the source";
  out.wanted = "the values of the shards";
  out.help = "take the weights plain with --accept-changed --quantised plain; nothing was written";
  return out;
}

/// The quantised form is that of the source: no change of the files that decide it is taken.
Status judge_restored(const RestoredForm& restored, const std::vector<std::string>& changed,
                      std::int64_t trained, const ConvertOptions& options, ConvertReport& report) {
  for (FolderFault& fault : report.faults) {
    fault.help += "; trained weights come back with --accept-changed --quantised plain";
  }
  for (const std::string& name : changed) {
    if (options.accept_changed && name.ends_with("/config.json")) {
      report.faults.push_back(
          changed_file(name, ", and the quantised form has the one of the source"));
      report.faults.back().help =
          "put the file back that convert wrote, or take the changed one with --quantised plain; "
          "nothing was written";
    }
  }
  if (trained > 0 && !restored.lost_bits().empty()) {
    report.faults.push_back(trained_beside_stored(restored.lost_bits(), trained));
  }
  if (!report.faults.empty()) {
    return Done{};
  }
  BV_TRY(faults, restored.judge(options.jobs, options.progress));
  report.faults = std::move(faults);
  if (report.faults.empty()) {
    report.notes.push_back(restored.note());
  }
  return Done{};
}

/// What is converted.
struct Reading {
  const checkpoint::MegatronFolder& source;
  const plan::Plan& plan;
  const checkpoint::Shards& shards;
  const std::optional<RestoredForm>& restored;
  const ConvertOptions& options;
};

/// What must hold of the folder before its output gets a name. `files`: changed_files.
Status judge(const Reading& reading, const Fingerprints& prints,
             const std::vector<std::string>& files, ConvertReport& report) {
  const auto& [source, plan, shards, restored, options] = reading;
  report.faults = folder_faults(prints, options.accept_changed);
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
  if (restored && report.replicas.empty()) {
    BV_CHECK(judge_restored(*restored, files, trained(prints), options, report));
  }
  for (const auto& shard : shards) {
    BV_CHECK(shard->unchanged());
  }
  return Done{};
}

/// Every tensor of the shards, in the order of shard_tensors.
std::vector<checkpoint::SourceTensor> stored_tensors(const plan::Plan& plan,
                                                     const checkpoint::Shards& shards) {
  std::vector<checkpoint::SourceTensor> out;
  for (const plan::Plan::Owner& owner : shard_tensors(plan)) {
    out.push_back(checkpoint::stored_at(shards, plan, owner));
  }
  return out;
}

/// Are the shards held against their fingerprints by the pass that makes the output? It appears by
/// rename, so that this is as sound as before it, and they are read once. Not where more than the
/// shards decides, nor where an earlier run left finished files, nor for several processes.
bool is_judged_late(const checkpoint::MegatronFolder& source,
                    const std::vector<std::string>& changed, bool restores,
                    const ConvertOptions& options) {
  return options.world == nullptr && options.device == nullptr && !options.resume && !restores &&
         changed.empty() && source.same_plan;
}

io::OutputRequest request_for(const checkpoint::MegatronFolder& source,
                              const checkpoint::Shards& shards, const fs::path& out,
                              const ConvertOptions& options) {
  io::OutputRequest request{out, options.overwrite, options.resume};
  request.sources = {source.folder};
  for (const auto& shard : shards) {
    request.sources.insert(request.sources.end(), shard->files().begin(), shard->files().end());
  }
  if (!options.rules.empty()) {
    request.sources.push_back(options.rules);
  }
  return request;
}

/// An earlier output of this conversion: its files, with the headers that this run writes and the
/// carried files as they are; or Megatron shards by their manifest.
io::FirstStranger strangers(io::KnownFiles known,
                            const std::map<std::string, io::FilePrint>& carried) {
  for (const auto& [name, print] : carried) {
    known[name] = {print.bytes, "", print.digest};
  }
  return [known = io::all_but(std::move(known))](const fs::path& folder) {
    const auto listed = checkpoint::files_of(folder);
    return listed ? io::first_unlisted(folder, *listed) : known(folder);
  };
}

Status check_shards(const checkpoint::MegatronFolder& source, const plan::Plan& plan,
                    const checkpoint::Shards& shards) {
  for (std::size_t i = 0; i < shards.size(); ++i) {
    BV_CHECK(checkpoint::check_shard(*shards[i], plan.files()[i], source, plan));
  }
  return Done{};
}

bool is_right(const ConvertReport& report) {
  return report.faults.empty() && report.replicas.empty();
}

/// Before the first byte of the output: false when the shards are still to be judged.
Result<bool> judge_before(const Reading& reading, const CarriedFiles& carried,
                          ConvertReport& report) {
  const auto& [source, plan, shards, restored, options] = reading;
  BV_TRY(notes, stay_behind(source));
  report.notes = std::move(notes);
  BV_TRY(changed, changed_files(source, carried));
  if (is_judged_late(source, changed, restored.has_value(), options)) {
    return false;
  }
  BV_TRY(prints,
         compare_fingerprints(shards, plan, source.digests, options.jobs, options.progress));
  BV_CHECK(judge(reading, prints, changed, report));
  return true;
}

/// After the pass that made the output of them; what was written is read back when it stays.
Status judge_after(const Reading& reading, SourcePrints& read, const fs::path& written,
                   const io::Digests& written_digests, ConvertReport& report) {
  const ConvertOptions& options = reading.options;
  BV_TRY(digests, read.finish(options.jobs));
  BV_CHECK(judge(reading, compare_digests(reading.plan, reading.source.digests, std::move(digests)),
                 {}, report));
  return options.verify && is_right(report) ? verify_files(written, written_digests, options.jobs)
                                            : Status(Done{});
}

Status add_carried_files(const Reading& reading, const CarriedFiles& carried, const fs::path& to) {
  BV_TRY(prints, carry(carried.plan, to));
  if (reading.options.accept_changed || prints == carried.prints) {
    return Done{};
  }
  return fail(Code::IndexDisagrees,
              fmt::format("a file of {} changed while it was read",
                          io::printable_path(reading.source.folder / checkpoint::kCarriedFolder)))
      .advise("stop the program that writes there, then repeat");
}

}  // namespace

Result<ConvertReport> to_hf(const checkpoint::MegatronFolder& source, const kinds::Catalogue& kinds,
                            const fs::path& out, const ConvertOptions& options) {
  BV_CHECK(plan::check_dtypes(source.model, source.hf_headers));
  BV_TRY(plan, plan::Plan::make(source.model, kinds, source.layout));
  BV_TRY(shards, checkpoint::open_shards(source, plan, options.strict));
  ConvertReport report;
  report.faults = name_faults(shards, plan);
  if (!report.faults.empty()) {
    return report;
  }
  BV_CHECK(check_shards(source, plan, shards));
  const bool restores = source.quantised && options.quantised == FormBack::Restored;
  BV_TRY(carried, carried_files(source, restores, options.follow_links));
  BV_TRY(more_bytes, carried_bytes(carried.plan));
  const std::vector<OutputFile> plain = hf_outputs(source, plan, shards);
  std::optional<RestoredForm> restored;
  if (restores) {
    BV_TRY(form, RestoredForm::open(source, plain));
    restored.emplace(std::move(form));
  }
  const std::vector<OutputFile>& outputs = restored ? restored->outputs() : plain;
  const Headers& headers = restored ? restored->headers() : source.hf_headers;
  BV_TRY(plans, plan_files(outputs));
  io::OutputRequest request = request_for(source, shards, out, options);
  request.first_stranger = strangers(known_files(outputs, plans), carried.prints);
  const Reading reading{source, plan, shards, restored, options};
  bool judged = true;
  const bool is_host = options.world == nullptr || options.world->rank() == 0;
  if (is_host) {
    BV_CHECK(io::check_output_place(request));
    BV_TRY(before, judge_before(reading, carried, report));
    judged = before;
  }
  BV_TRY(right, told_by_host(options.world, is_right(report), "whether the shards are right"));
  if (!right) {
    return report;
  }
  std::set<std::string> names = names_of(outputs);
  add_names(carried.plan, "", names);
  request.files = names;
  BV_TRY(folder, SharedOutput::create(std::move(request), names_of(outputs), options.world));
  const auto processes = folder.balanced(plans);
  StreamOptions stream{options.jobs,    options.progress, options.resume,
                       options.windows, more_bytes,       options.device};
  std::optional<SourcePrints> read;
  if (!judged) {
    stream.sources = &read.emplace(stored_tensors(plan, shards));
  }
  BV_TRY(digests,
         folder.write(outputs, std::move(plans), processes, stream, options.verify && judged));
  if (!judged) {
    BV_CHECK(judge_after(reading, *read, folder.partial(), digests, report));
    if (!is_right(report)) {
      folder.abandon();
      return report;
    }
  }
  if (is_host) {
    BV_CHECK(add_carried_files(reading, carried, folder.partial()));
    report.dropped_rows = find_dropped_rows(plan, shards);
    BV_CHECK(restored ? restored->check_written(digests) : Status(Done{}));
    BV_CHECK(check_opens(folder.partial(), headers));
  }
  BV_CHECK(folder.finish(names));
  report.digests = std::move(digests);
  report.tensors = static_cast<std::int64_t>(headers.size());
  return report;
}

}  // namespace bv::convert
