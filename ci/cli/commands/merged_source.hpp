#pragma once
// convert --adapter: the model with its adapter merged, as the source of a conversion.

#include <filesystem>
#include <memory>
#include <string>

#include "ci/cli/session/session.hpp"
#include "core/io/output_folder.hpp"

namespace bv::cli {

/// The merged checkpoint of `lora merge` in "OUT.bv-merged" beside the output, for as long as this
/// lives: memory is bounded as it is there, and the disk holds the model once more meanwhile. What
/// a run that was killed left there is removed by the next one.
class MergedSource {
 public:
  /// nullptr without --adapter. Notes of the merge are added to the run. Errors: Conflict for
  /// --untie alone; OutputExists when that name is somebody else's, OutputBusy; those of
  /// open_base_and_adapter and lora::merge_model.
  static Result<std::unique_ptr<MergedSource>> make(Context& context, const Options& options,
                                                    const Library& library, int jobs, Run& run);
  ~MergedSource();
  MergedSource(const MergedSource&) = delete;
  MergedSource& operator=(const MergedSource&) = delete;

  /// Those of the command, with the merged checkpoint as the model.
  [[nodiscard]] const Options& options() const { return options_; }

 private:
  explicit MergedSource(const Options& options);
  Status make_folder();

  Options options_;
  std::filesystem::path folder_;
  io::FolderLock lock_;
  bool ours_ = false;  // made by this run: removed at its end
};

}  // namespace bv::cli
