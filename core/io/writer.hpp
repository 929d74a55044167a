#pragma once
// Writes one safetensors file: temporary name in the same folder, positioned writes, fsync, rename.

#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/result.hpp"
#include "core/base/tensor_spec.hpp"

namespace bv::io {

/// Header bytes (length word included) and tensor order of the reference writer (formats.md 2.6): dtype rank
/// descending, then name; metadata keys sorted; padded to 8 bytes.
struct SafetensorsPlan {
  std::string header;
  std::vector<TensorSpec> tensors;        // in file order
  std::vector<std::uint64_t> offsets;     // file offset of each
  std::uint64_t file_size = 0;
};
[[nodiscard]] Result<SafetensorsPlan> plan_safetensors(std::vector<TensorSpec> tensors,
                                                       const std::map<std::string, std::string>& metadata);

/// A file that appears under its name only when complete. Destroyed without `commit`: nothing remains.
class PendingFile {
 public:
  /// Errors: DiskFull, PermissionDenied, OutputExists.
  static Result<PendingFile> create(const std::filesystem::path& final_name, std::uint64_t size);
  PendingFile(PendingFile&&) noexcept;
  PendingFile& operator=(PendingFile&&) noexcept;
  ~PendingFile();
  /// Thread-safe. Errors: DiskFull with the bytes still needed.
  [[nodiscard]] Status write_at(std::uint64_t offset, std::span<const std::byte> bytes) const;
  /// fsync, rename, fsync of the folder.
  [[nodiscard]] Status commit();

 private:
  struct State;
  explicit PendingFile(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// A small file (JSON, manifest) by the same road.
[[nodiscard]] Status write_file(const std::filesystem::path& path, std::string_view text);
[[nodiscard]] Result<std::string> read_file(const std::filesystem::path& path, std::uint64_t limit_bytes);

}  // namespace bv::io
