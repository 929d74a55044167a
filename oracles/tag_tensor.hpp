#pragma once
// A tensor of element tags with the few operations that the formulas of this folder are written
// with. They are named and mean as in LibTorch; tests/oracles holds every formula against LibTorch
// itself (BV_ORACLE_ATEN compiles the same files over at::Tensor).

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace bv::oracle {

class Unanswered : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace bv::oracle

#ifdef BV_ORACLE_ATEN
#include <ATen/ATen.h>
namespace bv::oracle::ops {
using Tensor = at::Tensor;
using at::cat;
inline Tensor full_like(const Tensor& like, const std::vector<std::int64_t>& sizes,
                        std::int64_t value) {
  return at::full(sizes, value, like.options());
}
}  // namespace bv::oracle::ops
#else
namespace bv::oracle::ops {

/// A strided view of int64 elements. Copies share the elements, which nothing changes.
/// Errors of all: Unanswered naming sizes.
class Tensor {
 public:
  Tensor() = default;
  Tensor(std::vector<std::int64_t> sizes, std::vector<std::int64_t> elements);

  [[nodiscard]] std::int64_t dim() const { return std::ssize(sizes_); }
  [[nodiscard]] std::int64_t size(std::int64_t axis) const;
  [[nodiscard]] const std::vector<std::int64_t>& sizes() const { return sizes_; }
  [[nodiscard]] std::int64_t numel() const;
  /// Row-major.
  [[nodiscard]] std::vector<std::int64_t> elements() const;
  void append_to(std::vector<std::int64_t>& out) const;

  /// Elements [start, start + length) of one axis. [6, h].narrow(0, 2, 3) -> [3, h]
  [[nodiscard]] Tensor narrow(std::int64_t axis, std::int64_t start, std::int64_t length) const;
  /// One position of an axis, which goes away. [E, o, i].select(0, 2) -> [o, i]
  [[nodiscard]] Tensor select(std::int64_t axis, std::int64_t index) const;
  [[nodiscard]] Tensor transpose(std::int64_t one, std::int64_t other) const;
  /// [a, b] -> [b, a]
  [[nodiscard]] Tensor t() const;
  /// The same elements in row-major order under other sizes; one of them may be -1.
  [[nodiscard]] Tensor reshape(std::vector<std::int64_t> sizes) const;
  /// Axes first..last become one. [g, d, h].flatten(0, 1) -> [g d, h]
  [[nodiscard]] Tensor flatten(std::int64_t first, std::int64_t last) const;
  [[nodiscard]] std::vector<Tensor> split_with_sizes(const std::vector<std::int64_t>& lengths,
                                                     std::int64_t axis) const;
  /// `count` pieces of ceil(size / count) each, the last ones shorter or absent.
  [[nodiscard]] std::vector<Tensor> chunk(std::int64_t count, std::int64_t axis) const;
  /// Every position of an axis `times` times in a row.
  [[nodiscard]] Tensor repeat_interleave(std::int64_t times, std::int64_t axis) const;

 private:
  [[nodiscard]] std::size_t checked(std::int64_t axis) const;

  std::shared_ptr<const std::vector<std::int64_t>> storage_;
  std::vector<std::int64_t> sizes_;
  std::vector<std::int64_t> strides_;
  std::int64_t offset_ = 0;
};

/// One after the other along an axis; the other sizes must be equal.
[[nodiscard]] Tensor cat(const std::vector<Tensor>& tensors, std::int64_t axis);
[[nodiscard]] Tensor full_like(const Tensor& like, const std::vector<std::int64_t>& sizes,
                               std::int64_t value);

}  // namespace bv::oracle::ops
#endif

namespace bv::oracle {
using Tensor = ops::Tensor;
}
