#include "core/convert/spent_pages.hpp"

#include <utility>

namespace bv::convert {

void SpentPages::add(std::span<const checkpoint::SourceTensor> sources, std::int64_t bytes) {
  std::vector<checkpoint::SourceTensor> all;
  {
    const std::lock_guard lock(mutex_);
    sources_.insert(sources_.end(), sources.begin(), sources.end());
    bytes_ += bytes;
    if (bytes_ < bytes_max_) {
      return;
    }
    bytes_ = 0;
    std::swap(all, sources_);
  }
  checkpoint::release(all);
}

}  // namespace bv::convert
