#pragma once
// Elements that are computed when they are asked for, in place of bytes that lie somewhere.

#include <cstddef>
#include <cstdint>

namespace bv {

/// The elements of one tensor, row-major. Const members may be called by many threads at once.
class ElementMaker {
 public:
  ElementMaker() = default;
  ElementMaker(const ElementMaker&) = delete;
  ElementMaker& operator=(const ElementMaker&) = delete;
  virtual ~ElementMaker() = default;
  /// Writes elements [begin, end) of the tensor's type to `out`.
  virtual void make(std::int64_t begin, std::int64_t end, std::byte* out) const = 0;
};

}  // namespace bv
