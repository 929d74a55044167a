#include "core/exec/move.hpp"

#include <algorithm>
#include <cstring>

#include "core/kinds/values.hpp"

namespace bv::exec {
namespace {

/// One innermost axis: `count` elements with a stride on each side.
struct Run {
  std::int64_t source = 0;
  std::int64_t target = 0;
  std::int64_t count = 1;
  std::int64_t source_stride = 1;
  std::int64_t target_stride = 1;
};

/// Calls `visit(run)` for every innermost run, outer axes in target order. Stops when it returns
/// false.
template <class Visit>
bool for_each_run(const layout::Box& box, std::size_t axis, std::int64_t source,
                  std::int64_t target, const Visit& visit) {
  if (box.axes.empty()) {
    return visit(Run{source, target, 1, 1, 1});
  }
  const layout::BoxAxis& here = box.axes[axis];
  if (axis + 1 == box.axes.size()) {
    return visit(Run{source, target, here.extent, here.source_stride, here.target_stride});
  }
  for (std::int64_t i = 0; i < here.extent; ++i) {
    if (!for_each_run(box, axis + 1, source + i * here.source_stride,
                      target + i * here.target_stride, visit)) {
      return false;
    }
  }
  return true;
}

template <class Visit>
bool for_each_run(const layout::Box& box, const Visit& visit) {
  return for_each_run(box, 0, box.source_offset, box.target_offset, visit);
}

template <std::size_t kBytes>
void copy_strided(const Run& run, const std::byte* source, std::byte* target) {
  for (std::int64_t i = 0; i < run.count; ++i) {
    std::memcpy(target + i * run.target_stride * static_cast<std::int64_t>(kBytes),
                source + i * run.source_stride * static_cast<std::int64_t>(kBytes), kBytes);
  }
}

void copy_run(const Run& run, const std::byte* source, std::byte* target, std::size_t size) {
  if (run.source_stride == 1 && run.target_stride == 1) {
    std::memcpy(target, source, static_cast<std::size_t>(run.count) * size);
    return;
  }
  switch (size) {
    case 1:
      return copy_strided<1>(run, source, target);
    case 2:
      return copy_strided<2>(run, source, target);
    case 4:
      return copy_strided<4>(run, source, target);
    default:
      return copy_strided<8>(run, source, target);
  }
}

std::int64_t scaled(std::int64_t elements, std::size_t size) {
  return elements * static_cast<std::int64_t>(size);
}

/// Two innermost axes that exchange their roles are copied in square tiles, so that both sides stay
/// in cache.
constexpr std::int64_t kTile = 32;

bool is_transpose(const layout::Box& box) {
  if (box.axes.size() < 2 || box.source < 0) {
    return false;
  }
  const layout::BoxAxis& inner = box.axes.back();
  const layout::BoxAxis& outer = box.axes[box.axes.size() - 2];
  return inner.target_stride == 1 && inner.source_stride > 1 && outer.source_stride == 1 &&
         outer.extent > 1;
}

template <std::size_t kBytes>
void transpose_tiles(const layout::BoxAxis& outer, const layout::BoxAxis& inner,
                     const std::byte* source, std::byte* target) {
  constexpr auto kSize = static_cast<std::int64_t>(kBytes);
  for (std::int64_t i = 0; i < outer.extent; i += kTile) {
    for (std::int64_t j = 0; j < inner.extent; j += kTile) {
      const std::int64_t rows = std::min(kTile, outer.extent - i);
      const std::int64_t columns = std::min(kTile, inner.extent - j);
      for (std::int64_t a = 0; a < rows; ++a) {
        for (std::int64_t b = 0; b < columns; ++b) {
          std::memcpy(target + ((i + a) * outer.target_stride + (j + b)) * kSize,
                      source + ((i + a) + (j + b) * inner.source_stride) * kSize, kBytes);
        }
      }
    }
  }
}

void copy_transposed(const layout::Box& box, const std::byte* source, std::byte* target,
                     std::int64_t target_base, std::size_t size) {
  const layout::BoxAxis inner = box.axes.back();
  const layout::BoxAxis outer = box.axes[box.axes.size() - 2];
  layout::Box rest = box;
  rest.axes.resize(box.axes.size() - 2);
  rest.axes.push_back(layout::BoxAxis{1, 0, 0});
  for_each_run(rest, [&](const Run& at) {
    const std::byte* from = source + scaled(at.source, size);
    std::byte* to = target + scaled(at.target - target_base, size);
    switch (size) {
      case 1:
        transpose_tiles<1>(outer, inner, from, to);
        break;
      case 2:
        transpose_tiles<2>(outer, inner, from, to);
        break;
      case 4:
        transpose_tiles<4>(outer, inner, from, to);
        break;
      default:
        transpose_tiles<8>(outer, inner, from, to);
        break;
    }
    return true;
  });
}

bool is_zero(const std::byte* bytes, std::size_t size) {
  return std::all_of(bytes, bytes + size, [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace

void copy_box(const layout::Box& box, const std::byte* source, std::byte* target,
              std::int64_t target_base, std::size_t size) {
  if (is_transpose(box)) {
    copy_transposed(box, source, target, target_base, size);
    return;
  }
  for_each_run(box, [&](const Run& run) {
    std::byte* to = target + scaled(run.target - target_base, size);
    if (box.source >= 0) {
      copy_run(run, source + scaled(run.source, size), to, size);
    } else {
      for (std::int64_t i = 0; i < run.count; ++i) {
        std::memset(to + scaled(i * run.target_stride, size), 0, size);
      }
    }
    return true;
  });
}

void cast_box(const layout::Box& box, const std::byte* source, DType source_dtype,
              std::byte* target, std::int64_t target_base, DType target_dtype) {
  const auto from_size = static_cast<std::size_t>(bytes(source_dtype));
  const auto to_size = static_cast<std::size_t>(bytes(target_dtype));
  if (source_dtype == target_dtype || box.source < 0) {
    copy_box(box, source, target, target_base, to_size);
    return;
  }
  for_each_run(box, [&](const Run& run) {
    const std::byte* from = source + scaled(run.source, from_size);
    std::byte* to = target + scaled(run.target - target_base, to_size);
    if (run.source_stride == 1 && run.target_stride == 1) {
      kinds::cast(from, source_dtype, to, target_dtype, run.count);
      return true;
    }
    for (std::int64_t i = 0; i < run.count; ++i) {
      kinds::cast(from + scaled(i * run.source_stride, from_size), source_dtype,
                  to + scaled(i * run.target_stride, to_size), target_dtype, 1);
    }
    return true;
  });
}

std::optional<std::int64_t> first_difference(const layout::Box& box, const std::byte* source,
                                             const std::byte* target, std::int64_t target_base,
                                             std::size_t size) {
  std::optional<std::int64_t> found;
  for_each_run(box, [&](const Run& run) {
    const std::byte* to = target + scaled(run.target - target_base, size);
    const bool contiguous = run.source_stride == 1 && run.target_stride == 1 && box.source >= 0;
    if (contiguous && std::memcmp(source + scaled(run.source, size), to,
                                  static_cast<std::size_t>(run.count) * size) == 0) {
      return true;
    }
    for (std::int64_t i = 0; i < run.count; ++i) {
      const std::byte* there = to + scaled(i * run.target_stride, size);
      const bool equal =
          box.source < 0 ? is_zero(there, size)
                         : std::memcmp(source + scaled(run.source + i * run.source_stride, size),
                                       there, size) == 0;
      if (!equal) {
        found = run.target + i * run.target_stride;
        return false;
      }
    }
    return true;
  });
  return found;
}

std::optional<std::int64_t> source_of(const layout::Box& box, std::int64_t target_offset) {
  std::int64_t left = target_offset - box.target_offset;
  std::int64_t source = box.source_offset;
  for (const layout::BoxAxis& axis : box.axes) {
    if (left < 0 || axis.target_stride <= 0) {
      return std::nullopt;
    }
    const std::int64_t index = std::min(left / axis.target_stride, axis.extent - 1);
    left -= index * axis.target_stride;
    source += index * axis.source_stride;
  }
  return left == 0 ? std::optional(source) : std::nullopt;
}

Extent source_extent(const layout::Box& box) {
  std::int64_t last = box.source_offset;
  for (const layout::BoxAxis& axis : box.axes) {
    last += (axis.extent - 1) * axis.source_stride;
  }
  return {box.source_offset, last + 1};
}

}  // namespace bv::exec
