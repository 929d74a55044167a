#include "core/io/content_digest.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "core/base/workers.hpp"
#include "core/io/digest.hpp"

namespace bv::io {
namespace {

constexpr std::size_t kDigestedBytes = std::size_t{8} << 20;

/// Elements that are not stored row by row count as they are in the tensor.
Status add_made(const ElementMaker& maker, std::int64_t size, Digest& out) {
  const std::int64_t step = static_cast<std::int64_t>(kDigestedBytes) / size;
  std::vector<std::byte> made;
  for (std::int64_t begin = 0; begin < maker.elements(); begin += step) {
    const std::int64_t end = std::min(maker.elements(), begin + step);
    made.resize(static_cast<std::size_t>((end - begin) * size));
    BV_CHECK(maker.make(begin, end, made.data()));
    out.add(made);
  }
  return Done{};
}

Result<std::string> tensor_digest(const Checkpoint& checkpoint, const StoredTensor& tensor,
                                  ProgressSink* progress) {
  Digest out;
  out.add(fmt::format("{}\n{} {}\n", tensor.spec.name, name(tensor.spec.dtype),
                      fmt::join(tensor.spec.shape, ",")));
  if (const ElementMaker* maker = checkpoint.maker(tensor); maker != nullptr) {
    BV_CHECK(add_made(*maker, bytes(tensor.spec.dtype), out));
    if (progress != nullptr) {
      progress->advance(tensor_bytes(tensor.spec), 1, tensor.spec.name);
    }
    return out.hex();
  }
  for (auto left = checkpoint.bytes(tensor); !left.empty();) {
    if (progress != nullptr && progress->stop_requested()) {
      return fail(Code::Stopped, "stopped before the end").advise("run it again");
    }
    const auto piece = left.first(std::min(left.size(), kDigestedBytes));
    out.add(piece);
    checkpoint.release(piece);
    left = left.subspan(piece.size());
    if (progress != nullptr) {
      progress->advance(piece.size(), left.empty() ? 1 : 0, tensor.spec.name);
    }
  }
  return out.hex();
}

}  // namespace

Result<std::string> content_digest(const Checkpoint& checkpoint, int jobs, ProgressSink* progress) {
  std::vector<const StoredTensor*> tensors;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    tensors.push_back(&tensor);
  }
  if (progress != nullptr) {
    progress->start("fingerprint", checkpoint.total_bytes(), tensors.size());
  }
  std::vector<std::string> digests(tensors.size());
  BV_CHECK(for_each_parallel(tensors.size(), jobs, [&](std::size_t i) -> Status {
    BV_TRY(digest, tensor_digest(checkpoint, *tensors[i], progress));
    digests[i] = std::move(digest);
    return Done{};
  }));
  Digest all;
  for (const std::string& digest : digests) {
    all.add(digest);
  }
  return all.hex();
}

}  // namespace bv::io
