#pragma once
// A folder that appears under its name only when complete.

#include <filesystem>
#include <set>
#include <string>

#include "core/base/result.hpp"

namespace bv::io {

/// "DIR.bv-partial", beside the final folder.
[[nodiscard]] std::filesystem::path partial_name(const std::filesystem::path& final_path);

/// Work happens in "NAME.bv-partial" beside the final folder; `finish` renames it. Without `finish`
/// the partial folder stays for --resume when it holds finished files, and is removed when it is
/// empty.
class OutputFolder {
 public:
  /// Errors: OutputExists when `final_path` is there and not empty (unless `overwrite`),
  /// PermissionDenied, Conflict when an interrupted run is in the way and neither `resume` nor
  /// `overwrite` is set.
  static Result<OutputFolder> create(const std::filesystem::path& final_path, bool overwrite,
                                     bool resume);
  OutputFolder(OutputFolder&&) noexcept = default;
  OutputFolder& operator=(OutputFolder&&) noexcept = default;
  ~OutputFolder();

  [[nodiscard]] const std::filesystem::path& partial() const { return partial_; }
  /// Removes everything of an interrupted run except these files: half-written ones, and those of
  /// another layout, do not become part of the output.
  [[nodiscard]] Status keep_only(const std::set<std::string>& files) const;
  [[nodiscard]] Status finish();

 private:
  OutputFolder(std::filesystem::path final_path, std::filesystem::path partial, bool overwrite)
      : final_(std::move(final_path)), partial_(std::move(partial)), overwrite_(overwrite) {}
  std::filesystem::path final_;
  std::filesystem::path partial_;
  bool overwrite_ = false;
};

/// Is `inner` the folder `outer` itself or below it? Links are resolved as far as the paths exist.
[[nodiscard]] bool is_inside(const std::filesystem::path& inner,
                             const std::filesystem::path& outer);

}  // namespace bv::io
