#include "ci/cli/commands/merged_source.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include "ci/cli/commands/lora_open.hpp"
#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/output_place.hpp"
#include "core/lora/merge.hpp"

namespace bv::cli {
namespace fs = std::filesystem;

MergedSource::MergedSource(const Options& options) : options_(options) {
  fs::path out = fs::absolute(options.out).lexically_normal();
  if (out.filename().empty()) {  // "out/"
    out = out.parent_path();
  }
  folder_ = out.parent_path() / fmt::format("{}.merged-{}", out.filename().string(), ::getpid());
  options_.model = folder_.string();
  options_.revision.clear();
}

MergedSource::~MergedSource() {
  if (!ours_) {
    return;
  }
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
  fs::remove_all(io::partial_name(folder_), ignored);
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
  BV_TRY(opened, open_base_and_adapter(context, options, library, of_base));
  std::unique_ptr<MergedSource> out(new MergedSource(options));
  for (const fs::path& place : {out->folder_, io::partial_name(out->folder_)}) {
    std::error_code ignored;
    if (fs::symlink_status(place, ignored).type() != fs::file_type::not_found) {
      return fail(Code::OutputExists, fmt::format("{} is in the way", io::printable_path(place)))
          .at(io::printable_path(place))
          .pair("a file or folder of that name", "a free name for the merged model")
          .advise("move it away; nothing was touched");
    }
  }
  out->ours_ = true;
  lora::MergeOptions merge;
  merge.jobs = jobs;
  merge.verify = false;  // what is made of it is read back
  merge.follow_links = options.follow_links;
  merge.untie = options.untie;
  CommandProgress progress(context, options);
  merge.progress = &progress;
  BV_TRY(report, lora::merge_model(opened.model.hf, opened.adapter, out->folder_, merge));
  run.notes.insert(run.notes.end(), opened.adapter.notes.begin(), opened.adapter.notes.end());
  run.notes.insert(run.notes.end(), report.notes.begin(), report.notes.end());
  run.notes.push_back(fmt::format("{} of {} merged before they were converted",
                                  thousands(report.merged),
                                  counted(static_cast<std::uint64_t>(report.tensors), "tensor")));
  return out;
}

}  // namespace bv::cli
