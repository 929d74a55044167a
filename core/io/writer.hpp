#pragma once
// Writes one safetensors file: temporary name in the same folder, positioned writes, fsync, rename.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"
#include "core/base/tensor_spec.hpp"

namespace bv::io {

/// Header bytes (length word included) and tensor order of the reference writer
/// (docs/reference/formats.md#writing): dtype rank descending, then name; metadata keys sorted;
/// padded to 8 bytes.
struct SafetensorsPlan {
  std::string header;
  std::vector<TensorSpec> tensors;     // in file order
  std::vector<std::uint64_t> offsets;  // file offset of each
  std::uint64_t file_size = 0;
};
/// `align` is a power of two of at least 8: the header is padded so that the data section starts on
/// a multiple of it. Errors: DuplicateKey (one name twice), TensorSizeInvalid (negative or
/// overflowing shape, no whole bytes), HeaderNotJson (a name or text that is not UTF-8, the name
/// __metadata__), HeaderTooLarge (above the format's 100 MB limit).
[[nodiscard]] Result<SafetensorsPlan> plan_safetensors(
    std::vector<TensorSpec> tensors, const std::map<std::string, std::string>& metadata,
    std::uint64_t align = 8);

/// Whether a file may take the place of one with the same name.
enum class IfExists { Refuse, Replace };

/// How the names of files begin that have not got theirs yet.
inline constexpr const char* kUnfinishedFile = ".bv-partial-";

/// A file that appears under its name only when complete. Destroyed without `commit`: nothing
/// remains.
class PendingFile {
 public:
  /// Space is reserved at once where the file system can; bytes never written read as zero.
  /// Errors: DiskFull with the bytes that are missing, PermissionDenied, OutputExists, WriteLost.
  static Result<PendingFile> create(const std::filesystem::path& final_name, std::uint64_t size,
                                    IfExists if_exists = IfExists::Refuse);
  PendingFile(PendingFile&&) noexcept;
  PendingFile& operator=(PendingFile&&) noexcept;
  ~PendingFile();
  /// Thread-safe. The range must lie inside the file. Errors: DiskFull with the bytes still needed,
  /// WriteLost.
  [[nodiscard]] Status write_at(std::uint64_t offset, std::span<const std::byte> bytes) const;
  /// fsync, rename, fsync of the folder. At most once, and no write after it.
  /// Errors: WriteLost, OutputExists when a file took the name meanwhile.
  [[nodiscard]] Status commit();

 private:
  struct State;
  explicit PendingFile(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Writes all bytes at `offset`, over interruptions and short writes. `still_needed` is what a full
/// disk lacks then. Errors: DiskFull, WriteLost. `path` is for the message.
[[nodiscard]] Status write_all(int descriptor, std::uint64_t offset,
                               std::span<const std::byte> bytes, std::uint64_t still_needed,
                               const std::filesystem::path& path);

/// A small file (JSON, manifest) written the same way; it replaces an older one.
[[nodiscard]] Status write_file(const std::filesystem::path& path, std::string_view text);
/// Errors: ReadFailed (absent, no regular file), PermissionDenied; `too_large` above the limit.
[[nodiscard]] Result<std::string> read_file(const std::filesystem::path& path,
                                            std::uint64_t limit_bytes,
                                            Code too_large = Code::ReadFailed);

}  // namespace bv::io
