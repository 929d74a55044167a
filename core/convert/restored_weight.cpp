#include "core/convert/restored_weight.hpp"

#include <algorithm>
#include <cstring>
#include <optional>

#include "core/base/arith.hpp"
#include "core/layout/regions.hpp"
#include "core/move/tensor_maker.hpp"

namespace bv::convert {
namespace {

/// Plain elements at once. A transposed strip is read in runs of its width: it is wider.
constexpr std::int64_t kStripBytes = std::int64_t{256} << 10;
constexpr std::int64_t kWideBytes = std::int64_t{2} << 20;
constexpr std::int64_t kReleaseBytes = std::int64_t{8} << 20;

bool is_transposed(const kinds::QuantisedForm& form) {
  return form.values == kinds::QuantisedValues::Fp4Transposed;
}

/// Boxes of a whole weight, as boxes of one region of it.
std::vector<layout::Box> within(const std::vector<layout::Box>& boxes, const Shape& shape,
                                const layout::Region& region) {
  std::vector<layout::Box> out;
  std::vector<layout::Box> clipped;
  for (const layout::Box& box : boxes) {
    clipped.clear();
    layout::over_region(layout::inverse(box, 0), shape, region, 0, clipped);
    for (const layout::Box& one : clipped) {
      out.push_back(layout::inverse(one, box.source));
    }
  }
  return out;
}

}  // namespace

/// What one call holds.
struct RestoredValues::Strip {
  std::optional<move::TensorMaker> maker;  // of the whole weight
  std::vector<std::byte> plain;
};

RestoredValues::RestoredValues(kinds::Requantiser codes, TensorSpec stored, OutputTensor plain)
    : codes_(std::move(codes)), stored_(std::move(stored)), plain_(std::move(plain)) {}

const std::vector<layout::Box>& RestoredValues::boxes() const {
  std::call_once(once_, [this] { boxes_ = plain_.boxes(); });
  return boxes_;
}

std::int64_t RestoredValues::elements() const {
  return element_count(stored_.shape).value();
}

std::int64_t RestoredValues::granule() const {
  return std::max<std::int64_t>(codes_.line_bytes() / bytes(stored_.dtype), 1);
}

Status RestoredValues::unchanged() const {
  for (const checkpoint::SourceTensor& source : plain_.sources) {
    BV_CHECK(source.store->unchanged());
  }
  return Done{};
}

void RestoredValues::release(std::int64_t bytes) const {
  if (unreleased_.fetch_add(bytes) + bytes >= kReleaseBytes) {
    unreleased_ = 0;
    checkpoint::release(plain_.sources);
  }
}

Result<kinds::CodesFound> RestoredValues::make_lines(std::int64_t begin, std::int64_t end,
                                                     Strip& strip, std::byte* out) const {
  const kinds::QuantisedForm& form = codes_.form();
  const std::int64_t count = (end - begin) * form.columns;
  const auto recipe_of = [&](std::vector<layout::Box> boxes, std::int64_t elements) {
    return checkpoint::over_chunks({plain_.spec.dtype, elements, std::move(boxes), {}, plain_.add},
                                   plain_.sources);
  };
  if (!is_transposed(form)) {
    if (!strip.maker) {
      strip.maker.emplace(recipe_of(boxes(), element_count(plain_.spec.shape).value()));
    }
    BV_TRY(plain, strip.maker->read(ElementOffset(begin * form.columns),
                                    ElementOffset(end * form.columns)));
    return codes_.find(begin, end, plain, out);
  }
  const std::int64_t matrix = begin / form.rows;
  const layout::Region region{{matrix, 0, begin % form.rows}, {1, form.columns, end - begin}};
  move::TensorMaker maker(recipe_of(within(boxes(), plain_.spec.shape, region), count));
  BV_TRY(plain, maker.read(ElementOffset(0), ElementOffset(count)));
  return codes_.find(begin, end, plain, out);
}

Result<kinds::CodesFound> RestoredValues::make_counted(std::int64_t begin, std::int64_t end,
                                                       std::byte* out) const {
  const kinds::QuantisedForm& form = codes_.form();
  const std::int64_t size = bytes(stored_.dtype);
  const std::int64_t line = codes_.line_bytes();
  const std::int64_t row_bytes = std::max<std::int64_t>(form.columns * bytes(codes_.dtype()), 1);
  const std::int64_t most =
      std::max<std::int64_t>((is_transposed(form) ? kWideBytes : kStripBytes) / row_bytes, 1);
  Strip strip;
  std::vector<std::byte> made;
  kinds::CodesFound found;
  for (std::int64_t at = begin * size; at < end * size;) {
    const std::int64_t first = at / line;
    std::int64_t last = std::min(first + most, div_ceil(end * size, line));
    if (is_transposed(form)) {
      last = std::min(last, (first / form.rows + 1) * form.rows);
    }
    made.resize(static_cast<std::size_t>((last - first) * line));
    BV_TRY(part, make_lines(first, last, strip, made.data()));
    found.add(part);
    const std::int64_t stop = std::min(last * line, end * size);
    std::memcpy(out + (at - begin * size), made.data() + (at - first * line),
                static_cast<std::size_t>(stop - at));
    release((last - first) * row_bytes);
    at = stop;
  }
  return found;
}

Status RestoredValues::make(std::int64_t begin, std::int64_t end, std::byte* out) const {
  BV_CHECK(make_counted(begin, end, out));
  return Done{};
}

}  // namespace bv::convert
