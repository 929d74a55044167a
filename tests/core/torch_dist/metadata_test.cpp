#include "core/torch_dist/metadata.hpp"

#include <gtest/gtest.h>

#include "tests/core/pickle/small_archive.hpp"

namespace bv::torch_dist {
namespace {

using pickle::as_span;
using pickle::pickled;

const std::string kMeta = "torch.distributed.checkpoint.metadata";
const std::string kFiles = "torch.distributed.checkpoint.filesystem";

std::string size(const Shape& shape) {
  return "ctorch\nSize\n" + pickle::pickled_tuple(shape) + "\x85R";
}
using Fields = std::vector<std::pair<std::string, std::string>>;
std::string dict(const Fields& fields) {
  std::string out = "}(";
  for (const auto& [name, value] : fields) {
    out += name + value;
  }
  return out + "u";
}
std::string object(const std::string& module, const std::string& name, const Fields& attributes) {
  Fields named;
  for (const auto& [attribute, value] : attributes) {
    named.emplace_back(pickled(attribute), value);
  }
  return "c" + module + "\n" + name + "\n)\x81" + dict(named) + "b";
}
std::string list(const std::vector<std::string>& items) {
  std::string out = "](";
  for (const std::string& item : items) {
    out += item;
  }
  return out + "e";
}

std::string chunk(const Shape& origin, const Shape& extent) {
  return object(kMeta, "ChunkStorageMetadata",
                {{"offsets", size(origin)}, {"sizes", size(extent)}});
}
std::string stored_tensor(const Shape& shape, const std::vector<std::string>& chunks,
                          const std::string& dtype = "bfloat16") {
  return object(
      kMeta, "TensorStorageMetadata",
      {{"properties", "c" + kMeta + "\nTensorProperties\n)\x81(ctorch\n" + dtype + "\nNNNNtb"},
       {"size", size(shape)},
       {"chunks", list(chunks)}});
}
std::string index(const std::string& name, const Shape& origin) {
  return object(kMeta, "MetadataIndex",
                {{"fqn", pickled(name)}, {"offset", size(origin)}, {"index", "N"}});
}
std::string slice(const std::string& file, std::int64_t offset, std::int64_t length) {
  return object(
      kFiles, "_StorageInfo",
      {{"relative_path", pickled(file)}, {"offset", pickled(offset)}, {"length", pickled(length)}});
}

/// Two chunks of x [4, 3] and one object.
struct SmallMetadata {
  Fields tensors = {
      {pickled("x"), stored_tensor({4, 3}, {chunk({2, 0}, {2, 3}), chunk({0, 0}, {2, 3})})},
      {pickled("y"), object(kMeta, "BytesStorageMetadata", {})}};
  Fields storage = {{index("x", {0, 0}), slice("a", 0, 10)},
                    {index("x", {2, 0}), slice("b", 10, 20)},
                    {object(kMeta, "MetadataIndex", {{"fqn", pickled("y")}}), slice("a", 30, 5)}};

