#include "core/pickle/tensors.hpp"

#include <gtest/gtest.h>

#include "tests/core/pickle/small_archive.hpp"

namespace bv::pickle {
namespace {

using std::string_literals::operator""s;

/// What torch.save says of one tensor, with everything that can be wrong about it.
struct SmallTensor {
  std::string storage = "torch\nBFloat16Storage";
  std::string key = "0";
  int held = 6;  // elements of the storage
  int offset = 0;
  std::vector<int> shape = {2, 3};
  std::vector<int> strides = {3, 1};
  std::string dtype = {};  // of version 3: "float8_e4m3fn"
  std::string data = std::string(12, 'x');
  std::string metadata = {};  // operations of the last argument

  [[nodiscard]] std::string pickle() const {
    const std::string version = dtype.empty() ? "_rebuild_tensor_v2" : "_rebuild_tensor_v3";
    std::string out = "ctorch._utils\n" + version + "\n((" + pickled("storage") + "c" + storage +
                      "\n" + pickled(key) + pickled("cpu") + pickled(held) + "tQ" +
                      pickled(offset) + pickled_tuple(shape) + pickled_tuple(strides) + "\x89" +
                      "ccollections\nOrderedDict\n)R";
    out += dtype.empty() ? "" : "ctorch\n" + dtype + "\n";
    return out + metadata + "tR";
  }
  [[nodiscard]] SmallArchive archive() const {
    return {{{"archive/data.pkl", "\x80\x02" + pickle() + "."},
             {"archive/byteorder", "little"},
             {"archive/data/0", data},
             {"archive/version", "3\n"}}};
  }
};

Result<ArchiveTensor> open(const SmallArchive& archive, std::string& bytes) {
  bytes = archive.bytes();
  BV_TRY(file, open_torch_file(as_span(bytes), "f"));
  BV_TRY(tensor, tensor_of(file, file.pickle.root()));
  tensor.record = nullptr;  // goes with the file
  return tensor;
}

std::string tensor_fault(const SmallArchive& archive, Code code = Code::PickleInvalid) {
  std::string bytes;
  const auto opened = open(archive, bytes);
  if (opened) {
    return "";
  }
  EXPECT_EQ(opened.error().code, code) << opened.error().message;
  return opened.error().message;
}
std::string tensor_fault(const SmallTensor& tensor) {
  return tensor_fault(tensor.archive());
}

TEST(TorchFile, ATensorLiesWhereItsStorageDoes) {
  SmallTensor small;
  small.data = "0123456789abcdefghij";
  small.held = 10;
  small.offset = 2;
  std::string bytes;
  const auto tensor = open(small.archive(), bytes);
  ASSERT_TRUE(tensor.has_value()) << tensor.error().message;
  EXPECT_EQ(tensor->dtype, DType::BF16);
  EXPECT_EQ(tensor->shape, (Shape{2, 3}));
  EXPECT_EQ(bytes.substr(tensor->begin, tensor->end - tensor->begin), "456789abcdef");
}

TEST(TorchFile, TypesWithoutAStorageOfTheirOwnAreReadByTheirName) {
  SmallTensor small;
  small.storage = "torch.storage\nUntypedStorage";
  small.dtype = "float8_e4m3fn";
  small.held = 12;
  std::string bytes;
  const auto tensor = open(small.archive(), bytes);
  ASSERT_TRUE(tensor.has_value()) << tensor.error().message;
  EXPECT_EQ(tensor->dtype, DType::F8E4M3);
  EXPECT_EQ(tensor->end - tensor->begin, 6U);
}

TEST(TorchFile, StridesOfSingleRowsDoNotMatter) {
  SmallTensor row;
  row.shape = {1, 6};
  row.strides = {77, 1};
  EXPECT_EQ(tensor_fault(row), "");
  SmallTensor none;
  none.shape = {0, 6};
  none.strides = {1, 1};
  EXPECT_EQ(tensor_fault(none), "");
}

TEST(TorchFile, TensorsThatAreNotStoredRowByRowKeepTheirStrides) {
  SmallTensor small;
  std::string bytes;
  small.strides = {1, 2};
  const auto turned = open(small.archive(), bytes);
  ASSERT_TRUE(turned.has_value()) << turned.error().message;
  EXPECT_EQ(turned->strides, (Shape{1, 2}));
  EXPECT_EQ(turned->end - turned->begin, 12U);
  EXPECT_FALSE(may_repeat(*turned));
  small.strides = {0, 1};
  small.offset = 3;
  const auto repeated = open(small.archive(), bytes);
  ASSERT_TRUE(repeated.has_value()) << repeated.error().message;
  EXPECT_EQ(repeated->end - repeated->begin, 6U);
  EXPECT_TRUE(may_repeat(*repeated));
  small.strides = {3, 1};
  small.offset = 0;
  EXPECT_EQ(open(small.archive(), bytes)->strides, Shape());
}

TEST(TorchFile, StridesThatLeadOutOfTheStorageAreRefused) {
  const std::string larger = "f: a tensor of shape [2, 3] is larger than its storage";
  for (const std::vector<int>& strides :
       {std::vector{4, 1}, {1, 3}, {2, 2}, {-1, 1}, {3, -1}, {0, -1}, {2147483647, 2147483647}}) {
    SmallTensor small;
    small.strides = strides;
    EXPECT_EQ(tensor_fault(small), larger) << strides[0] << " " << strides[1];
  }
  SmallTensor moved;
  moved.strides = {0, 1};
  moved.offset = 4;
  EXPECT_EQ(tensor_fault(moved), larger);
  SmallTensor wide;  // the reach is above 2^63
  wide.shape = {2147483647, 2147483647, 2147483647};
  wide.strides = {2147483647, 2147483647, 2147483647};
  EXPECT_NE(tensor_fault(wide).find("is larger than its storage"), std::string::npos);
  wide.strides = {0, 0, 0};  // so is the number of elements
  EXPECT_NE(tensor_fault(wide).find("is larger than its storage"), std::string::npos);
}

TEST(TorchFile, OverlapsAreSeenByTheStrides) {
  const auto overlaps = [](Shape shape, Shape strides) {
    return may_repeat({DType::F32, std::move(shape), 0, 0, nullptr, std::move(strides)});
  };
  EXPECT_TRUE(overlaps({4, 4}, {2, 1}));  // windows
  EXPECT_TRUE(overlaps({3, 3}, {0, 0}));  // expanded
  EXPECT_TRUE(overlaps({3, 5}, {1, 2}));
  EXPECT_FALSE(overlaps({2, 5}, {1, 2}));
  EXPECT_FALSE(overlaps({4, 1}, {1, 0}));  // one index
  EXPECT_FALSE(overlaps({4, 3}, {3, 1}));
  EXPECT_FALSE(overlaps({3, 4}, {1, 3}));
}

TEST(TorchFile, ATensorLargerThanItsStorageIsRefused) {
  SmallTensor less;
  less.held = 5;
  EXPECT_EQ(tensor_fault(less), "f: a tensor of shape [2, 3] is larger than its storage");
  SmallTensor moved;
  moved.offset = 1;
  EXPECT_EQ(tensor_fault(moved), "f: a tensor of shape [2, 3] is larger than its storage");
  SmallTensor lying;  // the record is shorter than the storage that the pickle states
  lying.data.pop_back();
  EXPECT_EQ(tensor_fault(lying), "f: a tensor of shape [2, 3] is larger than its storage");
  SmallTensor absent;
  absent.key = "../1";
  EXPECT_EQ(tensor_fault(absent), "f: storage ../1 is not in the archive");
}

/// torch._neg_view and Tensor.conj are saved as what is stored and a bit: what is loaded is another
/// tensor than what lies there.
TEST(TorchFile, BitsThatChangeTheElementsAreRefusedByName) {
  const auto with = [](const std::string& metadata, bool typed) {
    SmallTensor small;
    small.metadata = metadata;
    if (typed) {
      small.storage = "torch.storage\nUntypedStorage";
      small.dtype = "int16";
      small.held = 12;
    }
    return tensor_fault(small);
  };
  for (const bool typed : {false, true}) {
    EXPECT_EQ(with("}" + pickled("neg") + "\x88s", typed),
              "f: a tensor has the negative bit: torch loads the negatives of what is stored");
    EXPECT_EQ(with("}" + pickled("conj") + "\x88s", typed),
              "f: a tensor has the conjugate bit: torch loads the conjugates of what is stored");
    EXPECT_EQ(with("}(" + pickled("neg") + "\x89" + pickled("later") + pickled("x") + "u", typed),
              "f: a tensor has the unknown metadata \"later\"");
    EXPECT_EQ(with(pickled("neg"), typed), "f: a tensor has metadata that is not a dict");
    EXPECT_EQ(with("NN", typed), typed ? "f: a tensor has 9 arguments, and at most 8 are known"
                                       : "f: a tensor has 8 arguments, and at most 7 are known");
    for (const std::string& nothing : {""s, "N"s, "}"s, "}" + pickled("neg") + "\x89s"}) {
      EXPECT_EQ(with(nothing, typed), "") << typed << nothing;
    }
  }
  SmallArchive given = SmallTensor{}.archive();
  given.records[0].data = "\x80\x02" + SmallTensor{}.pickle() + "}b.";
  EXPECT_EQ(tensor_fault(given), "f: a tensor is given another state");
}

TEST(TorchFile, TypesThatNoCheckpointHasAreRefused) {
  SmallTensor quantised;
  quantised.storage = "torch\nQInt8Storage";
  EXPECT_EQ(tensor_fault(quantised.archive(), Code::PickleGlobal),
            "f: the pickle names torch.QInt8Storage, which no checkpoint of weights needs");
  SmallTensor untyped;
  untyped.storage = "torch.storage\nUntypedStorage";
  EXPECT_NE(tensor_fault(untyped.archive(), Code::DtypeUnknown), "");
  SmallTensor typed;
  typed.dtype = "float16";
  EXPECT_NE(tensor_fault(typed.archive(), Code::DtypeUnknown), "");
}

TEST(TorchFile, AParameterIsItsTensor) {
  SmallTensor small;
  SmallArchive archive = small.archive();
  archive.records[0].data =
      "\x80\x02"
      "ctorch._utils\n_rebuild_parameter\n(" +
      small.pickle() +
      "\x88"
      "ccollections\nOrderedDict\n)RtR.";
  EXPECT_EQ(tensor_fault(archive), "");
}

TEST(TorchFile, ArchivesWithoutTheirPartsAreRefused) {
  SmallArchive no_pickle = SmallTensor{}.archive();
  no_pickle.records.erase(no_pickle.records.begin());
  EXPECT_EQ(tensor_fault(no_pickle), "f: the archive has no data.pkl");
  SmallArchive no_version = SmallTensor{}.archive();
  no_version.records.pop_back();
  EXPECT_EQ(tensor_fault(no_version), "f: the archive has no version");
  SmallArchive big = SmallTensor{}.archive();
  big.records[1].data = "big";
  EXPECT_EQ(tensor_fault(big), "f: its numbers are not little-endian");
  SmallArchive damaged = SmallTensor{}.archive();
  damaged.records[0].more_crc = 1;
  EXPECT_EQ(tensor_fault(damaged, Code::ZipInvalid), "f: the checksum of data.pkl is wrong");
  SmallArchive number = SmallTensor{}.archive();
  number.records[0].data = "\x80\x02K\x01.";
  EXPECT_EQ(tensor_fault(number), "f: a value is not a tensor");
}

}  // namespace
}  // namespace bv::pickle
