#pragma once
// Archives as torch.save writes them, without its serialization id: stored records whose data
// begins at multiples of 64, checksums behind the data, zip64 where sizes need it. Pickles say the
// same in fewer operations: what is used once is not stored for later use.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/dtype.hpp"
#include "core/base/tensor_spec.hpp"
#include "core/pickle/pickle_writer.hpp"

namespace bv::pickle {

/// One archive, of which at most one record is streamed: its size is known, its bytes and checksum
/// come later. The archive is head(), those bytes, tail(checksum).
class ArchiveWriter {
 public:
  explicit ArchiveWriter(std::string folder) : folder_(std::move(folder)) {}
  void add(std::string_view name, std::string_view data);
  void add_streamed(std::string_view name, std::uint64_t size);
  /// The directory; nothing is added after it.
  void finish();

  [[nodiscard]] std::string_view head() const;
  [[nodiscard]] std::string tail(std::uint32_t crc) const;
  [[nodiscard]] std::uint64_t size() const { return cursor(); }
  [[nodiscard]] std::uint64_t streamed() const { return streamed_; }

 private:
  struct Entry {
    std::string name;  // with the folder
    std::uint64_t size = 0;
    std::uint64_t header = 0;
    std::uint32_t crc = 0;
    bool is_streamed = false;
  };
  /// Bytes of the archive so far, the streamed ones included.
  [[nodiscard]] std::uint64_t cursor() const { return text_.size() + streamed_; }
  void begin(std::string_view name, std::uint64_t size, std::uint32_t crc, bool is_streamed);
  void end();
  void add_end_records(std::uint64_t directory);

  std::string folder_;
  std::string text_;                // all but the streamed bytes
  std::optional<std::size_t> cut_;  // where in text_ these go
  std::uint64_t streamed_ = 0;
  std::vector<std::size_t> checksums_;  // places in text_ of the streamed record's checksum
  std::vector<Entry> entries_;
};

/// torch.save of one dense tensor on the CPU, whose elements are streamed.
[[nodiscard]] ArchiveWriter tensor_archive(DType dtype, const Shape& shape);
/// torch.save of a pickle and empty or small storages: `storages` by their key, "0" first.
[[nodiscard]] std::string object_archive(const std::string& folder, std::string_view pickle,
                                         const std::vector<std::string>& storages);
/// The tensor of tensor_archive as a value of a pickle, its storage under the key "0".
void add_tensor(PickleWriter& out, DType dtype, const Shape& shape);
/// "bfloat16", and "BFloat16Storage"; asserts that the type is one of F16, BF16, F32, F64, U8.
[[nodiscard]] std::string_view torch_name(DType dtype);
[[nodiscard]] std::string_view storage_name(DType dtype);

}  // namespace bv::pickle
