#pragma once
// Who moves elements: tasks of boxes over sources, run on a processor or a device. Every executor
// gives the same bytes.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/base/dtype.hpp"
#include "core/base/element_maker.hpp"
#include "core/base/result.hpp"
#include "core/layout/box.hpp"
#include "core/move/rows.hpp"

namespace bv::move {

/// A whole source tensor, row-major.
struct SourceBytes {
  const std::byte* first = nullptr;
  DType dtype = DType::F32;
  /// Makes the elements, in `dtype`, in place of `first`. TensorMaker alone knows it: an executor
  /// gets what it made.
  const ElementMaker* made = nullptr;
};

/// Makes elements [begin, end) of one target tensor at `target`. `pieces` lie in that range, in
/// target elements; those without a source are zeros. Elements are moved as bits when the types are
/// equal and `add` is 0; else `add` is summed in the dtype of the first source, and cast afterwards
/// (docs/reference/semantics.md#value-rules); zeros stay zeros.
struct MoveTask {
  std::span<const layout::BoxPiece> pieces;
  std::span<const SourceBytes> sources;  // by BoxPiece::source
  std::byte* target = nullptr;           // of element `begin`
  std::int64_t begin = 0;
  std::int64_t end = 0;
  DType dtype = DType::F32;  // of the target
  double add = 0;
  /// The first of several that are made in step from the same sources: what lies between its rows
  /// is fetched along for the others. Changes no byte.
  bool leads = false;
};

class Executor {
 public:
  Executor() = default;
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;
  Executor(Executor&&) = delete;
  Executor& operator=(Executor&&) = delete;
  virtual ~Executor() = default;
  /// Targets do not overlap each other or the sources. Returns when all are made. Errors: those of
  /// a device.
  [[nodiscard]] virtual Status run(std::span<const MoveTask> tasks) = 0;
};

/// On the calling thread, with the loops of one instruction set. One a thread.
class CpuExecutor : public Executor {
 public:
  explicit CpuExecutor(Isa isa = best_isa()) : isa_(isa) {}
  [[nodiscard]] Status run(std::span<const MoveTask> tasks) override;

 private:
  void make(const MoveTask& task);
  void make_shifted(const MoveTask& task);

  Isa isa_;
  std::vector<const std::byte*> firsts_;  // of the task's sources
  std::vector<std::byte> shifted_;        // sums in the source's dtype
};

}  // namespace bv::move
