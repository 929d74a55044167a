#pragma once
// A line on one binding, run as the engine runs it: boxes proved to tile both sides, bytes moved to
// poisoned shards and back, and compared.

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "core/layout/box.hpp"
#include "properties/attacks/lines/tilings.hpp"

namespace bv::lines {

/// Changes a shard's boxes: a planted fault.
using Plant = std::function<void(layout::Shard&)>;

/// Does the line declare copies? A source element may then be read more than once.
[[nodiscard]] bool has_copies(const layout::Rule& rule);

/// Keeps its buffers, so that a case costs its boxes.
class LineRunner {
 public:
  /// `seed` fills the sources: every bit pattern occurs.
  explicit LineRunner(std::uint64_t seed);

  void plant_there(Plant fault) { there_ = std::move(fault); }
  void plant_back(Plant fault) { back_ = std::move(fault); }

  /// Elements have `element_bytes` bytes: 1, 2, 4 or 8; `copied`: has_copies(bound.rule()). Errors:
  /// Gap, Overlap (the sweep), BytesDiffer (a shard does not hold its sources), InverseNotIdentity;
  /// BadValue for sources above 1 MiB.
  [[nodiscard]] Status run(const layout::BoundRule& bound, std::size_t element_bytes, bool copied);
  [[nodiscard]] Status run(const layout::BoundRule& bound, std::size_t element_bytes) {
    return run(bound, element_bytes, has_copies(bound.rule()));
  }

  /// Bytes of the sources of all cases so far.
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  Status move_there(const layout::Shard& shard, std::size_t element_bytes);
  Status move_back(const layout::Shard& shard, std::size_t element_bytes);
  Status check_sources(const layout::BoundRule& bound, std::size_t element_bytes, bool copied);
  const std::byte* source(std::size_t index, std::size_t bytes);

  std::vector<std::byte> pattern_;  // what sources are filled with
  /// One source; vectors keep their memory from case to case.
  struct Source {
    std::size_t start = 0;  // where it begins in the pattern, in elements
    std::size_t elements = 0;
    std::vector<std::byte> came_back;
    std::vector<layout::Box> inverse;  // of which `inverses` are of this case
    std::size_t inverses = 0;
  };

  std::vector<Source> read_;
  PlaceWalk walk_;
  layout::Shard boxes_;  // of one shard
  std::vector<std::byte> shard_;
  std::vector<const std::byte*> sources_;
  std::vector<std::uint8_t> reached_;
  Plant there_;
  Plant back_;
  std::uint64_t bytes_ = 0;
};

}  // namespace bv::lines
