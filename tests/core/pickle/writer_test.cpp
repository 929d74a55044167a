// What is written is what is read, and torch.save would have written it.

#include <gtest/gtest.h>

#include "core/pickle/archive_writer.hpp"
#include "core/pickle/crc32.hpp"
#include "core/pickle/tensors.hpp"
#include "tests/core/pickle/small_archive.hpp"

namespace bv::pickle {
namespace {

Pickle unpickled(const std::string& text) {
  static constexpr std::array kGlobals = {Allowed{"torch", "Size"}};
  return Pickle::read(as_span(text), kGlobals, "p").value();
}

TEST(PickleWriter, NumbersComeBack) {
  for (const std::int64_t value :
       {std::int64_t{0}, std::int64_t{255}, std::int64_t{256}, std::int64_t{65535},
        std::int64_t{65536}, std::int64_t{-1}, std::int64_t{INT32_MIN}, std::int64_t{INT32_MAX},
        std::int64_t{INT32_MAX} + 1, std::int64_t{INT32_MIN} - 1, std::int64_t{255} << 32,
        std::int64_t{128} << 40, INT64_MAX, INT64_MIN}) {
    PickleWriter out;
    out.number(value);
    const std::string text = std::move(out).finished();
    const Pickle back = unpickled(text);
    EXPECT_EQ(back.number(back.root()), value);
  }
}

TEST(PickleWriter, ContainersAndObjectsComeBack) {
  PickleWriter out;
  out.begin_dict();
  out.text("a").begin_tuple().number(1).none().end_tuple();
  out.text("b").begin_list().real(0.5).boolean(true).end_list();
  const Shape shape = {2, 3};
  out.text("c").global("torch", "Size").begin_tuple().numbers(shape).end_tuple().reduce();
  out.text("d").begin_list().end_list();
  out.end_dict();
  const std::string text = std::move(out).finished();
  const Pickle back = unpickled(text);
  const Id root = back.root();
  ASSERT_EQ(back.kind(root), Kind::Dict);
  const auto a = back.items(*back.get(root, "a"));
  ASSERT_EQ(a.size(), 2U);
  EXPECT_EQ(back.number(a[0]), 1);
  EXPECT_EQ(back.kind(a[1]), Kind::None);
  const auto b = back.items(*back.get(root, "b"));
  ASSERT_EQ(b.size(), 2U);
  EXPECT_EQ(back.real(b[0]), 0.5);
  EXPECT_EQ(back.number(b[1]), 1);
  EXPECT_EQ(back.numbers(*back.get(root, "c")), shape);
  EXPECT_TRUE(back.items(*back.get(root, "d")).empty());
}

TEST(PickleWriter, ATextThatComesAgainIsReferredTo) {
  PickleWriter out;
  out.begin_list();
  for (int i = 0; i < 600; ++i) {
    out.text("text " + std::to_string(i % 300));
  }
  out.end_list();
  const std::string text = std::move(out).finished();
  EXPECT_EQ(text.find("text 299", text.find("text 299") + 1), std::string::npos);
  const Pickle back = unpickled(text);
  const auto items = back.items(back.root());
  ASSERT_EQ(items.size(), 600U);
  for (std::size_t i = 0; i < items.size(); ++i) {
    EXPECT_EQ(back.text(items[i]), "text " + std::to_string(i % 300));
  }
}

/// Positions of a real archive of torch 2.12 (docs/reference/formats.md#torch_dist): each record
/// begins at a multiple of 64.
TEST(ArchiveWriter, ATensorIsReadAgain) {
  const std::string data = "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c";
  const ArchiveWriter writer = tensor_archive(DType::BF16, {2, 3});
  ASSERT_EQ(writer.streamed(), data.size());
  const std::string bytes = std::string(writer.head()) + data + writer.tail(crc32(as_span(data)));
  EXPECT_EQ(bytes.size(), writer.size());
  const TorchFile file = open_torch_file(as_span(bytes), "f").value();
  EXPECT_EQ(file.archive.folder(), "archive");
  for (const Record& record : file.archive.records()) {
    EXPECT_EQ(record.begin % 64, 0U) << record.name;
    EXPECT_EQ(crc32(file.archive.bytes(record)), record.crc) << record.name;
  }
  const ArchiveTensor tensor = tensor_of(file, file.pickle.root()).value();
  EXPECT_EQ(tensor.dtype, DType::BF16);
  EXPECT_EQ(tensor.shape, (Shape{2, 3}));
  EXPECT_EQ(bytes.substr(tensor.begin, tensor.end - tensor.begin), data);
}

TEST(ArchiveWriter, AWrongChecksumIsSeen) {
  const std::string data(12, 'x');
  const ArchiveWriter writer = tensor_archive(DType::F32, {3});
  const std::string bytes =
      std::string(writer.head()) + data + writer.tail(crc32(as_span(data)) + 1);
  const TorchFile file = open_torch_file(as_span(bytes), "f").value();
  EXPECT_NE(file.archive.find("data/0")->crc, crc32(as_span(data)));
}

/// Sizes above 4 GiB without such a file: what is written around the data.
TEST(ArchiveWriter, LargeTensorsHaveZip64Fields) {
  const ArchiveWriter writer = tensor_archive(DType::U8, {(std::int64_t{1} << 32) + 16});
  EXPECT_EQ(writer.size(), writer.head().size() + writer.streamed() + writer.tail(0).size());
  EXPECT_EQ(writer.head().size() % 64, 0U);
  const std::string sizes = little((std::uint64_t{1} << 32) + 16);
  EXPECT_NE(writer.head().find(std::string("\x01\x00\x10\x00", 4) + sizes + sizes),
            std::string_view::npos);
  const std::string tail = writer.tail(0x01020304);
  EXPECT_EQ(tail.substr(0, 24), std::string("PK\x07\x08\x04\x03\x02\x01") + sizes + sizes);
}

TEST(ArchiveWriter, EmptyStoragesAndObjectsAreRead) {
  PickleWriter pickle;
  pickle.begin_list();
  add_tensor(pickle, DType::U8, {0});
  pickle.end_list();
  const std::string bytes = object_archive("archive", std::move(pickle).finished(), {""});
  const TorchFile file = open_torch_file(as_span(bytes), "f").value();
  const auto items = file.pickle.items(file.pickle.root());
  ASSERT_EQ(items.size(), 1U);
  EXPECT_EQ(tensor_of(file, items[0]).value().shape, (Shape{0}));
}

}  // namespace
}  // namespace bv::pickle
