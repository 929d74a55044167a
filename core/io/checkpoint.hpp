#pragma once
// HF checkpoints on disk: safetensors files, alone or sharded, mapped read-only.

#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/result.hpp"
#include "core/base/tensor_spec.hpp"
#include "core/io/tensor_store.hpp"

namespace bv::io {

/// A fault that the format tolerates but a gate should see (docs/reference/formats.md#edge-cases).
struct FormatFinding {
  std::string file;
  std::string what;
  Code code = Code::HeaderNotJson;   // of the error that a strict reader makes of it
  bool refused_when_strict = true;   // false: worth a note, never an error
  std::optional<Code> warning = {};  // more than a note: --fail-on warning stops at it
  std::vector<std::string> facts = {};
  std::string help = {};
};

/// The finding as a warning of a run; it must have one.
[[nodiscard]] Error warning_of(const FormatFinding& finding);

/// The first finding that a strict reader refuses, as an error that counts the others.
[[nodiscard]] Status refuse_findings(std::span<const FormatFinding> findings);

struct StoredTensor {
  TensorSpec spec;
  std::size_t file = 0;     // index into Checkpoint::files()
  std::uint64_t begin = 0;  // bytes from the start of the file
  std::uint64_t end = 0;
  Shape strides = {};  // in elements, where it is not stored row by row; else empty
};

/// A tensor that a checkpoint gives in another form than it stores it.
struct MadeTensor {
  TensorSpec spec;
  std::string stored;  // the tensor that holds its values
  std::unique_ptr<const ElementMaker> maker;
};

/// One safetensors header, validated: every check of docs/reference/formats.md#validation,
/// duplicates refused, no allocation before the declared size was compared with the file's. Errors:
/// HeaderTruncated, HeaderNotJson, OffsetsInvalid, DuplicateKey, DtypeUnknown, ... with byte
/// positions.
struct SafetensorsHeader {
  std::vector<StoredTensor> tensors;  // in offset order
  std::map<std::string, std::string> metadata;
  std::vector<FormatFinding> findings;
  std::uint64_t data_begin = 0;
};
/// A finding of one kind is recorded once a file, with its count. A dimension above 2^63-1 (legal
/// only in a tensor without elements) is kept as 2^63-1, with a finding.
[[nodiscard]] Result<SafetensorsHeader> parse_safetensors_header(
    std::span<const std::byte> file_start, std::uint64_t file_size, const std::string& file);

/// Bytes of length word and header together, from the first 8 bytes of the file and its size.
/// Errors: HeaderTruncated when the length word is cut, above the format's limit, or larger than
/// the file.
[[nodiscard]] Result<std::uint64_t> safetensors_data_begin(std::span<const std::byte> file_start,
                                                           std::uint64_t file_size,
                                                           const std::string& file);

/// A shard that the index or the numbering of the files names, and that is not there.
struct MissingShard {
  std::string file;
  std::vector<std::string> tensors;  // by the index, in byte order; unknown and empty without one
};

/// A set of tensors over one or more mapped files: a store whose tensors are one chunk each.
/// Move-only. Const members may be called by many threads at once.
class Checkpoint : public TensorStore {
 public:
  /// Directory (index, single file or listing), one .safetensors file, or one .index.json file.
  /// Shard names are untrusted (docs/reference/formats.md#reading-shards). `strict` refuses what is
  /// only a FormatFinding otherwise. Errors: ModelNotFound, NotSafetensors, CacheIncomplete (shards
  /// missing), IndexDisagrees, IndexInvalid, UnsafePath, DuplicateKey (one name in two files),
  /// those of the header, and ReadFailed, PermissionDenied, OutOfMemory.
  static Result<Checkpoint> open(const std::filesystem::path& path, bool strict = false);
  /// The same, with missing shards listed in `missing()` instead of refused: names can be checked,
  /// their bytes cannot.
  static Result<Checkpoint> open_partial(const std::filesystem::path& path, bool strict = false);

  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;
  ~Checkpoint() override;

  [[nodiscard]] const std::vector<std::filesystem::path>& files() const override;
  /// The same, relative to the folder of the checkpoint, as its index names them.
  [[nodiscard]] const std::vector<std::string>& names() const;
  [[nodiscard]] const std::map<std::string, StoredTensor, std::less<>>& tensors() const;
  [[nodiscard]] Headers headers() const override;
  void for_each(const std::function<void(const TensorSpec&)>& visit) const override;
  [[nodiscard]] const TensorSpec* find(std::string_view tensor) const override;
  [[nodiscard]] std::vector<Chunk> chunks(const TensorSpec& tensor) const override;
  /// From now on `find` and `chunks` know the tensor, in place of a stored one of its name; its
  /// maker reads this checkpoint. Not while other threads use the checkpoint.
  void add_made(MadeTensor tensor);
  [[nodiscard]] const std::map<std::string, MadeTensor, std::less<>>& made() const;
  [[nodiscard]] const std::vector<FormatFinding>& findings() const;
  [[nodiscard]] std::uint64_t total_bytes() const override;
  [[nodiscard]] const std::vector<MissingShard>& missing() const;
  /// The error that `open` makes of them; there must be some.
  [[nodiscard]] Error missing_error() const;
  /// `__metadata__` of a file, and where its data section begins.
  [[nodiscard]] const std::map<std::string, std::string>& metadata(std::size_t file) const;
  [[nodiscard]] std::uint64_t data_begin(std::size_t file) const;
  /// Makes the elements of a tensor that is not stored row by row; nullptr for any other.
  [[nodiscard]] const ElementMaker* maker(const StoredTensor& tensor) const;
  /// The mapped bytes of one tensor, those between its elements included where it has strides
  /// (WholeTensor gives them row by row); valid while the checkpoint lives. A file that another
  /// process truncates meanwhile ends this process on access (SIGBUS); `read` does not have that
  /// fault.
  [[nodiscard]] std::span<const std::byte> bytes(const StoredTensor& tensor) const;
  /// Copies out.size() bytes of the tensor from its byte `offset`, without the mapping. At most
  /// kOpenFilesMax files stay open. Errors: IndexDisagrees when the file changed since it was
  /// opened, ReadFailed.
  [[nodiscard]] Status read(const StoredTensor& tensor, std::uint64_t offset,
                            std::span<std::byte> out) const;
  static constexpr std::size_t kOpenFilesMax = 64;
  /// Tells the kernel that it may drop these pages (keeps resident memory bounded).
  void release(std::span<const std::byte> range) const override;
  /// Errors: IndexDisagrees when a file's size or mtime changed since it was opened, also one that
  /// a maker reads.
  [[nodiscard]] Status unchanged() const override;

 private:
  struct State;
  explicit Checkpoint(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace bv::io
