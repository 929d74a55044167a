#include "core/pickle/pickle.hpp"

#include <gtest/gtest.h>

#include <deque>
#include <fstream>
#include <iterator>
#include <random>

#include "core/pickle/tensors.hpp"
#include "tests/core/pickle/small_archive.hpp"

namespace bv::pickle {
namespace {

using std::string_literals::operator""s;

constexpr Allowed kKnown[] = {{"collections", "OrderedDict"}, {"torch", "Size"}, {"m.enums", "*"}};

/// The pickle views its bytes, so they are kept.
Result<Pickle> read(const std::string& operations) {
  static std::deque<std::string> kept;
  kept.push_back(operations);
  return Pickle::read(as_span(kept.back()), kKnown, "f");
}

/// What stands behind "the pickle cannot be read: " of a refused pickle.
std::string fault(const std::string& operations) {
  const auto found = read(operations);
  if (found) {
    return "";
  }
  EXPECT_EQ(found.error().code, Code::PickleInvalid) << found.error().message;
  constexpr std::string_view kHead = "f: the pickle cannot be read: ";
  EXPECT_TRUE(found.error().message.starts_with(kHead)) << found.error().message;
  return found.error().message.substr(kHead.size());
}

std::int64_t number(const std::string& operations) {
  const auto found = read(operations);
  EXPECT_TRUE(found.has_value()) << found.error().message;
  return found->number(found->root()).value_or(-77);
}

TEST(Pickle, ReadsNumbers) {
  EXPECT_EQ(number("\x80\x04K\xff."s), 255);
  EXPECT_EQ(number("\x80\x02M\x01\x02."s), 0x0201);
  EXPECT_EQ(number("J\xfe\xff\xff\xff."s), -2);
  EXPECT_EQ(number("\x8a\x00."s), 0);
  EXPECT_EQ(number("\x8a\x01\xff."s), -1);
  EXPECT_EQ(number("\x8a\x05\x00\x00\x00\x00\x01."s), std::int64_t{1} << 32);
  EXPECT_EQ(number("\x8b\x02\x00\x00\x00\x00\x80."s), -32768);
  EXPECT_EQ(number("\x88."s), 1);
  const auto real = read("G\x3f\xf8\x00\x00\x00\x00\x00\x00."s);
  ASSERT_TRUE(real.has_value());
  EXPECT_EQ(real->real(real->root()), 1.5);
}

TEST(Pickle, ReadsContainersThatGrowAfterTheyWereStored) {
  // d = {}; d["a"] = [1, 2]; d["b"] = (d["a"], None)
  const auto found = read("\x80\x02}q\x00(X\x01\x00\x00\x00"s + "a]q\x01(K\x01K\x02" +
                          "eX\x01\x00\x00\x00"s + "bh\x01N\x86u."s);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  const auto a = found->get(found->root(), "a");
  const auto b = found->get(found->root(), "b");
  ASSERT_TRUE(a && b);
  EXPECT_EQ(found->numbers(*a), (std::vector<std::int64_t>{1, 2}));
  ASSERT_EQ(found->items(*b).size(), 2U);
  EXPECT_EQ(found->items(*b)[0], *a);
  EXPECT_EQ(found->kind(found->items(*b)[1]), Kind::None);
  EXPECT_EQ(found->get(found->root(), "c"), std::nullopt);
}

TEST(Pickle, ACallIsARecordOfWhatWouldBeCalled) {
  const auto size = read("ctorch\nSize\nK\x02K\x03\x86\x85R."s);
  ASSERT_TRUE(size.has_value()) << size.error().message;
  EXPECT_EQ(size->kind(size->root()), Kind::Object);
  EXPECT_EQ(size->callee(size->root()), "torch.Size");
  EXPECT_EQ(size->numbers(size->root()), (std::vector<std::int64_t>{2, 3}));
  const auto dict = read("\x8c\x0b"s + "collections\x8c\x0b"s + "OrderedDict\x93)R"s +
                         "\x8c\x01kK\x07s}\x8c\x01xK\x08sb."s);
  ASSERT_TRUE(dict.has_value()) << dict.error().message;
  EXPECT_EQ(dict->number(*dict->attribute(dict->root(), "k")), 7);
  EXPECT_EQ(dict->number(*dict->attribute(dict->root(), "x")), 8);
}

TEST(Pickle, AGlobalThatIsNotOnTheListIsRefusedByName) {
  for (const std::string& text :
       {"cos\nsystem\n(X\x02\x00\x00\x00lstR."s, "\x8c\x02os\x8c\x06system\x93."s,
        "cbuiltins\neval\n."s, "ccollections\nOrderedDic\n."s, "cm.enums2\nA\n."s}) {
    const auto found = read(text);
    ASSERT_FALSE(found.has_value());
    EXPECT_EQ(found.error().code, Code::PickleGlobal);
  }
  EXPECT_EQ(read("cos\nsystem\n."s).error().message,
            "f: the pickle names os.system, which no checkpoint of weights needs");
  EXPECT_EQ(read("cm.enums\nA\n."s).has_value(), true);
  EXPECT_EQ(read("cos\x1b[2J\nx\n."s).error().message.find('\x1b'), std::string::npos);
}

TEST(Pickle, WhatNoCheckpointNeedsIsRefused) {
  EXPECT_EQ(fault("\x80\x01."s), "protocol 1 is not read");
  EXPECT_EQ(fault("\x80\x06."s), "protocol 6 is not read");
  for (const char op : "iopIFLSV\x82\x83\x84\x97\x98gld"s) {
    EXPECT_EQ(fault(std::string(1, op)).substr(0, 9), "operation") << op;
  }
  EXPECT_EQ(fault("K\x01K\x02R."s), "it calls a value that is not a global, or with no arguments");
  EXPECT_EQ(fault("ctorch\nSize\nK\x02R."s),
            "it calls a value that is not a global, or with no arguments");
  EXPECT_EQ(fault("K\x01}b."s), "it gives a state to a value that is not an object");
  EXPECT_EQ(fault("ctorch\nSize\n)}K\x01K\x02s\x92."s), "it makes an object with named arguments");
  EXPECT_EQ(fault("K\x01K\x02\x93."s), "it names a global by a value that is not text");
}

TEST(Pickle, WhatIsMissingIsRefused) {
  EXPECT_EQ(fault(""), "it is cut");
  EXPECT_EQ(fault("N"), "it is cut");
  EXPECT_EQ(fault("."), "it ends with values left over");
  EXPECT_EQ(fault("NN."), "it ends with values left over");
  EXPECT_EQ(fault("N(."), "it ends with values left over");
  EXPECT_EQ(fault("0."), "it takes a value that is not there");
  EXPECT_EQ(fault("N(0."), "it takes a value that is not there");
  EXPECT_EQ(fault("t."), "it takes values up to a mark that is not there");
  EXPECT_EQ(fault("h\x05."s), "it takes memo 5, which it never stored");
  EXPECT_EQ(fault("j\xff\xff\xff\xff."s), "it takes memo 4294967295, which it never stored");
  EXPECT_EQ(fault("NK\x01"s + "a."s), "it adds to a value that holds nothing");
  EXPECT_EQ(fault("}(K\x01u."s), "a key has no value");
}

TEST(Pickle, SizesAreHeldAgainstWhatIsThere) {
  EXPECT_EQ(fault("X\xff\xff\xff\x02x."s), "it is cut");
  EXPECT_EQ(fault("X\xff\xff\xff\xffx."s), "it holds a text of 4294967295 bytes");
  EXPECT_EQ(fault("\x8d\xff\xff\xff\xff\xff\xff\xff\x7fx."s),
            "it holds a text of 9223372036854775807 bytes");
  EXPECT_EQ(fault("\x8e\xff\xff\xff\xff\xff\xff\xff\xffx."s),
            "it holds a text of 18446744073709551615 bytes");
  EXPECT_EQ(fault("\x95\xff\xff\xff\xff\xff\xff\xff\x7fN."s), "it is cut");
  EXPECT_EQ(fault("\x8b\xff\xff\xff\x7fN."s), "it holds a number of 2147483647 bytes");
  EXPECT_EQ(fault("\x8a\x09"s + std::string(9, 'x') + "."), "it holds a number of 9 bytes");
  EXPECT_EQ(fault("c" + std::string(100000, 'x')), "it is cut");
}

/// Depth, sharing and cycles cost what they take in the file.
TEST(Pickle, NestingSharingAndCyclesAreTaken) {
  EXPECT_EQ(fault(std::string(1'000'000, '(')), "it is cut");
  std::string nested(200'000, ']');
  nested += std::string(199'999, 'a') + ".";
  EXPECT_TRUE(read(nested).has_value());
  std::string laughs = "]";  // each list holds the one before twice
  for (int i = 0; i < 200; ++i) {
    laughs += "2\x86"s;
  }
  EXPECT_TRUE(read(laughs + ".").has_value());
  const auto itself = read("]q\x00h\x00"s + "a."s);
  ASSERT_TRUE(itself.has_value());
  EXPECT_EQ(itself->items(itself->root())[0], itself->root());
  EXPECT_EQ(itself->numbers(itself->root()), std::nullopt);
  // torch.Size of itself
  const auto size = read("]q\x00"s + "ctorch\nSize\nh\x00\x85Ra0h\x00."s);
  if (size) {
    EXPECT_EQ(size->numbers(size->root()), std::nullopt);
  }
}

TEST(Pickle, ValuesAreLimited) {
  const std::string many(1000, 'N');
  Limits few;
  few.values = 999;
  const auto found = Pickle::read(as_span(many), kKnown, "f", few);
  ASSERT_FALSE(found.has_value());
  EXPECT_EQ(found.error().message, "f: the pickle cannot be read: it holds more than 999 values");
}

/// A memo of indices far apart is no list of that length.
TEST(Pickle, AMemoMayHaveHoles) {
  EXPECT_EQ(number("K\x07r\xff\xff\xff\xff"s + "0j\xff\xff\xff\xff."s), 7);
}

std::string golden_metadata() {
  std::ifstream in(
      std::string(BV_ROOT) + "/fixtures/golden/torch_dist/qwen3/iter_0000000/.metadata",
      std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

constexpr Allowed kEverything[] = {{"torch", "*"},
                                   {"torch.serialization", "*"},
                                   {"torch.distributed.checkpoint.metadata", "*"},
                                   {"torch.distributed.checkpoint.filesystem", "*"},
                                   {"torch.distributed.checkpoint.planner", "*"},
                                   {"pathlib", "*"}};

TEST(Pickle, ReadsRealMetadataAndNoPartOfIt) {
  const std::string whole = golden_metadata();
  ASSERT_GT(whole.size(), 20000U);
  ASSERT_TRUE(Pickle::read(as_span(whole), kEverything, "f").has_value());
  for (std::size_t size = 0; size < whole.size(); size += 397) {
    ASSERT_FALSE(Pickle::read(as_span(whole).first(size), kEverything, "f").has_value()) << size;
  }
}

TEST(Pickle, RealMetadataMayBeDamagedAnywhere) {
  const std::string whole = golden_metadata();
  std::mt19937_64 random(11);
  for (int round = 0; round < 100; ++round) {
    std::string damaged = whole;
    for (int i = 0; i < 3; ++i) {
      damaged[random() % damaged.size()] = static_cast<char>(random());
    }
    const auto found = Pickle::read(as_span(damaged), kEverything, "f");
    static_cast<void>(found);  // an error, or values
  }
}

}  // namespace
}  // namespace bv::pickle
