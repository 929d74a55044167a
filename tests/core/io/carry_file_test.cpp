#include "core/io/carry_file.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "core/io/mapped_file.hpp"
#include "core/io/writer.hpp"
#include "tests/core/io/scratch.hpp"

namespace bv::io {
namespace {

namespace fs = std::filesystem;
using support::file_text;
using testing::outcome;
using testing::ScratchFolder;

TEST(CarryFile, CopiesAndFingerprintsInPieces) {
  const ScratchFolder folder;
  for (const std::size_t size : {0U, 1U, 1U << 20U, (1U << 20U) + 1U, (5U << 20U) - 3U}) {
    std::string text(size, '\0');
    for (std::size_t i = 0; i < size; ++i) {
      text[i] = static_cast<char>(i * 31 % 251);
    }
    const fs::path from = folder.write("from", text);
    const auto copied = carry_file(from, folder.path() / "to");
    ASSERT_TRUE(copied) << copied.error().message;
    EXPECT_TRUE(file_text(folder.path() / "to") == text) << size;
    EXPECT_EQ(*copied, print_of_text(text));
    EXPECT_EQ(print_of_file(from).value(), *copied);
  }
}

TEST(CarryFile, FingerprintsRangesInThePassOfTheFile) {
  const ScratchFolder folder;
  std::string text((20U << 20U) + 5U, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<char>(i * 31 % 251);
  }
  const fs::path file = folder.write("file", text);
  // Side by side, apart, empty between others, longer than a piece, and at the end.
  const std::vector<FileRange> ranges = {{0, 0},
                                         {0, 9},
                                         {9, 9},
                                         {9, 300000},
                                         {300001, 300002},
                                         {1U << 20U, 9U << 20U},
                                         {9U << 20U, text.size()},
                                         {text.size(), text.size()}};
  const auto found = prints_of_file(file, ranges).value();
  EXPECT_EQ(found.whole, print_of_text(text));
  ASSERT_EQ(found.ranges.size(), ranges.size());
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    const auto own =
        std::string_view(text).substr(ranges[i].begin, ranges[i].end - ranges[i].begin);
    EXPECT_EQ(found.ranges[i], print_of_text(own).digest) << i;
  }
  EXPECT_EQ(prints_of_file(file, {}).value().whole, print_of_text(text));
  const fs::path empty = folder.write("empty", "");
  EXPECT_EQ(prints_of_file(empty, {}).value().whole, print_of_text(""));
  EXPECT_EQ(outcome(prints_of_file(folder.path() / "none", {})), "BV8007");
}

TEST(CarryFile, SaysWhatCannotBeCopied) {
  const ScratchFolder folder;
  EXPECT_EQ(outcome(carry_file(folder.path() / "none", folder.path() / "to")), "BV8007");
  EXPECT_EQ(outcome(carry_file(folder.path(), folder.path() / "to")), "BV8007");
  ASSERT_EQ(::mkfifo((folder.path() / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(outcome(carry_file(folder.path() / "pipe", folder.path() / "to")), "BV8007");
  EXPECT_FALSE(fs::exists(folder.path() / "to"));
}

/// Pages of the file that are in memory.
std::size_t cached_pages(const fs::path& path) {
  const auto file = open_regular(path).value();
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  void* const map =
      ::mmap(nullptr, file.stamp.size, PROT_READ, MAP_SHARED, file.descriptor.number(), 0);
  std::vector<unsigned char> there((file.stamp.size + page - 1) / page);
  EXPECT_EQ(::mincore(map, file.stamp.size, there.data()), 0);
  ::munmap(map, file.stamp.size);
  return static_cast<std::size_t>(
      std::count_if(there.begin(), there.end(), [](unsigned char one) { return (one & 1) != 0; }));
}

TEST(DropCached, MakesTheNextReadComeFromTheDevice) {
  const ScratchFolder folder;
  struct statfs system {};
  ASSERT_EQ(::statfs(folder.path().c_str(), &system), 0);
  if (system.f_type == TMPFS_MAGIC) {
    GTEST_SKIP() << "the folder for temporary files is in memory";
  }
  const fs::path path = folder.path() / "written";
  ASSERT_TRUE(write_file(path, std::string(std::size_t{4} << 20, 'x')));
  EXPECT_GT(cached_pages(path), 0U) << "nothing to drop: the test shows nothing";
  ASSERT_TRUE(drop_cached(path));
  EXPECT_EQ(cached_pages(path), 0U);
  EXPECT_EQ(outcome(drop_cached(folder.path() / "none")), "BV8007");
}

}  // namespace
}  // namespace bv::io
