#include "core/move/window_buffer.hpp"

namespace bv::move {

WindowPool::Lease::Lease(WindowPool& pool) : pool_(pool) {
  const std::lock_guard lock(pool_.mutex_);
  if (pool_.free_.empty()) {
    pool_.free_.reserve(pool_.free_.capacity() + 1);  // so that giving it back cannot fail
    buffer_ = std::make_unique<WindowBuffer>();
    return;
  }
  buffer_ = std::move(pool_.free_.back());
  pool_.free_.pop_back();
}

WindowPool::Lease::~Lease() {
  const std::lock_guard lock(pool_.mutex_);
  pool_.free_.push_back(std::move(buffer_));
}

}  // namespace bv::move
