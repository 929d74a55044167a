#include "core/convert/source_prints.hpp"

#include <algorithm>

#include "core/base/workers.hpp"

namespace bv::convert {
namespace {

constexpr ByteOffset kReadAtOnce(std::int64_t{8} << 20);

}  // namespace

struct SourcePrints::One {
  explicit One(const checkpoint::SourceTensor& one) : tensor(one) {
    const std::vector<io::Chunk> chunks = tensor.store->chunks(*tensor.spec);
    if (chunks.size() == 1 && chunks.front().made == nullptr) {
      bytes = chunks.front().bytes;
      element_bits = bits(tensor.spec->dtype);
    }
  }

  /// Bytes [0, end) of a tensor of one chunk. A window of a transposed tensor reaches from its
  /// first column to its last: so much is not kept mapped.
  void read_to(std::size_t end) {
    const std::lock_guard lock(mutex);
    while (done < end) {
      const auto piece = bytes.subspan(done, std::min(end - done, kReadAtOnce.size()));
      hash.add(piece);
      done += piece.size();
      if (piece.size() == kReadAtOnce.size()) {
        tensor.store->release(piece);
      }
    }
  }

  /// What nobody read.
  void read_rest() {
    checkpoint::TensorBytes whole(tensor);
    for (ByteOffset at(static_cast<std::int64_t>(done)); at < whole.size(); at += kReadAtOnce) {
      hash.add(whole.read(at, std::min(whole.size(), at + kReadAtOnce)));
      whole.release();
    }
  }

  checkpoint::SourceTensor tensor;
  std::span<const std::byte> bytes;
  int element_bits = 0;  // 0: read at the end
  std::mutex mutex;
  io::Digest hash;
  std::size_t done = 0;
};

SourcePrints::SourcePrints(std::vector<checkpoint::SourceTensor> tensors) {
  for (const checkpoint::SourceTensor& tensor : tensors) {
    all_.push_back(std::make_unique<One>(tensor));
    if (all_.back()->element_bits > 0) {
      by_spec_[tensor.spec] = all_.back().get();
    }
  }
}

SourcePrints::~SourcePrints() = default;

SourcePrints::Readers SourcePrints::readers(std::span<const checkpoint::SourceTensor> sources) {
  std::vector<One*> out;
  for (const checkpoint::SourceTensor& source : sources) {
    const auto found = by_spec_.find(source.spec);
    out.push_back(found == by_spec_.end() ? nullptr : found->second);
  }
  return Readers(std::move(out));
}

Result<std::vector<std::string>> SourcePrints::finish(int jobs) {
  std::vector<std::string> out(all_.size());
  BV_CHECK(for_each_parallel(all_.size(), jobs, [&](std::size_t i) -> Status {
    all_[i]->read_rest();
    out[i] = all_[i]->hash.hex();
    return Done{};
  }));
  return out;
}

void SourcePrints::Readers::note(std::span<const layout::BoxPiece> pieces) {
  if (sources_.empty()) {
    return;
  }
  ends_.assign(sources_.size(), 0);
  for (const layout::BoxPiece& piece : pieces) {
    if (piece.source < 0) {
      continue;
    }
    std::int64_t last = piece.source_offset;
    for (std::size_t i = 0; i < piece.axes.size(); ++i) {
      const std::int64_t extent = i == 0 ? piece.extent : piece.axes[i].extent;
      last += (extent - 1) * std::max<std::int64_t>(piece.axes[i].source_stride, 0);
    }
    std::int64_t& end = ends_[static_cast<std::size_t>(piece.source)];
    end = std::max(end, last + 1);
  }
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    if (sources_[i] != nullptr && ends_[i] > 0) {
      const std::int64_t unit = std::max(sources_[i]->element_bits, 8) / 8;
      sources_[i]->read_to(
          std::min(sources_[i]->bytes.size(), static_cast<std::size_t>(ends_[i] * unit)));
    }
  }
}

}  // namespace bv::convert