  [[nodiscard]] Result<Metadata> read() const {
    const std::string pickle =
        "\x80\x02" +
        object(kMeta, "Metadata",
               {{"state_dict_metadata", dict(tensors)}, {"storage_data", dict(storage)}}) +
        ".";
    return read_metadata(as_span(pickle), "f");
  }
  [[nodiscard]] std::string fault(Code code) const {
    const auto found = read();
    EXPECT_FALSE(found.has_value());
    if (found) {
      return "";
    }
    EXPECT_EQ(found.error().code, code) << found.error().message;
    return found.error().message;
  }
};

TEST(Metadata, SaysWhereChunksAndObjectsLie) {
  const auto metadata = SmallMetadata{}.read();
  ASSERT_TRUE(metadata.has_value()) << metadata.error().message;
  ASSERT_EQ(metadata->tensors.size(), 1U);
  const StoredTensor& x = metadata->tensors.at("x");
  EXPECT_EQ(x.spec, (TensorSpec{"x", DType::BF16, {4, 3}}));
  ASSERT_EQ(x.chunks.size(), 2U);
  EXPECT_EQ(x.chunks[0].place.origin, (Shape{2, 0}));
  EXPECT_EQ(x.chunks[0].slice.file, "b");
  EXPECT_EQ(x.chunks[1].slice.length, 10U);
  ASSERT_EQ(metadata->objects.size(), 1U);
  EXPECT_EQ(metadata->objects.at("y").offset, 30U);
}

TEST(Metadata, ChunksThatDoNotTileAreRefused) {
  SmallMetadata overlap;
  overlap.tensors[0].second = stored_tensor({4, 3}, {chunk({2, 0}, {2, 3}), chunk({0, 0}, {3, 3})});
  EXPECT_EQ(overlap.fault(Code::ChunksInvalid), "\"x\": two chunks overlap");
  SmallMetadata gap;
  gap.tensors[0].second = stored_tensor({5, 3}, {chunk({2, 0}, {2, 3}), chunk({0, 0}, {2, 3})});
  EXPECT_EQ(gap.fault(Code::ChunksInvalid), "\"x\": the chunks leave a gap");
  SmallMetadata outside;
  outside.tensors[0].second = stored_tensor({4, 2}, {chunk({2, 0}, {2, 3}), chunk({0, 0}, {2, 3})});
  EXPECT_EQ(outside.fault(Code::ChunksInvalid), "\"x\": a chunk reaches out of the tensor");
  SmallMetadata none;
  none.tensors[0].second = stored_tensor({0, 3}, {});
  EXPECT_EQ(none.fault(Code::ChunksInvalid), "\"x\": the tensor has no chunk");
}

TEST(Metadata, AChunkWithoutItsSliceIsRefused) {
  SmallMetadata less;
  less.storage.erase(less.storage.begin());
  EXPECT_EQ(less.fault(Code::DistMetadataInvalid),
            "f cannot be used: a part of \"x\" is stored nowhere");
  SmallMetadata object_less;
  object_less.storage.pop_back();
  EXPECT_EQ(object_less.fault(Code::DistMetadataInvalid),
            "f cannot be used: a part of \"y\" is stored nowhere");
}

TEST(Metadata, WhatStandsTwiceIsRefused) {
  SmallMetadata stored;
  stored.storage.push_back(stored.storage[0]);
  EXPECT_EQ(stored.fault(Code::DistMetadataInvalid),
            "f cannot be used: a chunk of \"x\" is stored twice");
  SmallMetadata listed;
  listed.tensors.push_back(listed.tensors[0]);
  EXPECT_EQ(listed.fault(Code::DistMetadataInvalid), "f cannot be used: \"x\" is listed twice");
}

TEST(Metadata, SlicesThatAreTransformedOrNegativeAreRefused) {
  SmallMetadata transformed;
  transformed.storage[0].second = object(kFiles, "_StorageInfo",
                                         {{"relative_path", pickled("a")},
                                          {"offset", pickled(0)},
                                          {"length", pickled(1)},
                                          {"transform_descriptors", list({pickled("zstd")})}});
  EXPECT_EQ(transformed.fault(Code::DistMetadataInvalid),
            "f cannot be used: \"x\" is stored transformed");
  SmallMetadata negative;
  negative.storage[0].second = slice("a", -1, 5);
  EXPECT_EQ(negative.fault(Code::DistMetadataInvalid),
            "f cannot be used: an entry of storage_data has no name, path, offset or length");
}

TEST(Metadata, TypesThatAreNotReadAreRefusedByName) {
  SmallMetadata odd;
  odd.tensors[0].second = stored_tensor({4, 3}, {chunk({0, 0}, {4, 3})}, "Size");
  EXPECT_EQ(odd.fault(Code::DtypeUnknown), "\"x\" is of a type that is not read");
  SmallMetadata unknown;
  unknown.tensors[0].second = stored_tensor({4, 3}, {chunk({0, 0}, {4, 3})}, "quint8");
  EXPECT_EQ(unknown.fault(Code::PickleGlobal),
            "f: the pickle names torch.quint8, which no checkpoint of weights needs");
}

TEST(Metadata, OtherPicklesAreRefused) {
  const auto read = [](const std::string& text_of) { return read_metadata(as_span(text_of), "f"); };
  for (const std::string& text_of :
       {std::string("N."), std::string("}."), object(kMeta, "Metadata", {}) + ".",
        object(kMeta, "StorageMeta", {}) + "."}) {
    const auto found = read(text_of);
    ASSERT_FALSE(found.has_value());
    EXPECT_EQ(found.error().code, Code::DistMetadataInvalid);
  }
  EXPECT_EQ(read("cos\nsystem\n.").error().code, Code::PickleGlobal);
}

}  // namespace
}  // namespace bv::torch_dist
