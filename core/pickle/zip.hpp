#pragma once
// Archives of torch.save: zip files whose records are stored, never compressed, below one folder.
// The archive is hostile: everything it says is held against the bytes that are there.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"

namespace bv::pickle {

/// One record: its bytes are [begin, begin + size) of the archive.
struct Record {
  std::string name;  // without the folder of the archive: "data/0"
  std::uint64_t begin = 0;
  std::uint64_t size = 0;
  std::uint32_t crc = 0;
};

/// The records of one archive, by ascending name.
class Archive {
 public:
  static constexpr std::uint64_t kRecordsMax = 1'000'000;

  /// Reads the directory and every local header, no data. `bytes` must outlive the archive; `file`
  /// is for messages. Errors: ZipInvalid (cut, compressed, encrypted, several disks, too many
  /// records, a record out of the archive or over another one, names that differ from header to
  /// directory, are doubled or climb, or that have no folder in common).
  static Result<Archive> open(std::span<const std::byte> bytes, const std::string& file);

  [[nodiscard]] const std::vector<Record>& records() const { return records_; }
  /// nullptr when there is none.
  [[nodiscard]] const Record* find(std::string_view name) const;
  [[nodiscard]] std::span<const std::byte> bytes(const Record& record) const {
    return bytes_.subspan(record.begin, record.size);
  }
  /// "archive", the folder that every name begins with.
  [[nodiscard]] const std::string& folder() const { return folder_; }

 private:
  friend class ArchiveReader;
  std::span<const std::byte> bytes_;
  std::string folder_;
  std::vector<Record> records_;
};

}  // namespace bv::pickle
