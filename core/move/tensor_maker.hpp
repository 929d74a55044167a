#pragma once
// The one place that makes elements [begin, end) of a tensor from boxes, with add and cast. A
// window is any such range; windows of any size and order give the same bytes as the whole.
//
// Example: linear_qkv of rank 1, shape [24, 2048] in BF16, from q, k and v. The first window is
// rows 0 to 7, so `rows` has 8 * 2048 elements of 2 bytes:
//   TensorMaker maker({DType::BF16, 24 * 2048, boxes, {{q, BF16}, {k, BF16}, {v, BF16}}});
//   maker.make(ElementOffset(0), ElementOffset(8 * 2048), rows);

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "core/base/units.hpp"
#include "core/move/box_windows.hpp"
#include "core/move/executor.hpp"
#include "core/move/made_sources.hpp"
#include "core/move/window_buffer.hpp"

namespace bv::move {

/// What becomes of elements that no box covers: an error, zero, or what the buffer holds.
enum class Gaps { Error, Zero, Keep };

/// What a tensor is made of. The type and those of all sources have whole bytes; with another type
/// than a source, or with `add`, they are computable (kinds::is_computable).
struct Recipe {
  DType dtype = DType::F32;          // of the target
  std::int64_t elements = 0;         // of the target
  std::vector<layout::Box> boxes;    // in elements of target and sources
  std::vector<SourceBytes> sources;  // by Box::source; must outlive the maker
  double add = 0;                    // see MoveTask
  Gaps gaps = Gaps::Error;
};

class TensorMaker {
 public:
  /// Takes elements from element `at` on.
  using Sink = std::function<Status(ElementOffset at, std::span<const std::byte>)>;

  /// Moves with `executor`, or on the calling thread when there is none. One a thread. Makers that
  /// are asked in turns may share `window`; without it the maker has one of its own.
  explicit TensorMaker(Recipe recipe, Executor* executor = nullptr, WindowBuffer* window = nullptr);
  TensorMaker(TensorMaker&&) noexcept = default;
  TensorMaker& operator=(TensorMaker&&) noexcept = default;

  [[nodiscard]] const Recipe& recipe() const { return recipe_; }
  [[nodiscard]] std::int64_t elements() const { return recipe_.elements; }
  [[nodiscard]] std::size_t element_bytes() const {
    return static_cast<std::size_t>(width_.bytes());
  }
  [[nodiscard]] ElementWidth width() const { return width_; }
  /// Is the first of several that are asked for the same windows in turns (see MoveTask).
  void lead() { leads_ = true; }

  /// Writes elements [begin, end), 0 <= begin <= end <= elements(), to `out`, which has room for
  /// them. Errors: Gap when boxes leave some of them out (with Gaps::Error), Overlap when they
  /// write more; those of computed sources.
  [[nodiscard]] Status make(ElementOffset begin, ElementOffset end, std::byte* out);
  /// The same elements, valid until the next call, also of a maker with the same window: where they
  /// lie at the source when that is one run of this type, else in a window. Errors: those of make.
  [[nodiscard]] Result<std::span<const std::byte>> read(ElementOffset begin, ElementOffset end);
  /// The same elements, handed on in ascending order: runs of many bytes from where they lie at the
  /// source. Errors: those of make and of the sink.
  [[nodiscard]] Status hand_on(ElementOffset begin, ElementOffset end, const Sink& sink);

  /// The pieces of the last range, in target elements; they view the boxes of the recipe. Valid
  /// until the next call, also of a maker with the same window.
  [[nodiscard]] std::span<const layout::BoxPiece> pieces() const { return window_->pieces(); }
  /// Do axes change places? Small ranges read every line of the sources again and again.
  [[nodiscard]] bool is_transposed() const;
  /// A window of at least `least` bytes; where axes change places, of so many rows (at most 2 MiB)
  /// that each visit of a source line takes all of it, and where lines are interleaved the whole
  /// tensor (at most 8 MiB).
  [[nodiscard]] std::int64_t window_bytes(std::int64_t least) const;

 private:
  [[nodiscard]] Status list(ElementOffset begin, ElementOffset end);
  [[nodiscard]] Status run(ElementOffset begin, ElementOffset end, std::byte* out);
  [[nodiscard]] bool are_runs(ElementOffset begin, ElementOffset end, ByteOffset least) const;
  [[nodiscard]] std::span<const std::byte> at_source(const layout::BoxPiece& piece) const;

  Recipe recipe_;
  ElementWidth width_;
  bool moves_bits_ = true;
  bool leads_ = false;
  BoxWindows windows_;
  std::unique_ptr<WindowBuffer> own_window_;
  WindowBuffer* window_ = nullptr;
  std::unique_ptr<MadeSources> made_;  // null: no source is computed
  Executor* executor_ = nullptr;       // null: that of the window
};

/// All elements of a small tensor, moved as bits: `sources` by Box::source, the first element of
/// each. What no box covers keeps what `out` holds.
void make_whole(std::span<const layout::Box> boxes, std::span<const std::byte* const> sources,
                std::size_t element_bytes, std::byte* out);

}  // namespace bv::move
