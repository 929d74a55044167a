#pragma once
// Makes one output tensor window by window, fingerprints it and hands the windows on.

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/convert/stream.hpp"
#include "core/io/digest.hpp"
#include "core/move/box_windows.hpp"
#include "core/move/move.hpp"

namespace bv::convert {

class WindowMaker {
 public:
  /// Takes the bytes from a byte of the tensor on.
  using Sink = std::function<Status(std::uint64_t, std::span<const std::byte>)>;

  /// `tensor` must outlive the maker.
  WindowMaker(const OutputTensor& tensor, Sink sink);
  /// Makes the elements [begin, end); windows go in ascending order. Bytes that lie in long runs at
  /// the source are handed on from there. Errors: those of the sink.
  [[nodiscard]] Status make(std::int64_t begin, std::int64_t end);
  /// The fingerprint of what was made.
  [[nodiscard]] std::string digest() const { return hash_.hex(); }
  /// Do axes change places? Small windows would read every line of the sources again and again.
  [[nodiscard]] bool is_turned() const;
  /// Gives the mapped pages of the sources back.
  void release() const;

 private:
  [[nodiscard]] const std::byte* source_of(const layout::BoxPiece& piece) const;
  [[nodiscard]] DType dtype_of(const layout::BoxPiece& piece) const;
  [[nodiscard]] bool are_long_runs(std::int64_t begin, std::int64_t end) const;
  void fill(std::int64_t begin, std::int64_t end);
  void fill_shifted(std::int64_t begin, std::int64_t end);
  [[nodiscard]] Status hand_on(std::int64_t element, std::span<const std::byte> made);

  const OutputTensor& tensor_;
  std::vector<layout::Box> boxes_;
  move::BoxWindows windows_;
  Sink sink_;
  io::Digest hash_;
  std::vector<std::span<const std::byte>> bytes_;
  std::vector<const std::byte*> sources_;  // their first bytes
  bool one_dtype_ = true;                  // bits go as they are
  move::Isa isa_ = move::best_isa();
  std::vector<layout::BoxPiece> pieces_;
  std::vector<std::byte> window_;
  std::vector<std::byte> shifted_;
};

}  // namespace bv::convert
