#include "core/io/whole_tensor.hpp"

namespace bv::io {

Result<WholeTensor> WholeTensor::read(const Checkpoint& checkpoint, const StoredTensor& tensor) {
  WholeTensor out;
  out.stored_ = checkpoint.bytes(tensor);
  if (const ElementMaker* maker = checkpoint.maker(tensor); maker != nullptr) {
    out.is_copy_ = true;
    out.copy_.resize(tensor_bytes(tensor.spec));
    BV_CHECK(maker->make(0, maker->elements(), out.copy_.data()));
  }
  return out;
}

}  // namespace bv::io
