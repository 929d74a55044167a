#pragma once
// A folder that appears under its name only when complete.

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "core/base/result.hpp"
#include "core/io/mapped_file.hpp"
#include "core/io/output_place.hpp"

namespace bv::io {

/// Work happens in "NAME.bv-partial" beside the final folder, which this process holds a lock on;
/// `finish` renames it. Without `finish` the partial folder stays for --resume when it holds
/// finished files, and is removed when it is empty.
class OutputFolder {
 public:
  /// `request.files` are all that `finish` may be given. Errors: those of check_output_place;
  /// OutputBusy when another run took the place meanwhile.
  static Result<OutputFolder> create(OutputRequest request);
  OutputFolder(OutputFolder&&) noexcept = default;
  OutputFolder& operator=(OutputFolder&&) noexcept = delete;
  ~OutputFolder();

  [[nodiscard]] const std::filesystem::path& partial() const { return partial_; }
  /// Removes everything of an interrupted run except these files (relative names): half-written
  /// ones, those of another layout, and links do not become part of the output. Errors: NotOurs
  /// when no run wrote an entry; nothing is removed then.
  [[nodiscard]] Status keep_only(const std::set<std::string>& files) const;
  /// Counts the files, then puts the folder under its name, in place of an earlier output when that
  /// was asked for. Errors: WriteLost when a file is missing or another one is there;
  /// OutputExists, NotOurs, OutputPlace when something appeared under the name meanwhile: the work
  /// then stays for --resume.
  [[nodiscard]] Status finish(const std::set<std::string>& files);
  /// Removes the unfinished folder with all that is in it.
  void abandon();

 private:
  OutputFolder(OutputRequest request, std::filesystem::path name, Descriptor lock)
      : request_(std::move(request)),
        final_(std::move(name)),
        partial_(partial_name(final_)),
        lock_(std::move(lock)) {}
  [[nodiscard]] Status put_aside() const;
  [[nodiscard]] Status sync_parent() const;

  OutputRequest request_;
  std::filesystem::path final_;
  std::filesystem::path partial_;  // empty once it has its name
  Descriptor lock_;
};

/// Room on the disk under `folder` for that many more bytes. Errors: DiskFull with what is missing.
[[nodiscard]] Status check_room_for(const std::filesystem::path& folder, std::uint64_t bytes);

/// Holds a folder for one writer of reports; released when it goes.
class FolderLock {
 public:
  FolderLock() = default;
  /// Errors: OutputBusy when another process holds it; PermissionDenied, ReadFailed.
  static Result<FolderLock> take(const std::filesystem::path& folder);

 private:
  Descriptor lock_;
};

}  // namespace bv::io
