#pragma once
// The way back of Dequantiser: for each element the code whose number, scaled and rounded as there,
// has exactly its bits (docs/reference/semantics.md#back-to-the-quantised-form).

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "core/kinds/dequantise.hpp"

namespace bv::kinds {

class QuantisedNumbers;

/// What became of the elements whose codes were sought.
struct CodesFound {
  std::int64_t elements = 0;
  std::int64_t none = 0;     // that no code gives
  std::int64_t several = 0;  // that several codes give: the least of them was taken
  void add(const CodesFound& other);
};

/// Codes of one weight. Const members may be called by many threads at once.
///
/// Example: E4M3 with scale 0.5 in BF16: 0.75 is the number 1.5, code 0x3c, and nothing else is.
/// With scale 0 every positive code gives +0.0: code 0 is taken, and whether that was the code is
/// for the caller to know.
class Requantiser {
 public:
  /// `scales` are the stored bytes, as many as the form says; they must outlive it. `dtype` is the
  /// computable type of the plain elements.
  Requantiser(QuantisedForm form, std::span<const std::byte> scales, DType dtype);
  ~Requantiser();
  Requantiser(Requantiser&&) noexcept;
  Requantiser& operator=(Requantiser&&) noexcept = delete;

  [[nodiscard]] const QuantisedForm& form() const;
  [[nodiscard]] DType dtype() const;
  /// Stored rows of all matrices together, and the bytes of one.
  [[nodiscard]] std::int64_t lines() const;
  [[nodiscard]] std::int64_t line_bytes() const;

  /// The stored bytes of the rows [begin, end), which lie in one matrix when the form is
  /// transposed. `plain` has the elements that they stand for: [end - begin, columns], or [columns,
  /// end - begin] when it is transposed, as in the weight. An element that no code gives gets code
  /// 0.
  [[nodiscard]] CodesFound find(std::int64_t begin, std::int64_t end,
                                std::span<const std::byte> plain, std::byte* out) const;
  /// How many codes in the rows [begin, end) of `values` are not those that `find` gives: a lesser
  /// code has the same bits.
  [[nodiscard]] std::int64_t ambiguous(std::int64_t begin, std::int64_t end,
                                       std::span<const std::byte> values) const;

 private:
  std::unique_ptr<const QuantisedNumbers> numbers_;
};

}  // namespace bv::kinds
