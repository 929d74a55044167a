#pragma once
// HF checkpoints on disk: safetensors files, alone or sharded, mapped read-only.

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

/// A fault that the format tolerates but a gate should see (formats.md 2.4, rows W).
struct FormatFinding {
  std::string file;
  std::string what;
};

struct StoredTensor {
  TensorSpec spec;
  std::size_t file = 0;        // index into Checkpoint::files()
  std::uint64_t begin = 0;     // bytes from the start of the file
  std::uint64_t end = 0;
};

/// One safetensors header, validated: every check of formats.md 2.3, duplicates refused, no allocation before
/// the declared size was compared with the file's.
/// Errors: HeaderTruncated, HeaderNotJson, OffsetsInvalid, DuplicateKey, DtypeUnknown, ... with byte positions.
struct SafetensorsHeader {
  std::vector<StoredTensor> tensors;  // in offset order
  std::map<std::string, std::string> metadata;
  std::vector<FormatFinding> findings;
  std::uint64_t data_begin = 0;
};
[[nodiscard]] Result<SafetensorsHeader> parse_safetensors_header(std::span<const std::byte> file_start,
                                                                 std::uint64_t file_size, const std::string& file);

/// A set of tensors over one or more mapped files. Move-only.
class Checkpoint {
 public:
  /// Directory (index, single file or listing), or one .safetensors file. Shard names are untrusted (formats.md 3.4).
  /// `strict` refuses what is only a FormatFinding otherwise.
  static Result<Checkpoint> open(const std::filesystem::path& path, bool strict = false);

  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;
  ~Checkpoint();

  [[nodiscard]] const std::vector<std::filesystem::path>& files() const;
  [[nodiscard]] const std::map<std::string, StoredTensor, std::less<>>& tensors() const;
  [[nodiscard]] Headers headers() const;
  [[nodiscard]] const std::vector<FormatFinding>& findings() const;
  [[nodiscard]] std::uint64_t total_bytes() const;
  /// The mapped bytes of one tensor; valid while the checkpoint lives.
  [[nodiscard]] std::span<const std::byte> bytes(const StoredTensor& tensor) const;
  /// Tells the kernel that these bytes are not needed soon (keeps resident memory bounded).
  void release(std::span<const std::byte> range) const;
  /// Errors: IndexDisagrees when a file's size or mtime changed since it was opened.
  [[nodiscard]] Status unchanged() const;

 private:
  struct State;
  explicit Checkpoint(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace bv::io
