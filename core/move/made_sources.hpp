#pragma once
// Computed sources of a tensor: the elements that a window reads of them, made once.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "core/base/result.hpp"
#include "core/layout/box.hpp"
#include "core/move/executor.hpp"

namespace bv::move {

/// What one window after another reads of sources that are computed. Memory: what the last window
/// read, in whole granules of its makers; a window that needs nothing else makes nothing.
class MadeSources {
 public:
  /// Makes the elements that `pieces` read. `pieces()` and `sources()` are then the same window
  /// over bytes, valid until the next call. Errors: those of the makers.
  [[nodiscard]] Status make(std::span<const layout::BoxPiece> pieces,
                            std::span<const SourceBytes> sources);
  [[nodiscard]] std::span<const layout::BoxPiece> pieces() const { return pieces_; }
  [[nodiscard]] std::span<const SourceBytes> sources() const { return sources_; }

 private:
  /// Elements [begin, end) of a source, from byte `at` of the memory on.
  struct Range {
    int source = 0;
    std::int64_t begin = 0;
    std::int64_t end = 0;
    std::size_t at = 0;
  };
  void split(const layout::BoxPiece& piece, const ElementMaker& maker);
  void join_wanted();
  [[nodiscard]] std::size_t holder(int source, std::int64_t element) const;
  [[nodiscard]] bool has(const Range& range) const;
  [[nodiscard]] Status make_wanted(std::span<const SourceBytes> sources);

  std::vector<layout::BoxPiece> pieces_;
  std::deque<std::vector<layout::BoxAxis>> axes_;  // that pieces_ view
  std::vector<SourceBytes> sources_;
  std::vector<Range> wanted_;  // by source and begin
  std::vector<Range> ranges_;  // that are made, in the same order, apart
  std::vector<std::byte> bytes_;
};

}  // namespace bv::move
