#include "core/io/memory_view.hpp"

#include <gtest/gtest.h>

namespace bv::io {
namespace {

TEST(MemoryView, ATensorIsOneChunkOverTheBytesThatItWasGiven) {
  const std::vector<std::byte> bytes(12, std::byte{7});
  MemoryView view;
  view.add({"x", DType::BF16, {2, 3}}, bytes);
  view.add({"none", DType::F32, {0, 5}}, {});
  const TensorSpec* found = view.find("x");
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(*found, (TensorSpec{"x", DType::BF16, {2, 3}}));
  EXPECT_EQ(view.find("y"), nullptr);
  for (const char* name : {"x", "none"}) {
    const TensorSpec& spec = *view.find(name);
    const auto chunks = view.chunks(spec);
    EXPECT_TRUE(check_chunks(spec, chunks, "memory")) << name;
    ASSERT_EQ(chunks.size(), 1u) << name;
  }
  EXPECT_EQ(view.chunks(*found).front().bytes.data(), bytes.data());
  EXPECT_EQ(view.headers().size(), 2u);
  EXPECT_EQ(view.total_bytes(), 12u);
}

TEST(MemoryView, ThereIsNoFileThatCouldChange) {
  std::vector<std::byte> bytes(4);
  MemoryView view;
  view.add({"x", DType::F32, {1}}, bytes);
  bytes[0] = std::byte{1};
  EXPECT_TRUE(view.files().empty());
  EXPECT_TRUE(view.unchanged());
  view.release(bytes);
  EXPECT_EQ(view.chunks(*view.find("x")).front().bytes[0], std::byte{1});
}

}  // namespace
}  // namespace bv::io
