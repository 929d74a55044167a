#pragma once
// One output file while it is written.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/io/digest.hpp"
#include "core/io/writer.hpp"

namespace bv::convert {

/// Small tensors lie beside each other, and none of them ends where a page does. Where one thread
/// writes all of a file, what they leave of an aligned piece is kept until the next one fills it:
/// the file is written in whole pieces, and its fingerprint is made on the way.
class OpenOutput {
 public:
  enum class Writers { One, Several };
  enum class Print { None, Whole };

  /// Errors: those of io::PendingFile::create.
  static Result<OpenOutput> create(const std::filesystem::path& path, std::uint64_t size,
                                   Writers writers, Print print);
  /// By any thread where several write. Errors: those of io::PendingFile::write_at, for bytes that
  /// were kept also.
  [[nodiscard]] Status write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  /// Errors: those of write_at and of io::PendingFile::commit.
  [[nodiscard]] Status commit();
  /// XXH3-128 of the whole file; unset when nobody asked for it or it was not written in order.
  [[nodiscard]] std::optional<std::string> print() const;

 private:
  OpenOutput(io::PendingFile file, std::uint64_t size, Writers writers, Print print);
  [[nodiscard]] Status flush();

  io::PendingFile file_;
  std::uint64_t size_ = 0;
  bool joins_ = false;
  std::vector<std::byte> kept_;  // the bytes from kept_at_ on, less than a piece
  std::uint64_t kept_at_ = 0;
  std::optional<io::Digest> print_;
  std::uint64_t printed_ = 0;
};

}  // namespace bv::convert
