#pragma once
// Makes one output tensor window by window, fingerprints it where that is wanted, and hands the
// windows on.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/convert/source_prints.hpp"
#include "core/convert/stream.hpp"
#include "core/io/digest.hpp"
#include "core/move/tensor_maker.hpp"

namespace bv::convert {

/// Where the windows of a tensor end: in the file, at multiples of their size. The page cache of a
/// disk takes such a piece as one: 256 MiB to ext4 took 0.025 s then, and 0.048 s across them.
struct WindowEnds {
  std::int64_t window = 1;   // bytes
  std::int64_t granule = 1;  // elements
  std::int64_t at = 0;       // of the tensor's first byte in the file
  ElementWidth width;

  [[nodiscard]] ElementOffset after(ElementOffset begin) const {
    std::int64_t bytes = window - (at + width.to_bytes(begin).value) % window;
    bytes += bytes < window / 2 ? window : 0;
    const std::int64_t granules = width.at_least_one_in(ByteOffset(bytes)).value / granule;
    return begin + ElementOffset(std::max<std::int64_t>(1, granules) * granule);
  }
};

/// A fingerprint is one more pass over what was made: none where the sink makes a sum of its own.
enum class Fingerprint { None, Made };

class WindowMaker {
 public:
  /// Takes the bytes from a byte of the tensor on.
  using Sink = std::function<Status(ByteOffset at, std::span<const std::byte>)>;

  /// `tensor` must outlive the maker. Moves with `device`, or on the calling thread without one;
  /// makers that take turns may share `window`.
  WindowMaker(const OutputTensor& tensor, Sink sink, move::Executor* device = nullptr,
              Fingerprint fingerprint = Fingerprint::Made, move::WindowBuffer* window = nullptr);
  /// Makes the elements [begin, end); windows go in ascending order. Errors: those of the sink and
  /// of TensorMaker::make.
  [[nodiscard]] Status make(ElementOffset begin, ElementOffset end);
  /// Fingerprints the sources as they are read. Sources of several chunks are not.
  void print_sources(SourcePrints& prints);
  /// The fingerprint of what was made; Fingerprint::Made.
  [[nodiscard]] std::string digest() const { return hash_.hex(); }
  /// See move::TensorMaker::lead.
  void lead() { maker_.lead(); }
  /// Do axes change places? Small windows would read every line of the sources again and again.
  [[nodiscard]] bool is_transposed() const { return maker_.is_transposed(); }
  /// See move::TensorMaker::window_bytes.
  [[nodiscard]] std::int64_t window_bytes(std::int64_t least) const {
    return maker_.window_bytes(least);
  }
  /// Gives the mapped pages of the sources back.
  void release() const { checkpoint::release(tensor_.sources); }

 private:
  Status make_edited(ElementOffset begin, ElementOffset end);
  Status hand_on(ElementOffset at, std::span<const std::byte> made);

  const OutputTensor& tensor_;
  move::TensorMaker maker_;
  Sink sink_;
  std::vector<std::byte> edited_;
  Fingerprint fingerprint_;
  io::Digest hash_;
  SourcePrints::Readers readers_;
};

}  // namespace bv::convert
