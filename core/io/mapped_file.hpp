#pragma once
// Regular files for reading: descriptors, what identifies their content, private read-only maps.

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "core/base/result.hpp"

namespace bv::io {

/// Owns a file descriptor.
class Descriptor {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor();
  [[nodiscard]] int number() const { return number_; }
  [[nodiscard]] int release() {
    const int out = number_;
    number_ = -1;
    return out;
  }

 private:
  int number_;
};

/// Two equal stamps of one path mean: nobody wrote the file in between.
struct FileStamp {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t size = 0;
  std::int64_t modified_ns = 0;
  bool operator==(const FileStamp&) const = default;
};

struct OpenedFile {
  Descriptor descriptor;
  FileStamp stamp;
};

/// Opens a regular file; never blocks on a pipe or device.
/// Errors: ReadFailed (absent, no regular file, link loop), PermissionDenied.
[[nodiscard]] Result<OpenedFile> open_regular(const std::filesystem::path& path);
/// Errors: ReadFailed when the file ends before out.size() bytes.
[[nodiscard]] Status read_exactly(const Descriptor& descriptor, std::uint64_t offset,
                                  std::span<std::byte> out, const std::filesystem::path& path);
/// The stamp of what the path names now. Errors: IndexDisagrees when it is not `before`.
[[nodiscard]] Status check_unchanged(const std::filesystem::path& path, const FileStamp& before);

/// Owns a private read-only map of a whole file; the descriptor may be closed. An empty file has an
/// empty map.
class Mapping {
 public:
  Mapping() = default;
  /// Errors: OutOfMemory, ReadFailed (a file system without maps).
  static Result<Mapping> map(const OpenedFile& file, const std::filesystem::path& path);
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();
  [[nodiscard]] std::span<const std::byte> bytes() const { return {first_, size_}; }
  /// Tells the kernel that `range` is not needed soon. Many small ranges in one place are one call
  /// to the system, which waits for a range elsewhere, small in this map or large in any: what
  /// stays mapped does not grow with what was read. Thread-safe.
  void release(std::span<const std::byte> range) const;

 private:
  static constexpr std::uintptr_t kNone = ~std::uintptr_t{0};
  std::byte* first_ = nullptr;
  std::size_t size_ = 0;
  /// The place whose small ranges were read and not given back yet.
  mutable std::atomic<std::uintptr_t> waiting_{kNone};
};

/// Tells the kernel that `range`, a part of the map `all`, is not needed soon. Does nothing when it
/// is no part.
void release_pages(std::span<const std::byte> all, std::span<const std::byte> range);

/// Keeps the most recently used files open, at most `capacity`; thread-safe. A descriptor in use
/// survives its removal.
class DescriptorCache {
 public:
  explicit DescriptorCache(std::size_t capacity) : capacity_(capacity) {}
  /// Errors: those of open_regular, IndexDisagrees when the file is not the one of `stamp`.
  Result<std::shared_ptr<const Descriptor>> get(std::size_t file, const std::filesystem::path& path,
                                                const FileStamp& stamp);

 private:
  struct Slot {
    std::size_t file = 0;
    std::uint64_t used = 0;
    std::shared_ptr<const Descriptor> descriptor;
  };
  std::shared_ptr<const Descriptor> find(std::size_t file);

  std::size_t capacity_;
  std::mutex mutex_;
  std::uint64_t clock_ = 0;
  std::vector<Slot> slots_;
};

}  // namespace bv::io
