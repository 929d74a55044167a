#include "core/convert/open_output.hpp"

#include <gtest/gtest.h>

#include <random>

#include "core/io/carry_file.hpp"
#include "tests/support/files.hpp"

namespace bv::convert {
namespace {

namespace fs = std::filesystem;
using Print = OpenOutput::Print;
using Writers = OpenOutput::Writers;

std::vector<std::byte> numbered(std::size_t size) {
  std::vector<std::byte> out(size);
  for (std::size_t i = 0; i < size; ++i) {
    out[i] = static_cast<std::byte>(i * 31 % 251);
  }
  return out;
}

struct Part {
  std::size_t begin = 0;
  std::size_t end = 0;
};

/// Parts of [0, size) in order: many of them small, some larger than several pieces.
std::vector<Part> parts_of(std::size_t size, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<Part> out;
  for (std::size_t at = 0; at < size;) {
    const std::size_t most = random() % 4 == 0 ? 300000 : 9000;
    const std::size_t end = std::min(size, at + random() % most);
    out.push_back({at, end});
    at = end;
  }
  return out;
}

void write(OpenOutput& file, std::span<const std::byte> bytes, std::span<const Part> parts) {
  for (const Part& part : parts) {
    ASSERT_TRUE(file.write_at(part.begin, bytes.subspan(part.begin, part.end - part.begin)));
  }
}

void expect_bytes(const fs::path& path, std::span<const std::byte> bytes) {
  const std::string text = support::file_text(path);
  ASSERT_EQ(text.size(), bytes.size());
  EXPECT_EQ(std::memcmp(text.data(), bytes.data(), bytes.size()), 0);
}

TEST(OpenOutput, WritesPartsOfEverySizeInOrder) {
  const support::TempFolder temp;
  for (std::uint32_t seed = 0; seed < 12; ++seed) {
    const auto bytes = numbered(200000 + seed * 65536 + (seed % 3) * 7);
    const fs::path path = temp.path() / std::to_string(seed);
    auto file = OpenOutput::create(path, bytes.size(), Writers::One, Print::Whole).value();
    write(file, bytes, parts_of(bytes.size(), seed));
    ASSERT_TRUE(file.commit());
    expect_bytes(path, bytes);
    EXPECT_EQ(file.print(), io::print_of_file(path).value().digest);
  }
}

TEST(OpenOutput, WritesPartsInAnyOrderAndHasNoFingerprintThen) {
  const support::TempFolder temp;
  for (const Writers writers : {Writers::One, Writers::Several}) {
    const auto bytes = numbered(700001);
    auto parts = parts_of(bytes.size(), 5);
    std::shuffle(parts.begin(), parts.end(), std::mt19937(9));
    const fs::path path = temp.path() / (writers == Writers::One ? "one" : "several");
    auto file = OpenOutput::create(path, bytes.size(), writers, Print::Whole).value();
    write(file, bytes, parts);
    ASSERT_TRUE(file.commit());
    expect_bytes(path, bytes);
    EXPECT_FALSE(file.print());
  }
}

TEST(OpenOutput, HasNoFingerprintOfAFileThatWasNotWrittenToItsEnd) {
  const support::TempFolder temp;
  const auto bytes = numbered(70000);
  auto file = OpenOutput::create(temp.path() / "half", 2 * bytes.size(), Writers::One, Print::Whole)
                  .value();
  ASSERT_TRUE(file.write_at(0, bytes));
  ASSERT_TRUE(file.commit());
  EXPECT_FALSE(file.print());
}

}  // namespace
}  // namespace bv::convert
