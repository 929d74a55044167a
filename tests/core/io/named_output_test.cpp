// A file that the user named is never turned into another kind of file.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <future>

#include "core/io/headers_dump.hpp"
#include "core/io/named_output.hpp"
#include "core/io/writer.hpp"
#include "tests/core/io/scratch.hpp"

namespace bv::io {
namespace {

namespace fs = std::filesystem;
using support::file_text;
using ::testing::HasSubstr;
using testing::ScratchFolder;

TEST(NamedOutput, AFileIsWrittenAndReplaced) {
  const ScratchFolder folder;
  const fs::path file = folder.path() / "a.json";
  ASSERT_TRUE(write_named(file, "first text"));
  ASSERT_TRUE(write_named(file, "second"));
  EXPECT_EQ(file_text(file), "second");
}

TEST(NamedOutputs, AreAllThereOrNone) {
  const ScratchFolder folder;
  const fs::path a = folder.path() / "a";
  const fs::path b = folder.path() / "b";
  ASSERT_TRUE(write_named(a, "old"));
  {
    NamedOutputs lost;
    ASSERT_TRUE(lost.add(a, "new"));
    EXPECT_FALSE(lost.add(folder.path() / "absent/b", "new"));
  }
  EXPECT_EQ(file_text(a), "old");
  NamedOutputs whole;
  ASSERT_TRUE(whole.add(a, "new"));
  ASSERT_TRUE(whole.add(b, "also"));
  EXPECT_EQ(file_text(a), "old");
  EXPECT_FALSE(fs::exists(b));
  ASSERT_TRUE(whole.commit());
  EXPECT_EQ(file_text(a) + file_text(b), "newalso");
  EXPECT_EQ(support::files_below(folder.path()).size(), 2U);  // no temporary names
}

/// A name is taken by a folder between the two steps.
TEST(NamedOutputs, OneThatGetsNoNameTakesTheOthersAway) {
  const ScratchFolder folder;
  NamedOutputs outputs;
  ASSERT_TRUE(outputs.add(folder.path() / "a", "new"));
  ASSERT_TRUE(outputs.add(folder.path() / "b", "also"));
  fs::create_directories(folder.path() / "b/c");
  EXPECT_FALSE(outputs.commit());
  EXPECT_FALSE(fs::exists(folder.path() / "a"));
}

TEST(NamedOutput, ALinkStaysALinkAndItsTargetGetsTheText) {
  const ScratchFolder folder;
  fs::create_directory(folder.path() / "other");
  ASSERT_TRUE(write_file(folder.path() / "other/real", "old"));
  fs::create_symlink("other/real", folder.path() / "near");
  fs::create_symlink(folder.path() / "near", folder.path() / "far");
  ASSERT_TRUE(write_named(folder.path() / "far", "new"));
  EXPECT_TRUE(fs::is_symlink(folder.path() / "far"));
  EXPECT_TRUE(fs::is_symlink(folder.path() / "near"));
  EXPECT_EQ(file_text(folder.path() / "other/real"), "new");
  fs::create_symlink("other/later", folder.path() / "dangling");
  ASSERT_TRUE(write_named(folder.path() / "dangling", "made"));
  EXPECT_TRUE(fs::is_symlink(folder.path() / "dangling"));
  EXPECT_EQ(file_text(folder.path() / "other/later"), "made");
}

TEST(NamedOutput, APipeGetsTheBytesAndStaysAPipe) {
  const ScratchFolder folder;
  const fs::path pipe = folder.path() / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const std::string text(std::size_t{1} << 20, 'x');  // more than a pipe holds
  auto reader = std::async(std::launch::async, [&] { return file_text(pipe); });
  const auto done = write_named(pipe, text);
  EXPECT_TRUE(done) << done.error().message;
  EXPECT_EQ(reader.get(), text);
  EXPECT_TRUE(fs::is_fifo(pipe));
}

TEST(NamedOutput, APipeThatNobodyReadsIsAnError) {
  const ScratchFolder folder;
  const fs::path pipe = folder.path() / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const auto done = write_named(pipe, "x");
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Code::CannotWrite);
  EXPECT_THAT(done.error().message, HasSubstr("nobody reads the pipe"));
  EXPECT_TRUE(fs::is_fifo(pipe));
}

/// A terminal of this test's own is a character device.
TEST(NamedOutput, ADeviceGetsTheBytesAndStaysADevice) {
  const ScratchFolder folder;
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  ASSERT_GE(terminal, 0);
  ASSERT_EQ(::grantpt(terminal), 0);
  ASSERT_EQ(::unlockpt(terminal), 0);
  const fs::path link = folder.path() / "link";
  fs::create_symlink(::ptsname(terminal), link);
  const int keeps = ::open(link.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC);  // what is written stays
  const auto done = write_named(link, "text");
  EXPECT_TRUE(done) << done.error().message;
  EXPECT_TRUE(fs::is_character_file(link));
  EXPECT_TRUE(fs::is_symlink(link));
  std::array<char, 16> got{};
  EXPECT_EQ(::read(terminal, got.data(), got.size()), 4);
  EXPECT_EQ(std::string(got.data()), "text");
  ::close(keeps);
  ::close(terminal);
}

TEST(NamedOutput, ASocketAndAFolderAreRefused) {
  const ScratchFolder folder;
  const fs::path name = folder.path() / "socket";
  const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  ASSERT_LT(name.string().size(), sizeof at.sun_path);
  name.string().copy(at.sun_path, sizeof at.sun_path - 1);
  ASSERT_EQ(::bind(socket, reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
  for (const fs::path& path : {name, folder.path()}) {
    const auto done = write_named(path, "x");
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, Code::CannotWrite);
  }
  EXPECT_TRUE(fs::is_socket(name));
  ::close(socket);
}

TEST(NamedOutput, ADumpOfHeadersIsANamedFileToo) {
  const ScratchFolder folder;
  ASSERT_TRUE(write_file(folder.path() / "real.json", "old"));
  fs::create_symlink("real.json", folder.path() / "link.json");
  HeadersDump dump;
  dump.config = "{}";
  ASSERT_TRUE(write_headers_dump(folder.path() / "link.json", dump));
  EXPECT_TRUE(fs::is_symlink(folder.path() / "link.json"));
  EXPECT_THAT(file_text(folder.path() / "real.json"), HasSubstr("tensors"));
}

}  // namespace
}  // namespace bv::io
