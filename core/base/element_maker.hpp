#pragma once
// Elements that are computed when they are asked for, in place of bytes that lie somewhere.

#include <cstddef>
#include <cstdint>

#include "core/base/result.hpp"

namespace bv {

/// The elements of one tensor, row-major. Const members may be called by many threads at once.
class ElementMaker {
 public:
  ElementMaker() = default;
  ElementMaker(const ElementMaker&) = delete;
  ElementMaker& operator=(const ElementMaker&) = delete;
  virtual ~ElementMaker() = default;
  /// Writes elements [begin, end) of the tensor's type to `out`. Errors: those of a maker whose
  /// elements may not exist; nothing of the range counts then.
  [[nodiscard]] virtual Status make(std::int64_t begin, std::int64_t end, std::byte* out) const = 0;
  /// Of the tensor.
  [[nodiscard]] virtual std::int64_t elements() const = 0;
  /// Elements that are made together: a range costs what the whole multiples of so many cost that
  /// it lies in. 1: each alone.
  [[nodiscard]] virtual std::int64_t granule() const { return 1; }
  /// Of files that it reads beside those of its store. Errors: IndexDisagrees when one changed.
  [[nodiscard]] virtual Status unchanged() const { return Done{}; }
};

}  // namespace bv
