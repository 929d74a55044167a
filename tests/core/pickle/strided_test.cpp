#include "core/pickle/strided.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>

namespace bv::pickle {
namespace {

/// Elements of a view by its definition: index by index, no blocks.
template <class T>
std::vector<T> by_index(const std::vector<T>& storage, const Shape& shape, const Shape& strides) {
  const std::int64_t count =
      std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
  std::vector<T> out;
  for (std::int64_t i = 0; i < count; ++i) {
    std::int64_t left = i;
    std::int64_t at = 0;
    for (std::size_t axis = shape.size(); axis-- > 0;) {
      at += left % shape[axis] * strides[axis];
      left /= shape[axis];
    }
    out.push_back(storage[static_cast<std::size_t>(at)]);
  }
  return out;
}

template <class T>
std::vector<T> made(const StridedElements& view, std::int64_t begin, std::int64_t end) {
  std::vector<T> out(static_cast<std::size_t>(end - begin) + 1, T{99});
  EXPECT_TRUE(view.make(begin, end, reinterpret_cast<std::byte*>(out.data())));
  EXPECT_EQ(out.back(), T{99}) << "nothing is written behind the range";
  out.pop_back();
  return out;
}

/// Every range of every view of at most three small axes: steps of all orders, gaps, zeros.
template <class T>
void expect_all_views() {
  std::vector<T> storage(200);
  std::iota(storage.begin(), storage.end(), T{0});
  const Shape extents = {1, 2, 3};
  const Shape steps = {0, 1, 2, 3, 7, 12};
  for (const std::int64_t a : extents) {
    for (const std::int64_t b : extents) {
      for (const std::int64_t step_a : steps) {
        for (const std::int64_t step_b : steps) {
          for (const std::int64_t step_c : steps) {
            const Shape shape = {a, b, 3};
            const Shape strides = {step_a, step_b, step_c};
            const StridedElements view(std::as_bytes(std::span(storage)), sizeof(T), shape,
                                       strides);
            const std::vector<T> all = by_index(storage, shape, strides);
            ASSERT_EQ(view.elements(), std::ssize(all));
            for (std::int64_t begin = 0; begin <= view.elements(); ++begin) {
              for (std::int64_t end = begin; end <= view.elements(); ++end) {
                ASSERT_EQ(made<T>(view, begin, end),
                          std::vector<T>(all.begin() + begin, all.begin() + end))
                    << "[" << a << ", " << b << ", 3] steps " << step_a << " " << step_b << " "
                    << step_c << ": " << begin << " to " << end;
              }
            }
          }
        }
      }
    }
  }
}

TEST(StridedElements, AreThoseOfEveryIndexInEveryRange) {
  expect_all_views<std::uint8_t>();
  expect_all_views<std::uint16_t>();
}

TEST(StridedElements, HaveEverySizeOfAnElement) {
  std::vector<double> wide(12);
  std::iota(wide.begin(), wide.end(), 0.0);
  const StridedElements eight(std::as_bytes(std::span(wide)), 8, {3, 4}, {1, 3});
  EXPECT_EQ(made<double>(eight, 3, 9), (std::vector<double>{9, 1, 4, 7, 10, 2}));
  std::vector<float> four(12);
  std::iota(four.begin(), four.end(), 0.0F);
  const StridedElements view(std::as_bytes(std::span(four)), 4, {2, 2, 3}, {6, 1, 2});
  EXPECT_EQ(made<float>(view, 0, 12), by_index(four, {2, 2, 3}, {6, 1, 2}));
}

TEST(StridedElements, OfOneNumberOrNoneAreRead) {
  const std::vector<std::uint16_t> storage = {5, 6};
  const StridedElements one(std::as_bytes(std::span(storage)), 2, {1, 1}, {9, 9});
  EXPECT_EQ(made<std::uint16_t>(one, 0, 1), (std::vector<std::uint16_t>{5}));
  const StridedElements none(std::as_bytes(std::span(storage)).first(0), 2, {0, 4}, {1, 1});
  EXPECT_EQ(none.elements(), 0);
  EXPECT_TRUE(none.make(0, 0, nullptr));
}

}  // namespace
}  // namespace bv::pickle
