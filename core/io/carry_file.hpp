#pragma once
// Files that are carried along as they are: copied and fingerprinted in pieces, whatever their
// size.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"

namespace bv::io {

/// Size and XXH3-128 of a file's bytes.
struct FilePrint {
  std::uint64_t bytes = 0;
  std::string digest;
  bool operator==(const FilePrint&) const = default;
};

/// Errors: those of open_regular; ReadFailed, IndexDisagrees when the file changes meanwhile.
[[nodiscard]] Result<FilePrint> print_of_file(const std::filesystem::path& path);
/// Bytes [begin, end) of a file.
struct FileRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};
/// The fingerprint of a file, and in the same pass those of ranges of it that ascend and share no
/// byte: XXH3-128 of each, in their order.
struct FilePrints {
  FilePrint whole;
  std::vector<std::string> ranges;
};
/// Errors: those of print_of_file; OutOfMemory.
[[nodiscard]] Result<FilePrints> prints_of_file(const std::filesystem::path& path,
                                                std::span<const FileRange> ranges);
[[nodiscard]] FilePrint print_of_text(std::string_view text);

/// Copies into a file that appears when it is complete. Errors: as print_of_file; those of
/// PendingFile.
[[nodiscard]] Result<FilePrint> carry_file(const std::filesystem::path& from,
                                           const std::filesystem::path& to);

/// Drops what the page cache holds of a file that was synced, so that the next read comes from the
/// device. File systems in memory keep it all the same. Errors: those of open_regular; ReadFailed.
[[nodiscard]] Status drop_cached(const std::filesystem::path& path);

}  // namespace bv::io
