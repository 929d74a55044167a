#include "ci/cli/commands/merged_source.hpp"

#include <fmt/format.h>

#include "ci/cli/commands/lora_open.hpp"
#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/output_folder.hpp"
#include "core/io/output_place.hpp"
#include "core/io/writer.hpp"
#include "core/lora/merge.hpp"

namespace bv::cli {
namespace fs = std::filesystem;

namespace {

constexpr const char* kModelFolder = "model";

Error in_the_way(const fs::path& place) {
  return fail(Code::OutputExists, fmt::format("{} is in the way", io::printable_path(place)))
      .at(io::printable_path(place))
      .pair("a file or folder of that name", "a free name for the merged model")
      .advise("move it away; nothing was touched");
}

/// Removes what a run that was killed left behind: a folder with the marker of a run, which no
/// process holds. Errors: OutputExists for anything else; OutputBusy.
Status clear_leftover(const fs::path& place) {
  if (io::standing_at(place) == io::Standing::Nothing) {
    return Done{};
  }
  std::error_code error;
  const bool ours = io::standing_at(place) == io::Standing::Folder &&
                    fs::is_regular_file(fs::symlink_status(place / io::kRunMarker, error));
  if (!ours) {
    return in_the_way(place);
  }
  if (const auto lock = io::FolderLock::take(place); !lock) {
    return lock.error();
  }
  fs::remove_all(place, error);
  return error ? Status(in_the_way(place)) : Status(Done{});
}

}  // namespace

MergedSource::MergedSource(const Options& options) : options_(options) {
  fs::path out = fs::absolute(options.out).lexically_normal();
  if (out.filename().empty()) {  // "out/"
    out = out.parent_path();
  }
  folder_ = out.parent_path() / (out.filename().string() + ".bv-merged");
  options_.model = (folder_ / kModelFolder).string();
  options_.revision.clear();
}

MergedSource::~MergedSource() {
  if (!ours_) {
    return;
  }
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

/// Makes the folder, locked for this process.
Status MergedSource::make_folder() {
  BV_CHECK(clear_leftover(folder_));
  std::error_code error;
  fs::create_directories(folder_.parent_path(), error);
  if (!fs::create_directory(folder_, error)) {
    return in_the_way(folder_);
  }
  ours_ = true;
  BV_TRY(lock, io::FolderLock::take(folder_));
  lock_ = std::move(lock);
  return io::write_file(folder_ / io::kRunMarker, "");
}

Result<std::unique_ptr<MergedSource>> MergedSource::make(Context& context, const Options& options,
                                                         const Library& library, int jobs,
                                                         Run& run) {
  if (options.adapter.empty()) {
    if (options.untie) {
      return fail(Code::Conflict, "--untie belongs to --adapter")
          .advise("leave it out, or give the adapter that is to be merged");
    }
    return std::unique_ptr<MergedSource>();
  }
  Run of_base;  // the header of the run is that of the merged model
  BV_TRY(opened, open_base_and_adapter(context, options, library, of_base, UnknownBase::Refuse));
  std::unique_ptr<MergedSource> out(new MergedSource(options));
  BV_CHECK(out->make_folder());
  lora::MergeOptions merge;
  merge.jobs = jobs;
  merge.verify = false;  // what is made of it is read back
  merge.follow_links = options.follow_links;
  merge.untie = options.untie;
  CommandProgress progress(context, options);
  merge.progress = &progress;
  BV_TRY(report, lora::merge_model(opened.model.hf, opened.adapter, out->options_.model, merge));
  run.warnings.insert(run.warnings.end(), of_base.warnings.begin(), of_base.warnings.end());
  run.notes.insert(run.notes.end(), opened.adapter.notes.begin(), opened.adapter.notes.end());
  run.notes.insert(run.notes.end(), report.notes.begin(), report.notes.end());
  run.notes.push_back(fmt::format("{} of {} merged before they were converted",
                                  thousands(report.merged),
                                  counted(static_cast<std::uint64_t>(report.tensors), "tensor")));
  return out;
}

}  // namespace bv::cli
