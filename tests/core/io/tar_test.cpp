#include "core/io/tar.hpp"

#include <gtest/gtest.h>

#include "core/io/sha256.hpp"

namespace bv::io {
namespace {

TEST(Sha256, EqualsTheVectorsOfTheStandard) {
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  const std::string text(1000, 'a');
  for (const std::size_t cut : {0U, 1U, 55U, 56U, 63U, 64U, 65U, 128U, 999U}) {
    Sha256 sum;  // piece by piece
    sum.add(std::as_bytes(std::span(text).first(cut)));
    sum.add(std::as_bytes(std::span(text).subspan(cut)));
    EXPECT_EQ(sum.digits(), "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3");
  }
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  for (std::size_t n = 50; n < 70; ++n) {  // around the end of a block
    EXPECT_NE(sha256(std::string(n, 'x')), sha256(std::string(n + 1, 'x')));
  }
}

TEST(Tar, GivesBackWhatItTookAndIsTheSameEachTime) {
  const std::map<std::string, std::string> files = {{"a.json", "{}"},
                                                    {"empty", ""},
                                                    {"full", std::string(512, 'x')},
                                                    {"long", std::string(5000, '\0')}};
  const std::string bytes = tar(files);
  EXPECT_EQ(bytes, tar(files));
  EXPECT_EQ(bytes.size() % 512, 0U);
  const auto back = untar(bytes, "t");
  ASSERT_TRUE(back.has_value()) << back.error().message;
  EXPECT_EQ(*back, files);
  EXPECT_TRUE(untar(tar({}), "t")->empty());
}

TEST(Tar, EveryCutAndEveryChangedHeaderByteIsRefused) {
  const std::string bytes = tar({{"a", "hello"}, {"b", std::string(600, 'x')}});
  for (std::size_t n = 0; n < bytes.size(); n += 37) {
    const auto cut = untar(std::string_view(bytes).substr(0, n), "t");
    ASSERT_FALSE(cut.has_value()) << n;
    EXPECT_EQ(cut.error().code, Code::ContentsChanged);
  }
  for (std::size_t at = 0; at < 512; ++at) {
    std::string changed = bytes;
    changed[at] = static_cast<char>(changed[at] ^ 0x11);
    EXPECT_FALSE(untar(changed, "t").has_value()) << at;
  }
  EXPECT_FALSE(untar(bytes + std::string(512, '\0'), "t").has_value());
  EXPECT_FALSE(untar(bytes.substr(0, 1024) + bytes, "t").has_value());  // "a" twice
}

}  // namespace
}  // namespace bv::io
