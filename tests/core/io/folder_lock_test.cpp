// Room on the disk, and the lock of a working folder.

#include <gtest/gtest.h>

#include "core/io/output_folder.hpp"
#include "core/io/writer.hpp"
#include "tests/core/io/scratch.hpp"

namespace bv::io {
namespace {

using testing::outcome;
using testing::ScratchFolder;

TEST(RoomFor, IsAskedOfTheDisk) {
  const ScratchFolder folder;
  EXPECT_TRUE(check_room_for(folder.path(), 1));
  const auto full = check_room_for(folder.path(), std::uint64_t{1} << 62);
  ASSERT_FALSE(full);
  EXPECT_EQ(label(full.error().code), "BV8001");
}

TEST(FolderLock, HasOneHolder) {
  const ScratchFolder folder;
  {
    const auto first = FolderLock::take(folder.path());
    ASSERT_TRUE(first);
    EXPECT_EQ(outcome(FolderLock::take(folder.path())), "BV8008");
  }
  EXPECT_EQ(outcome(FolderLock::take(folder.path())), "accepted");
}

}  // namespace
}  // namespace bv::io
