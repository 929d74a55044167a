#include "core/convert/window_maker.hpp"

#include "core/kinds/values.hpp"

namespace bv::convert {
namespace {

/// Pieces of this size or more that lie in one run at their source need no copy.
constexpr std::int64_t kRunMin = std::int64_t{16} << 10;

}  // namespace

WindowMaker::WindowMaker(const OutputTensor& tensor, Sink sink)
    : tensor_(tensor), boxes_(tensor.boxes()), windows_(boxes_), sink_(std::move(sink)) {
  for (const checkpoint::SourceTensor& source : tensor.sources) {
    bytes_.push_back(source.checkpoint->bytes(*source.tensor));
    sources_.push_back(bytes_.back().data());
    one_dtype_ = one_dtype_ && source.tensor->spec.dtype == tensor.spec.dtype;
  }
}

Status WindowMaker::make(std::int64_t begin, std::int64_t end) {
  pieces_.clear();
  windows_.list(begin, end, pieces_);
  if (!are_long_runs(begin, end)) {
    fill(begin, end);
    return hand_on(begin, window_);
  }
  const auto size = static_cast<std::size_t>(bytes(tensor_.spec.dtype));
  for (const layout::BoxPiece& piece : pieces_) {
    const std::byte* from = source_of(piece) + static_cast<std::size_t>(piece.source_offset) * size;
    BV_CHECK(
        hand_on(piece.target_offset, {from, static_cast<std::size_t>(piece.elements()) * size}));
  }
  return Done{};
}

bool WindowMaker::is_turned() const {
  return move::has_tiles(boxes_, static_cast<std::size_t>(bytes(tensor_.spec.dtype)));
}

void WindowMaker::release() const {
  for (std::size_t i = 0; i < bytes_.size(); ++i) {
    tensor_.sources[i].checkpoint->release(bytes_[i]);
  }
}

const std::byte* WindowMaker::source_of(const layout::BoxPiece& piece) const {
  return piece.source < 0 ? nullptr : sources_[static_cast<std::size_t>(piece.source)];
}

DType WindowMaker::dtype_of(const layout::BoxPiece& piece) const {
  return piece.source < 0
             ? tensor_.spec.dtype
             : tensor_.sources[static_cast<std::size_t>(piece.source)].tensor->spec.dtype;
}

/// Is the window made of runs of bytes, in their order, that can be handed on from where they lie?
bool WindowMaker::are_long_runs(std::int64_t begin, std::int64_t end) const {
  std::int64_t at = begin;
  for (const layout::BoxPiece& piece : pieces_) {
    if (piece.source < 0 || piece.axes.size() != 1 || piece.axes[0].source_stride != 1 ||
        piece.axes[0].target_stride != 1 || piece.target_offset != at ||
        piece.extent * bytes(tensor_.spec.dtype) < kRunMin) {
      return false;
    }
    at += piece.extent;
  }
  return one_dtype_ && tensor_.add == 0 && at == end;
}

void WindowMaker::fill(std::int64_t begin, std::int64_t end) {
  const DType to = tensor_.spec.dtype;
  window_.resize(static_cast<std::size_t>((end - begin) * bytes(to)));
  if (tensor_.add != 0) {
    fill_shifted(begin, end);
  } else if (one_dtype_) {
    move::copy_pieces(isa_, pieces_, sources_, window_.data(), begin,
                      static_cast<std::size_t>(bytes(to)));
  } else {
    for (const layout::BoxPiece& piece : pieces_) {
      move::cast_piece(isa_, piece, source_of(piece), dtype_of(piece), window_.data(), begin, to);
    }
  }
}

/// Value-changing rules sum in the dtype of the source and cast afterwards
/// (mapping-semantics 5.16). Padding stays zero.
void WindowMaker::fill_shifted(std::int64_t begin, std::int64_t end) {
  const DType from = tensor_.sources.front().tensor->spec.dtype;
  const DType to = tensor_.spec.dtype;
  const auto size = static_cast<std::size_t>(bytes(from));
  shifted_.resize(static_cast<std::size_t>(end - begin) * size);
  for (const layout::BoxPiece& piece : pieces_) {
    if (piece.source >= 0) {
      move::copy_piece(isa_, piece, source_of(piece), shifted_.data(), begin, size);
    }
  }
  kinds::add_constant(shifted_, from, tensor_.add);
  kinds::cast(shifted_.data(), from, window_.data(), to, end - begin);
  for (const layout::BoxPiece& piece : pieces_) {
    if (piece.source < 0) {
      move::cast_piece(isa_, piece, nullptr, to, window_.data(), begin, to);
    }
  }
}

Status WindowMaker::hand_on(std::int64_t element, std::span<const std::byte> made) {
  hash_.add(made);
  return sink_(static_cast<std::uint64_t>(element * bytes(tensor_.spec.dtype)), made);
}

}  // namespace bv::convert
