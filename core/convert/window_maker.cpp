#include "core/convert/window_maker.hpp"

#include "core/base/arith.hpp"

namespace bv::convert {
namespace {

move::Recipe recipe_of(const OutputTensor& tensor) {
  return checkpoint::over_chunks(
      {tensor.spec.dtype, element_count(tensor.spec.shape).value(), tensor.boxes(), {}, tensor.add},
      tensor.sources);
}

}  // namespace

WindowMaker::WindowMaker(const OutputTensor& tensor, Sink sink, move::Executor* device,
                         Fingerprint fingerprint, move::WindowBuffer* window)
    : tensor_(tensor),
      maker_(recipe_of(tensor), device, window),
      sink_(std::move(sink)),
      fingerprint_(fingerprint) {}

Status WindowMaker::hand_on(ElementOffset at, std::span<const std::byte> made) {
  if (fingerprint_ == Fingerprint::Made) {
    hash_.add(made);
  }
  return sink_(maker_.width().to_bytes(at), made);
}

Status WindowMaker::make_edited(ElementOffset begin, ElementOffset end) {
  BV_TRY(made, maker_.read(begin, end));
  edited_.resize(made.size());
  BV_CHECK(tensor_.edit(begin.value, made, edited_));
  return hand_on(begin, edited_);
}

void WindowMaker::print_sources(SourcePrints& prints) {
  // Boxes are over the sources themselves unless one of them has several chunks.
  if (maker_.recipe().sources.size() == tensor_.sources.size()) {
    readers_ = prints.readers(tensor_.sources);
  }
}

Status WindowMaker::make(ElementOffset begin, ElementOffset end) {
  BV_CHECK(tensor_.edit
               ? make_edited(begin, end)
               : maker_.hand_on(begin, end, [&](ElementOffset at, std::span<const std::byte> made) {
                   return hand_on(at, made);
                 }));
  readers_.note(maker_.pieces());
  return Done{};
}

}  // namespace bv::convert
