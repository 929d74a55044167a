#include "core/move/tensor_maker.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "core/base/text.hpp"
#include "core/move/move.hpp"

namespace bv::move {
namespace {

/// Runs of this size or more need no copy before they are handed on.
constexpr ByteOffset kRunBytesMin{std::int64_t{16} << 10};

/// Where elements from `begin` on lie in a cache line as they do in the tensor: a row of a line is
/// then one store, and not two halves.
std::span<std::byte> room_for(WindowBuffer& window, ByteOffset begin, std::size_t bytes) {
  constexpr std::size_t kLine = 64;
  const std::span<std::byte> all = window.of(bytes + 2 * kLine);
  const auto first = reinterpret_cast<std::uintptr_t>(all.data());
  const std::size_t wanted = begin.size() % kLine;
  return all.subspan((kLine + wanted - first % kLine) % kLine, bytes);
}

Error not_tiled(ElementOffset begin, ElementOffset end, std::int64_t written) {
  const std::int64_t wanted = (end - begin).value;
  return fail(written < wanted ? Code::Gap : Code::Overlap,
              fmt::format("the boxes write {} of the {} elements from {} on", thousands(written),
                          thousands(wanted), thousands(begin.value)))
      .pair(thousands(written), thousands(wanted))
      .advise("correct the line of the kind: bridge-verify rules show");
}

}  // namespace

TensorMaker::TensorMaker(Recipe recipe, Executor* executor, WindowBuffer* window)
    : recipe_(std::move(recipe)),
      width_(recipe_.dtype),
      windows_(recipe_.boxes),
      own_window_(window == nullptr ? std::make_unique<WindowBuffer>() : nullptr),
      window_(window == nullptr ? own_window_.get() : window),
      executor_(executor) {
  moves_bits_ = recipe_.add == 0 &&
                std::all_of(recipe_.sources.begin(), recipe_.sources.end(),
                            [&](const SourceBytes& one) { return one.dtype == recipe_.dtype; });
  const bool makes_sources =
      std::any_of(recipe_.sources.begin(), recipe_.sources.end(),
                  [](const SourceBytes& one) { return one.made != nullptr; });
  made_ = makes_sources ? std::make_unique<MadeSources>() : nullptr;
}

Status TensorMaker::list(ElementOffset begin, ElementOffset end) {
  std::vector<layout::BoxPiece>& pieces = window_->pieces();
  pieces.clear();
  windows_.list(begin.value, end.value, pieces);
  std::int64_t written = 0;
  for (const layout::BoxPiece& piece : pieces) {
    written += piece.elements();
  }
  const std::int64_t wanted = (end - begin).value;
  const bool tiled = written == wanted || (recipe_.gaps != Gaps::Error && written < wanted);
  return tiled ? Status(Done{}) : Status(not_tiled(begin, end, written));
}

Status TensorMaker::run(ElementOffset begin, ElementOffset end, std::byte* out) {
  if (recipe_.gaps == Gaps::Zero) {
    std::memset(out, 0, width_.to_bytes(end - begin).size());
  }
  MoveTask task{pieces(),  recipe_.sources, out,         begin.value,
                end.value, recipe_.dtype,   recipe_.add, leads_};
  if (made_ != nullptr) {
    BV_CHECK(made_->make(pieces(), recipe_.sources));
    task.pieces = made_->pieces();
    task.sources = made_->sources();
  }
  Executor& executor = executor_ == nullptr ? window_->processor() : *executor_;
  return executor.run({&task, 1});
}

Status TensorMaker::make(ElementOffset begin, ElementOffset end, std::byte* out) {
  BV_CHECK(list(begin, end));
  return run(begin, end, out);
}

Result<std::span<const std::byte>> TensorMaker::read(ElementOffset begin, ElementOffset end) {
  BV_CHECK(list(begin, end));
  if (pieces().size() == 1 && are_runs(begin, end, ByteOffset(0))) {
    return at_source(pieces().front());
  }
  const std::span<std::byte> window =
      room_for(*window_, width_.to_bytes(begin), width_.to_bytes(end - begin).size());
  BV_CHECK(run(begin, end, window.data()));
  return std::span<const std::byte>(window);
}

Status TensorMaker::hand_on(ElementOffset begin, ElementOffset end, const Sink& sink) {
  BV_CHECK(list(begin, end));
  if (are_runs(begin, end, kRunBytesMin)) {
    for (const layout::BoxPiece& piece : pieces()) {
      BV_CHECK(sink(ElementOffset(piece.target_offset), at_source(piece)));
    }
    return Done{};
  }
  const std::span<std::byte> window =
      room_for(*window_, width_.to_bytes(begin), width_.to_bytes(end - begin).size());
  BV_CHECK(run(begin, end, window.data()));
  return sink(begin, window);
}

/// Is the range made of runs of at least `least` at the source, in their order?
bool TensorMaker::are_runs(ElementOffset begin, ElementOffset end, ByteOffset least) const {
  ElementOffset at = begin;
  for (const layout::BoxPiece& piece : pieces()) {
    const bool run =
        piece.axes.empty() || (piece.axes.size() == 1 && piece.axes[0].source_stride == 1 &&
                               piece.axes[0].target_stride == 1);
    if (made_ != nullptr || piece.source < 0 || !run || ElementOffset(piece.target_offset) != at ||
        width_.to_bytes(ElementOffset(piece.elements())) < least) {
      return false;
    }
    at += ElementOffset(piece.elements());
  }
  return moves_bits_ && at == end;
}

std::span<const std::byte> TensorMaker::at_source(const layout::BoxPiece& piece) const {
  const std::byte* first = recipe_.sources[static_cast<std::size_t>(piece.source)].first;
  return {first + width_.to_bytes(ElementOffset(piece.source_offset)).value,
          width_.to_bytes(ElementOffset(piece.elements())).size()};
}

void make_whole(std::span<const layout::Box> boxes, std::span<const std::byte* const> sources,
                std::size_t element_bytes, std::byte* out) {
  for (const layout::Box& box : boxes) {
    copy_box(box, box.source < 0 ? nullptr : sources[static_cast<std::size_t>(box.source)], out, 0,
             element_bytes);
  }
}

bool TensorMaker::is_transposed() const {
  return turned_axes(recipe_.boxes, element_bytes()).row > 0;
}

std::int64_t TensorMaker::window_bytes(std::int64_t least) const {
  constexpr std::int64_t kRows = 96;
  constexpr std::int64_t kMost = std::int64_t{2} << 20;
  constexpr std::int64_t kInterleavedMost = std::int64_t{8} << 20;
  const Turned turned = turned_axes(recipe_.boxes, element_bytes());
  const auto bytes = static_cast<std::int64_t>(element_bytes());
  if (turned.is_interleaved && recipe_.elements <= kInterleavedMost / bytes) {
    return std::max(least, recipe_.elements * bytes);
  }
  return std::max(least, std::min(kMost / bytes, kRows * std::min(turned.row, kMost)) * bytes);
}

}  // namespace bv::move
