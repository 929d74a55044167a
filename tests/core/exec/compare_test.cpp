#include "core/exec/compare.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "core/io/writer.hpp"

namespace bv::exec {
namespace {

namespace fs = std::filesystem;

class Compare : public testing::Test {
 protected:
  Compare() { fs::create_directories(folder_); }
  ~Compare() override { fs::remove_all(folder_); }

  /// A file of one tensor `x`.
  io::Checkpoint make(const std::string& file, DType dtype, const Shape& shape,
                      const std::vector<std::byte>& bytes) const {
    const auto plan = io::plan_safetensors({TensorSpec{"x", dtype, shape}}, {}).value();
    auto pending = io::PendingFile::create(folder_ / file, plan.file_size).value();
    EXPECT_TRUE(pending.write_at(0, std::as_bytes(std::span(plan.header))).has_value());
    EXPECT_TRUE(pending.write_at(plan.offsets[0], bytes).has_value());
    EXPECT_TRUE(pending.commit().has_value());
    return io::Checkpoint::open(folder_ / file).value();
  }
  static SourceTensor tensor(const io::Checkpoint& checkpoint) {
    return {&checkpoint, &checkpoint.tensors().find("x")->second};
  }

  fs::path folder_ = fs::temp_directory_path() / fmt::format("bv-compare-{}", ::getpid());
};

TEST_F(Compare, FindsTheFirstElementOfAnyWindow) {
  std::vector<std::byte> bytes(std::size_t{3} << 20, std::byte{7});
  const Shape shape = {3, 512, 1024};
  const io::Checkpoint a = make("a.safetensors", DType::BF16, shape, bytes);
  bytes[2 * 1'000'000 + 1] ^= std::byte{1};
  bytes.back() ^= std::byte{1};
  const io::Checkpoint b = make("b.safetensors", DType::BF16, shape, bytes);
  const auto equal = compare_tensors(tensor(a), tensor(a));
  ASSERT_TRUE(equal.has_value());
  EXPECT_FALSE(equal->has_value());
  const auto found = compare_tensors(tensor(a), tensor(b));
  ASSERT_TRUE(found.has_value() && found->has_value());
  EXPECT_EQ((*found)->element, 1'000'000);
  EXPECT_EQ((*found)->index, (Shape{1, 464, 576}));
}

TEST_F(Compare, ElementsOfHalfAByteAreTold) {
  const io::Checkpoint a =
      make("a.safetensors", DType::F4, {4}, {std::byte{0x21}, std::byte{0x43}});
  const io::Checkpoint b =
      make("b.safetensors", DType::F4, {4}, {std::byte{0x21}, std::byte{0x53}});
  const auto found = compare_tensors(tensor(a), tensor(b));
  ASSERT_TRUE(found.has_value() && found->has_value());
  EXPECT_EQ((*found)->element, 3);
}

TEST_F(Compare, RefusesTensorsWithoutPairs) {
  const io::Checkpoint a = make("a.safetensors", DType::U8, {4}, std::vector<std::byte>(4));
  const io::Checkpoint b = make("b.safetensors", DType::U8, {2, 2}, std::vector<std::byte>(4));
  const io::Checkpoint c = make("c.safetensors", DType::I8, {4}, std::vector<std::byte>(4));
  EXPECT_EQ(compare_tensors(tensor(a), tensor(b)).error().code, Code::ShapeMismatch);
  EXPECT_EQ(compare_tensors(tensor(a), tensor(c)).error().code, Code::DtypeChanged);
}

TEST_F(Compare, AnswersEachPairInItsOrder) {
  const io::Checkpoint a = make("a.safetensors", DType::U8, {2}, {std::byte{1}, std::byte{2}});
  const io::Checkpoint b = make("b.safetensors", DType::U8, {2}, {std::byte{1}, std::byte{3}});
  const auto found = compare_all({{tensor(a), tensor(a)}, {tensor(a), tensor(b)}}, 2);
  ASSERT_TRUE(found.has_value());
  EXPECT_FALSE((*found)[0].has_value());
  ASSERT_TRUE((*found)[1].has_value());
  EXPECT_EQ((*found)[1]->element, 1);
}

}  // namespace
}  // namespace bv::exec
