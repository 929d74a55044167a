#include "core/checkpoint/source_tensor.hpp"

#include "core/base/arith.hpp"
#include "core/layout/regions.hpp"

namespace bv::checkpoint {
namespace {

DType unit_of(const TensorSpec& spec) {
  return bits(spec.dtype) % 8 == 0 ? spec.dtype : DType::U8;
}

/// Boxes over `shape`, over its chunks, which become sources from `first_source` on.
void spread_boxes(std::span<const layout::Box> boxes, int source, const Shape& shape,
                  std::span<const io::Chunk> chunks, int first_source,
                  std::vector<layout::Box>& out) {
  for (const layout::Box& box : boxes) {
    if (box.source != source) {
      continue;
    }
    for (std::size_t i = 0; i < chunks.size(); ++i) {
      layout::over_region(box, shape, {chunks[i].origin, chunks[i].extent},
                          first_source + static_cast<int>(i), out);
    }
  }
}

/// All bytes of a tensor of whole-byte elements, in order, over its chunks.
move::Recipe in_order(const TensorSpec& spec, std::span<const io::Chunk> chunks) {
  move::Recipe out;
  out.dtype = DType::U8;
  const std::int64_t size = bytes(spec.dtype);
  Shape shape = spec.shape;
  shape.push_back(size);  // an element is a row of bytes
  out.elements = element_count(shape).value();
  layout::Box all;
  all.axes = {{out.elements, 1, 1}};
  layout::normalise(all);
  for (const io::Chunk& chunk : chunks) {
    Shape origin = chunk.origin;
    Shape extent = chunk.extent;
    origin.push_back(0);
    extent.push_back(size);
    layout::over_region(all, shape, {std::move(origin), std::move(extent)},
                        static_cast<int>(out.sources.size()), out.boxes);
    out.sources.push_back({chunk.bytes.data(), DType::U8});
  }
  return out;
}

}  // namespace

move::Recipe over_chunks(move::Recipe recipe, std::span<const SourceTensor> sources) {
  std::vector<std::vector<io::Chunk>> chunks;
  bool whole = true;
  for (const SourceTensor& source : sources) {
    chunks.push_back(source.store->chunks(*source.spec));
    whole = whole && chunks.back().size() == 1;
  }
  std::vector<layout::Box> boxes;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    if (!whole) {
      spread_boxes(recipe.boxes, static_cast<int>(i), sources[i].spec->shape, chunks[i],
                   static_cast<int>(recipe.sources.size()), boxes);
    }
    for (const io::Chunk& chunk : chunks[i]) {
      recipe.sources.push_back({chunk.made == nullptr ? chunk.bytes.data() : nullptr,
                                unit_of(*sources[i].spec), chunk.made});
    }
  }
  if (!whole) {
    for (const layout::Box& box : recipe.boxes) {
      if (box.source < 0) {
        boxes.push_back(box);
      }
    }
    recipe.boxes = std::move(boxes);
  }
  return recipe;
}

void release(std::span<const SourceTensor> sources) {
  for (const SourceTensor& source : sources) {
    for (const io::Chunk& chunk : source.store->chunks(*source.spec)) {
      source.store->release(chunk.bytes);
    }
  }
}

WholeTensor::WholeTensor(const SourceTensor& tensor) {
  const auto chunks = tensor.store->chunks(*tensor.spec);
  BV_ASSERT(chunks.size() == 1);
  bytes_ = chunks.front().bytes;
  if (const ElementMaker* maker = chunks.front().made; maker != nullptr) {
    const std::int64_t elements = element_count(tensor.spec->shape).value();
    made_.resize(tensor_bytes(*tensor.spec));
    status_ = maker->make(0, elements, made_.data());
    bytes_ = made_;
  }
}

TensorBytes::TensorBytes(const SourceTensor& tensor)
    : store_(tensor.store), chunks_(tensor.store->chunks(*tensor.spec)) {
  if (chunks_.front().made != nullptr) {
    whole_.emplace(tensor);
    size_ = ByteOffset(static_cast<std::int64_t>(whole_->bytes().size()));
    return;
  }
  for (const io::Chunk& chunk : chunks_) {
    size_ += ByteOffset(static_cast<std::int64_t>(chunk.bytes.size()));
  }
  if (chunks_.size() > 1) {
    maker_.emplace(in_order(*tensor.spec, chunks_));
  }
}

std::span<const std::byte> TensorBytes::read(ByteOffset begin, ByteOffset end) {
  BV_ASSERT(begin <= end && end <= size_);
  if (whole_) {
    return whole_->bytes().subspan(begin.size(), (end - begin).size());
  }
  if (!maker_) {
    return chunks_.front().bytes.subspan(begin.size(), (end - begin).size());
  }
  // Its elements are bytes.
  const auto made = maker_->read(ElementOffset(begin.value), ElementOffset(end.value));
  BV_ASSERT(made.has_value());  // chunks tile the tensor
  return *made;
}

void TensorBytes::release() const {
  for (const io::Chunk& chunk : chunks_) {
    store_->release(chunk.bytes);
  }
}

}  // namespace bv::checkpoint
