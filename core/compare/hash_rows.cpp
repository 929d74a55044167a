#define XXH_INLINE_ALL
#include "core/compare/hash_rows.hpp"

#include <xxhash.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <tuple>
#include <type_traits>

#include "core/base/arith.hpp"
#include "core/comm/group.hpp"
#include "core/comm/shares.hpp"
#include "core/kinds/values.hpp"

namespace bv::compare {

std::uint64_t hash_row(std::span<const std::byte> row) {
  return XXH3_64bits(row.data(), row.size());
}

struct RowHash::State {
  XXH3_state_t xxh;
};

RowHash::RowHash() : state_(std::make_unique<State>()) {
  XXH3_64bits_reset(&state_->xxh);
}
RowHash::~RowHash() = default;

void RowHash::add(std::span<const std::byte> piece) {
  XXH3_64bits_update(&state_->xxh, piece.data(), piece.size());
}

std::uint64_t RowHash::value() const {
  return XXH3_64bits_digest(&state_->xxh);
}

RowShape table_rows_of(const TensorSpec& spec) {
  const Shape shape = units_of(spec).shape;
  const RowShape rows = rows_of(shape);
  return shape.size() > 1 ? rows : RowShape{rows.count == 0 ? 0 : 1, ElementOffset(rows.count)};
}

ByteOffset table_row_bytes(const TensorSpec& spec) {
  return ElementWidth(units_of(spec).dtype).to_bytes(table_rows_of(spec).elements);
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
  while (entries_.size() > rows_max_ && mask_ != ~std::uint64_t{0}) {
    mask_ = mask_ * 2 + 1;
    std::erase_if(entries_, [this](const Entry& entry) { return !takes_part(entry.hash); });
  }
}

Status RowTable::settle(comm::Link* world) {
  if (world != nullptr) {
    BV_CHECK(take_from(*world));
  }
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.hash, a.subject, a.row) < std::tie(b.hash, b.subject, b.row);
  });
  return Done{};
}

/// First how many rows each has under each mask, so that no more are sent than are kept.
Status RowTable::take_from(comm::Link& world) {
  constexpr int kMasks = 65;
  const auto mask_of = [](int bits) {
    return bits == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << bits) - 1;
  };
  std::vector<std::string> counts;
  for (int bits = 0; bits < kMasks; ++bits) {
    const std::uint64_t mask = mask_of(bits);
    const auto kept = std::count_if(entries_.begin(), entries_.end(), [mask](const Entry& entry) {
      return (entry.hash & mask) == 0;
    });
    counts.push_back(
        std::to_string(mask < mask_ ? static_cast<std::ptrdiff_t>(rows_max_) + 1 : kept));
  }
  BV_TRY(all, comm::exchanged(world, counts, "how many rows each process has"));
  int bits = 0;
  for (std::uint64_t rows = rows_max_ + 1; rows > rows_max_ && bits < kMasks; ++bits) {
    rows = 0;
    for (const auto& of_process : all) {
      rows += std::strtoull(of_process.at(static_cast<std::size_t>(bits)).c_str(), nullptr, 10);
    }
  }
  mask_ = mask_of(bits - 1);
  std::erase_if(entries_, [this](const Entry& entry) { return !takes_part(entry.hash); });
  static_assert(std::is_trivially_copyable_v<Entry> && sizeof(Entry) == 16);
  BV_TRY(rows, comm::whole_world(world).all_gather(std::as_bytes(std::span(entries_)),
                                                   "rows of the wanted side"));
  entries_.clear();
  for (const comm::Bytes& bytes : rows) {
    const std::size_t before = entries_.size();
    entries_.resize(before + bytes.size() / sizeof(Entry));
    if (!bytes.empty()) {
      std::memcpy(&entries_[before], bytes.data(), bytes.size() / sizeof(Entry) * sizeof(Entry));
    }
  }
  return Done{};
}

namespace {

constexpr ByteOffset kHashWindow{std::int64_t{1} << 20};
constexpr std::int64_t kHashReleaseBytes = std::int64_t{8} << 20;

bool is_one_value(std::span<const std::byte> bytes, std::byte value) {
  return std::all_of(bytes.begin(), bytes.end(), [value](std::byte b) { return b == value; });
}

/// One row that is longer than a window.
void add_long_row(ViewReader& reader, ElementOffset begin, ElementOffset end, RowPlace place,
                  RowTable& table) {
  const ElementOffset step = reader.width().at_least_one_in(kHashWindow);
  RowHash hash;
  std::optional<std::byte> first;
  bool one_value = true;
  for (ElementOffset at = begin; at < end; at += step) {
    const auto window = reader.read(at, std::min(end, at + step));
    first = first.value_or(window.front());
    one_value = one_value && is_one_value(window, *first);
    hash.add(window);
    reader.release();
  }
  if (!one_value) {
    table.add(hash.value(), place);
  }
}

void add_rows(const View& view, const RowShape& rows, std::uint32_t subject, RowTable& table) {
  ViewReader reader(view);
  const ByteOffset size = reader.width().to_bytes(rows.elements);
  if (size > kHashWindow) {
    for (std::int64_t row = 0; row < rows.count; ++row) {
      add_long_row(reader, row * rows.elements, (row + 1) * rows.elements, {subject, row}, table);
    }
    return;
  }
  const std::int64_t step = std::max<std::int64_t>(1, kHashWindow.value / size.value);
  std::int64_t unreleased = 0;
  for (std::int64_t begin = 0; begin < rows.count; begin += step) {
    const std::int64_t end = std::min(rows.count, begin + step);
    const auto window = reader.read(begin * rows.elements, end * rows.elements);
    for (std::int64_t row = begin; row < end; ++row) {
      const auto bytes = window.subspan(((row - begin) * size).size(), size.size());
      if (!is_one_value(bytes, bytes.front())) {  // zeros are everywhere
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

TensorSpec as_stored(const Subject& subject, const DiffOptions& options) {
  TensorSpec out = subject.spec;
  if (options.own_dtype && kinds::is_computable(*options.own_dtype) &&
      kinds::is_computable(out.dtype)) {
    out.dtype = *options.own_dtype;
  }
  return out;
}

Result<RowTable> hash_rows(const Comparison& comparison, const std::vector<ByteOffset>& row_bytes,
                           const DiffOptions& options, const Division& division) {
  RowTable table(options.table_rows_max);
  for (const std::size_t s : division.mine()) {
    const Subject& subject = comparison.subjects[s];
    const TensorSpec spec = as_stored(subject, options);
    const RowShape rows = table_rows_of(spec);
    const ByteOffset size = table_row_bytes(spec);
    if (subject.repeats || rows.count == 0 || size == ByteOffset(0) ||
        !std::binary_search(row_bytes.begin(), row_bytes.end(), size)) {
      continue;
    }
    View wanted = subject.wanted();
    wanted.spec.dtype = spec.dtype;
    add_rows(wanted, rows, static_cast<std::uint32_t>(s), table);
    if (options.progress != nullptr && options.progress->stop_requested()) {
      return fail(Code::Stopped, "stopped before the end").advise("run diff again");
    }
  }
  BV_CHECK(table.settle(options.world));
  return table;
}

}  // namespace bv::compare
