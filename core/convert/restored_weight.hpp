#pragma once
// The values of a quantised weight, made of the shards that hold it dequantised.

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "core/base/element_maker.hpp"
#include "core/convert/stream.hpp"
#include "core/kinds/requantise.hpp"

namespace bv::convert {

/// Elements of the stored tensor. Memory: one strip of rows for each call.
class RestoredValues : public ElementMaker {
 public:
  /// `plain` is the weight as it is made of the shards; what it refers to must outlive this.
  RestoredValues(kinds::Requantiser codes, TensorSpec stored, OutputTensor plain);

  [[nodiscard]] Status make(std::int64_t begin, std::int64_t end, std::byte* out) const override;
  [[nodiscard]] std::int64_t elements() const override;
  /// Elements of a stored row.
  [[nodiscard]] std::int64_t granule() const override;
  [[nodiscard]] Status unchanged() const override;

  /// The same as make, and what became of the codes of all rows that the range lies in.
  [[nodiscard]] Result<kinds::CodesFound> make_counted(std::int64_t begin, std::int64_t end,
                                                       std::byte* out) const;

 private:
  struct Strip;
  [[nodiscard]] const std::vector<layout::Box>& boxes() const;
  [[nodiscard]] Result<kinds::CodesFound> make_lines(std::int64_t begin, std::int64_t end,
                                                     Strip& strip, std::byte* out) const;
  void release(std::int64_t bytes) const;

  kinds::Requantiser codes_;
  TensorSpec stored_;
  OutputTensor plain_;
  mutable std::once_flag once_;
  mutable std::vector<layout::Box> boxes_;
  mutable std::atomic<std::int64_t> unreleased_ = 0;
};

}  // namespace bv::convert
