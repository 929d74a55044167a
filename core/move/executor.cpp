#include "core/move/executor.hpp"

#include <algorithm>

#include "core/kinds/values.hpp"
#include "core/move/move.hpp"

namespace bv::move {
namespace {

const std::byte* first_of(const MoveTask& task, const layout::BoxPiece& piece) {
  return piece.source < 0 ? nullptr : task.sources[static_cast<std::size_t>(piece.source)].first;
}

DType dtype_of(const MoveTask& task, const layout::BoxPiece& piece) {
  return piece.source < 0 ? task.dtype : task.sources[static_cast<std::size_t>(piece.source)].dtype;
}

}  // namespace

Status CpuExecutor::run(std::span<const MoveTask> tasks) {
  for (const MoveTask& task : tasks) {
    make(task);
  }
  return Done{};
}

void CpuExecutor::make(const MoveTask& task) {
  if (task.add != 0) {
    make_shifted(task);
    return;
  }
  const bool moves_bits =
      std::all_of(task.sources.begin(), task.sources.end(),
                  [&](const SourceBytes& source) { return source.dtype == task.dtype; });
  if (moves_bits) {
    firsts_.clear();
    for (const SourceBytes& source : task.sources) {
      firsts_.push_back(source.first);
    }
    copy_pieces(isa_, task.pieces, firsts_, task.target, task.begin,
                static_cast<std::size_t>(bytes(task.dtype)), task.leads);
    return;
  }
  for (const layout::BoxPiece& piece : task.pieces) {
    cast_piece(isa_, piece, first_of(task, piece), dtype_of(task, piece), task.target, task.begin,
               task.dtype);
  }
}

void CpuExecutor::make_shifted(const MoveTask& task) {
  const DType from = task.sources.front().dtype;
  const auto size = static_cast<std::size_t>(bytes(from));
  shifted_.resize(static_cast<std::size_t>(task.end - task.begin) * size);
  for (const layout::BoxPiece& piece : task.pieces) {
    if (piece.source >= 0) {
      copy_piece(isa_, piece, first_of(task, piece), shifted_.data(), task.begin, size);
    }
  }
  kinds::add_constant(shifted_, from, task.add);
  kinds::cast(shifted_.data(), from, task.target, task.dtype, task.end - task.begin);
  for (const layout::BoxPiece& piece : task.pieces) {
    if (piece.source < 0) {
      cast_piece(isa_, piece, nullptr, task.dtype, task.target, task.begin, task.dtype);
    }
  }
}

}  // namespace bv::move
