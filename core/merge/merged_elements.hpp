#pragma once
// Tensors of a base with an adapter merged into them, made when they are asked for.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "core/base/element_maker.hpp"
#include "core/merge/merge_tensor.hpp"

namespace bv::lora {

class MergedElements;

/// What merges in progress hold: packed factors and the rows that were made last, of the tensors of
/// one model. Memory: that of the merges that run, and so many bytes of those that rest.
class MergeStates {
 public:
  explicit MergeStates(std::size_t resting_bytes_max) : resting_bytes_max_(resting_bytes_max) {}
  /// That merges hold which do not run now.
  [[nodiscard]] std::size_t resting_bytes() const;

 private:
  friend class MergedElements;
  struct State {
    const MergedElements* of = nullptr;
    std::int64_t slice = 0;
    TensorMerge merge;
    std::int64_t begin = 0, end = 0;  // rows of the slice
    std::vector<std::byte> rows;
    bool runs = false;
    std::uint64_t used = 0;
    [[nodiscard]] std::size_t held_bytes() const { return rows.capacity() + merge.held_bytes(); }
  };
  /// One of that slice that rests, or a new one; it runs until it is given back.
  State& take(const MergedElements& of, std::int64_t slice);
  void give_back(State& state);
  [[nodiscard]] std::size_t resting() const;  // under the lock

  mutable std::mutex mutex_;
  std::size_t resting_bytes_max_;
  std::uint64_t clock_ = 0;
  std::vector<std::unique_ptr<State>> states_;
};

/// Merges whole rows. Rows that one thread asks for again and again (every rank of a row-parallel
/// layer wants some columns of them) are merged once.
class MergedElements : public ElementMaker {
 public:
  /// What is merged into: bytes, row by row, or what makes them.
  struct Base {
    std::span<const std::byte> bytes;
    const ElementMaker* maker = nullptr;
  };
  /// The base and the adapter must live. `store`: of the adapter.
  MergedElements(TensorMerge merge, Base base, std::shared_ptr<MergeStates> states,
                 const io::TensorStore* store);

  /// Errors: MergeNotFinite naming tensor and element.
  [[nodiscard]] Status make(std::int64_t begin, std::int64_t end, std::byte* out) const override;
  [[nodiscard]] std::int64_t elements() const override { return merge_.elements(); }
  [[nodiscard]] std::int64_t granule() const override { return merge_.granule(); }
  [[nodiscard]] Status unchanged() const override;

 private:
  friend class MergeStates;
  [[nodiscard]] Status make_rows(std::int64_t slice, std::int64_t begin, std::int64_t end,
                                 std::byte* out) const;
  [[nodiscard]] Status advance(MergeStates::State& state, std::int64_t begin,
                               std::int64_t end) const;

  TensorMerge merge_;  // has packed nothing: what states start from
  Base base_;
  std::shared_ptr<MergeStates> states_;
  const io::TensorStore* store_;
  std::int64_t row_bytes_;
};

}  // namespace bv::lora
