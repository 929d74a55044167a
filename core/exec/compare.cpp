#include "core/exec/compare.hpp"
#include "core/base/arith.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "core/exec/rows.hpp"

namespace bv::exec {
namespace {

constexpr std::size_t kBlockBytes = std::size_t{256} << 10;
constexpr std::size_t kReleaseBytes = std::size_t{8} << 20;

/// The first byte that differs; the spans have one size.
std::optional<std::size_t> first_byte(Isa isa, std::span<const std::byte> a,
                                      std::span<const std::byte> b) {
  const RowRuns row{1, static_cast<std::int64_t>(a.size()), 0, 0};
  if (equal_rows(isa, row, a.data(), b.data())) {
    return std::nullopt;
  }
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin()).first - a.begin());
}

/// The first element of the byte's that differs: types of 4 and 6 bits share bytes.
std::int64_t element_at(std::size_t byte, int width, std::span<const std::byte> a,
                        std::span<const std::byte> b) {
  const unsigned differ = std::to_integer<unsigned>(a[byte] ^ b[byte]);
  const std::size_t bit = byte * 8 + static_cast<std::size_t>(__builtin_ctz(differ));
  return static_cast<std::int64_t>(bit / static_cast<std::size_t>(width));
}

Error no_pairs(Code code, const TensorSpec& a, const TensorSpec& b, const std::string& one,
               const std::string& other) {
  return fail(code, fmt::format("{} and {} cannot be compared element by element", a.name, b.name))
      .pair(one, other)
      .advise("compare tensors of one shape and element type");
}

}  // namespace

Result<std::optional<TensorDifference>> compare_tensors(const SourceTensor& a,
                                                        const SourceTensor& b,
                                                        ProgressSink* progress) {
  const TensorSpec& left = a.tensor->spec;
  const TensorSpec& right = b.tensor->spec;
  if (left.shape != right.shape) {
    return no_pairs(Code::ShapeMismatch, left, right,
                    fmt::format("[{}]", fmt::join(left.shape, ", ")),
                    fmt::format("[{}]", fmt::join(right.shape, ", ")));
  }
  if (left.dtype != right.dtype) {
    return no_pairs(Code::DtypeChanged, left, right, std::string(name(left.dtype)),
                    std::string(name(right.dtype)));
  }
  const std::span<const std::byte> x = a.checkpoint->bytes(*a.tensor);
  const std::span<const std::byte> y = b.checkpoint->bytes(*b.tensor);
  const Isa isa = best_isa();
  std::optional<TensorDifference> out;
  std::size_t kept = 0;
  for (std::size_t at = 0; at < x.size() && !out; at += kBlockBytes) {
    const std::size_t count = std::min(kBlockBytes, x.size() - at);
    if (const auto byte = first_byte(isa, x.subspan(at, count), y.subspan(at, count))) {
      const std::int64_t element = element_at(at + *byte, bits(left.dtype), x, y);
      out = TensorDifference{element, index_of(element, left.shape)};
    }
    const std::size_t end = at + count;
    if (end - kept >= kReleaseBytes || end == x.size() || out) {
      a.checkpoint->release(x.subspan(kept, end - kept));
      b.checkpoint->release(y.subspan(kept, end - kept));
      kept = end;
    }
    if (progress != nullptr) {
      progress->advance(count, end == x.size() || out ? 1 : 0, left.name);
      if (progress->stop_requested()) {
        return fail(Code::Conflict, "stopped by the user").advise("run it again");
      }
    }
  }
  return out;
}

Result<std::vector<std::optional<TensorDifference>>> compare_all(
    const std::vector<TensorPair>& pairs, int jobs, ProgressSink* progress) {
  std::vector<std::optional<TensorDifference>> out(pairs.size());
  BV_CHECK(for_each_parallel(pairs.size(), jobs, [&](std::size_t i) -> Status {
    BV_TRY(found, compare_tensors(pairs[i].a, pairs[i].b, progress));
    out[i] = std::move(found);
    return Done{};
  }));
  std::set<const io::Checkpoint*> seen;
  for (const TensorPair& pair : pairs) {
    for (const io::Checkpoint* one : {pair.a.checkpoint, pair.b.checkpoint}) {
      if (seen.insert(one).second) {
        BV_CHECK(one->unchanged());
      }
    }
  }
  return out;
}

}  // namespace bv::exec
