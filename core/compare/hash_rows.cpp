#define XXH_INLINE_ALL
#include "core/compare/hash_rows.hpp"

#include <xxhash.h>

#include <algorithm>
#include <limits>

#include "core/base/arith.hpp"

namespace bv::compare {

std::uint64_t hash_row(std::span<const std::byte> row) {
  return XXH3_64bits(row.data(), row.size());
}

RowShape table_rows_of(const Shape& shape) {
  const RowShape rows = rows_of(shape);
  return shape.size() > 1 ? rows : RowShape{rows.count == 0 ? 0 : 1, rows.count};
}

void RowTable::add(std::uint64_t hash, RowPlace place) {
  if (!takes_part(hash) || place.row > std::numeric_limits<std::uint32_t>::max()) {
    return;
  }
  entries_.push_back({hash, place.subject, static_cast<std::uint32_t>(place.row)});
  if (entries_.size() > rows_max_) {
    thin();
  }
}

void RowTable::thin() {
  while (entries_.size() > rows_max_ / 2 && mask_ != ~std::uint64_t{0}) {
    mask_ = mask_ * 2 + 1;
    std::erase_if(entries_, [this](const Entry& entry) { return !takes_part(entry.hash); });
  }
}

void RowTable::settle() {
  std::stable_sort(entries_.begin(), entries_.end());
}

namespace {

constexpr std::int64_t kHashWindowBytes = std::int64_t{1} << 20;
constexpr std::int64_t kHashReleaseBytes = std::int64_t{8} << 20;

void add_rows(const View& view, const RowShape& rows, std::uint32_t subject, RowTable& table) {
  ViewReader reader(view);
  const std::int64_t size = rows.elements * reader.element_bytes();
  const std::int64_t step = std::max<std::int64_t>(1, kHashWindowBytes / size);
  std::int64_t unreleased = 0;
  for (std::int64_t begin = 0; begin < rows.count; begin += step) {
    const std::int64_t end = std::min(rows.count, begin + step);
    const auto window = reader.read(begin * rows.elements, end * rows.elements);
    for (std::int64_t row = begin; row < end; ++row) {
      const auto bytes = window.subspan(static_cast<std::size_t>((row - begin) * size),
                                        static_cast<std::size_t>(size));
      const bool one_value = std::all_of(bytes.begin(), bytes.end(),
                                         [&bytes](std::byte b) { return b == bytes.front(); });
      if (!one_value) {  // zeros are everywhere
        table.add(hash_row(bytes), {subject, row});
      }
    }
    unreleased += static_cast<std::int64_t>(window.size());
    if (unreleased >= kHashReleaseBytes) {
      reader.release();
      unreleased = 0;
    }
  }
  reader.release();
}

}  // namespace

Result<RowTable> hash_rows(const Comparison& comparison, const std::vector<std::int64_t>& row_bytes,
                           const DiffOptions& options) {
  RowTable table(options.table_rows_max);
  for (std::size_t s = 0; s < comparison.subjects.size(); ++s) {
    const Subject& subject = comparison.subjects[s];
    const RowShape rows = table_rows_of(subject.spec.shape);
    const std::int64_t size =
        rows.elements * std::max<std::int64_t>(bits(subject.spec.dtype) / 8, 1);
    if (subject.repeats || rows.count == 0 || size == 0 ||
        !std::binary_search(row_bytes.begin(), row_bytes.end(), size)) {
      continue;
    }
    add_rows(subject.wanted(), rows, static_cast<std::uint32_t>(s), table);
    if (options.progress != nullptr && options.progress->stop_requested()) {
      return fail(Code::Stopped, "stopped before the end").advise("run diff again");
    }
  }
  table.settle();
  return table;
}

}  // namespace bv::compare
