#pragma once
// Files that the user named: a report, a dump, a certificate.

#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/result.hpp"
#include "core/io/writer.hpp"

namespace bv::io {

/// Where a link leads, and what it leads to, is kept: a regular file is replaced by rename,
/// complete or not at all, under the name that the links lead to; a character device or a pipe gets
/// the bytes; the file that stdout or stderr of this process is gets them behind what it has.
/// Errors: those of write_file; CannotWrite for a folder, a socket or a block device, and for a
/// pipe that nobody reads within two seconds.
[[nodiscard]] Status write_named(const std::filesystem::path& path, std::string_view text);

/// Several such files that are right together or not at all. Destroyed without `commit`, or when
/// it fails, no file has its new text; what a pipe or a device got cannot be taken back.
class NamedOutputs {
 public:
  /// The whole text is on the disk, under a name of its own. Errors: those of write_named.
  [[nodiscard]] Status add(const std::filesystem::path& path, std::string text);
  /// At most once: first what takes a stream, then each file gets its name. When one does not,
  /// those that had got theirs are removed.
  [[nodiscard]] Status commit();
  /// The streams that commit() has written into.
  [[nodiscard]] const std::set<std::filesystem::path>& told() const { return told_; }

 private:
  std::vector<std::pair<std::filesystem::path, std::string>> streams_;
  std::vector<std::pair<std::filesystem::path, PendingFile>> files_;
  std::set<std::filesystem::path> told_;
};

}  // namespace bv::io
