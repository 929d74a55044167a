#pragma once
// Random tasks of an executor, and what the processor makes of them.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <random>
#include <vector>

#include "core/move/tensor_maker.hpp"

namespace bv::cuda::testing {

inline std::vector<std::byte> random_bytes(std::size_t size, std::mt19937_64& random) {
  std::vector<std::byte> out(size);
  for (std::byte& one : out) {
    one = static_cast<std::byte>(random());
  }
  return out;
}

/// Tensors whose axes are cut, permuted and joined, as those of a rule are.
struct Case {
  std::vector<std::vector<std::byte>> bytes;
  move::Recipe recipe;
};

/// One part: random extents, the axes of the source in random order at the target.
inline layout::Box random_box(int source, std::int64_t target_offset, std::mt19937_64& random,
                              std::int64_t& elements) {
  const std::size_t axes = 1 + random() % 4;
  std::vector<std::int64_t> extents;
  for (std::size_t i = 0; i < axes; ++i) {
    constexpr std::array<std::int64_t, 8> kExtents = {1, 2, 3, 4, 5, 8, 16, 24};
    extents.push_back(kExtents[random() % kExtents.size()]);
  }
  std::vector<std::size_t> order(axes);
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (random() % 2 == 0) {
    std::shuffle(order.begin(), order.end(), random);
  }
  std::vector<layout::BoxAxis> all(axes);
  std::int64_t step = 1 + static_cast<std::int64_t>(random() % 2);  // of the source
  for (std::size_t i = axes; i-- > 0;) {
    all[i].extent = extents[i];
    all[i].source_stride = step;
    step *= extents[i] + static_cast<std::int64_t>(random() % 2);
  }
  elements = 1;
  layout::Box out;
  out.source = source;
  out.source_offset = static_cast<std::int64_t>(random() % 9);
  out.target_offset = target_offset;
  for (std::size_t i = axes; i-- > 0;) {
    all[order[i]].target_stride = elements;
    elements *= extents[order[i]];
  }
  for (const std::size_t i : order) {
    out.axes.push_back(all[i]);
  }
  layout::normalise(out);
  return out;
}

inline Case random_case(std::mt19937_64& random) {
  constexpr std::array kMoved = {DType::U8, DType::BF16, DType::F32, DType::F64};
  constexpr std::array kComputed = {DType::F16, DType::BF16, DType::F32, DType::F64};
  Case out;
  const bool computes = random() % 3 == 0;
  const DType from = computes ? kComputed[random() % 4] : kMoved[random() % 4];
  out.recipe.dtype = computes ? kComputed[random() % 4] : from;
  out.recipe.add = computes && random() % 2 == 0 ? (random() % 2 == 0 ? 1.0 : -1.0) : 0.0;
  const int parts = 1 + static_cast<int>(random() % 4);
  for (int part = 0; part < parts; ++part) {
    std::int64_t elements = 0;
    const bool is_padding = random() % 5 == 0;
    layout::Box box = random_box(part, out.recipe.elements, random, elements);
    std::int64_t reach = box.source_offset + 1;
    for (const layout::BoxAxis& axis : box.axes) {
      reach += (axis.extent - 1) * axis.source_stride;
    }
    if (is_padding) {
      box.source = -1;
      for (layout::BoxAxis& axis : box.axes) {
        axis.source_stride = 0;
      }
      layout::normalise(box);
    }
    out.recipe.boxes.push_back(box);
    out.recipe.elements += elements;
    out.bytes.push_back(random_bytes(static_cast<std::size_t>(reach * bytes(from)), random));
  }
  for (const auto& one : out.bytes) {
    out.recipe.sources.push_back({one.data(), from});
  }
  return out;
}

inline std::vector<std::byte> made_by(move::Executor* executor, const Case& one, std::int64_t begin,
                                      std::int64_t end) {
  move::TensorMaker maker(one.recipe, executor);
  std::vector<std::byte> out(static_cast<std::size_t>((end - begin) * bytes(one.recipe.dtype)),
                             std::byte{0x5A});
  const auto made = maker.make(ElementOffset(begin), ElementOffset(end), out.data());
  EXPECT_TRUE(made) << made.error().message;
  return out;
}

}  // namespace bv::cuda::testing
