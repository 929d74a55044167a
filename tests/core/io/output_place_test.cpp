// Where an output may appear, and what may go for it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/core/io/output_requests.hpp"

namespace bv::io {
namespace {

namespace fs = std::filesystem;
using testing::marker;
using testing::outcome;
using testing::placed;
using testing::request;
using testing::ScratchFolder;
using testing::shown;

TEST(OutputPlace, IsRefusedBeforeTheFirstByteWhenNoFolderCanAppearThere) {
  const ScratchFolder folder;
  folder.write("file", "x");
  folder.write("full/b", "2");
  folder.write("earlier/a", "1");
  fs::create_directories(folder.path() / "empty");
  fs::create_directory_symlink("empty", folder.path() / "link");
  fs::create_directory_symlink("nowhere", folder.path() / "dangling");
  fs::create_directory_symlink("loop", folder.path() / "loop");
  ASSERT_EQ(::mkfifo((folder.path() / "pipe").c_str(), 0600), 0);
  const auto at = [&](const std::string& name, bool overwrite = false) {
    return placed(folder, request(folder.path() / name, overwrite));
  };
  EXPECT_EQ(at("new"), "accepted");
  EXPECT_EQ(at("new/deep/below"), "accepted");
  EXPECT_EQ(at("empty"), "accepted");
  EXPECT_EQ(at("empty/"), "accepted");
  EXPECT_EQ(at("file"), "BV8006");
  EXPECT_EQ(at("pipe"), "BV8006");
  EXPECT_EQ(at("file/below"), "BV8010");
  EXPECT_EQ(at("file/far/below"), "BV8010");
  EXPECT_EQ(at("link"), "BV8010");
  EXPECT_EQ(at("link/"), "BV8010");
  EXPECT_EQ(at("dangling"), "BV8010");
  EXPECT_EQ(at("dangling/below"), "BV8010");
  EXPECT_EQ(at("loop/below"), "BV8010");
  EXPECT_EQ(at("full"), "BV8006");
  EXPECT_EQ(at("full", true), "BV8011");
  EXPECT_EQ(at("earlier"), "BV8006");
  EXPECT_EQ(at("earlier", true), "accepted");
  EXPECT_EQ(placed(folder, request("/")), "BV8010");
  EXPECT_EQ(placed(folder, request("/proc/new")), "BV8010");
}

TEST(OutputPlace, IsOutsideOfWhatIsReadAndHoldsNothingOfIt) {
  const ScratchFolder folder;
  folder.write("p/model/weights", "w");
  folder.write("blobs/1", "w");
  fs::create_directories(folder.path() / "snapshot");
  fs::create_symlink("../blobs/1", folder.path() / "snapshot/weights");
  folder.write("o.bv-partial/weights", "w");
  folder.write("q.bv-replaced/weights", "w");
  const auto with = [&](const std::string& out, const std::string& source) {
    OutputRequest wanted = request(folder.path() / out, true);
    wanted.sources = {folder.path() / source};
    return placed(folder, wanted);
  };
  EXPECT_EQ(with("p", "p/model"), "BV8010");
  EXPECT_EQ(with("p", "p/model/weights"), "BV8010");
  EXPECT_EQ(with("p/model", "p/model"), "BV8010");
  EXPECT_EQ(with("p/model/../model/new", "p/model"), "BV8010");
  EXPECT_EQ(with("p/model/new", "p/model"), "BV8010");
  EXPECT_EQ(with("blobs", "snapshot/weights"), "BV8010");
  EXPECT_EQ(with("o", "o.bv-partial"), "BV8010");
  EXPECT_EQ(with("q", "q.bv-replaced"), "BV8010");
  EXPECT_EQ(with("p/other", "p/model"), "accepted");
  EXPECT_EQ(with("p/model2", "p/model"), "accepted");
}

TEST(OutputPlace, NamesTheFirstFileThatNoRunWrote) {
  const ScratchFolder folder;
  folder.write("m/a", "1");
  folder.write("m/thesis.txt", "mine");
  const auto mine = check_output_place(request(folder.path() / "m", true));
  ASSERT_FALSE(mine);
  EXPECT_THAT(shown(mine.error()), ::testing::HasSubstr("m/thesis.txt"));
  folder.write("changed/a", "2");
  EXPECT_EQ(placed(folder, request(folder.path() / "changed", true)), "BV8011");
  folder.write("sub/a", "1");
  folder.write("sub/below/b", "1");
  EXPECT_EQ(placed(folder, request(folder.path() / "sub", true)), "BV8011");
  fs::create_directories(folder.path() / "l");
  fs::create_symlink("../m/a", folder.path() / "l/a");
  EXPECT_EQ(placed(folder, request(folder.path() / "l", true)), "BV8011");
  OutputRequest nobody{folder.path() / "m", true};
  EXPECT_EQ(placed(folder, nobody), "BV8011");
}

TEST(OutputPlace, KnowsAFileByItsStartWhereNoFingerprintIsGiven) {
  const ScratchFolder folder;
  folder.write("m/a", "header and bytes");
  const auto known = [](const std::string& start, std::uint64_t size) {
    return all_but({{"a", {size, start, ""}}});
  };
  EXPECT_EQ(known("header", 16)(folder.path() / "m"), std::nullopt);
  EXPECT_EQ(known("headex", 16)(folder.path() / "m"), "a");
  EXPECT_EQ(known("header", 15)(folder.path() / "m"), "a");
}

TEST(OutputPlace, LeavesAStrangersWorkingFolderAlone) {
  const ScratchFolder folder;
  folder.write("o.bv-partial/precious", "x");
  folder.write("user/precious", "x");
  fs::create_directory_symlink("user", folder.path() / "l.bv-partial");
  folder.write("f.bv-partial", "x");
  folder.write("r.bv-replaced/precious", "x");
  fs::create_directory_symlink("user", folder.path() / "s.bv-replaced");
  for (const char* out : {"o", "l", "f", "r", "s"}) {
    EXPECT_EQ(placed(folder, request(folder.path() / out)), "BV8011") << out;
    EXPECT_EQ(placed(folder, request(folder.path() / out, true)), "BV8011") << out;
    EXPECT_EQ(placed(folder, request(folder.path() / out, false, true)), "BV8011") << out;
  }
}

TEST(OutputPlace, SaysThatAnInterruptedRunIsThere) {
  const ScratchFolder folder;
  folder.write("m.bv-partial/.bv-run", marker({"a"}));
  folder.write("m.bv-partial/a", "1");
  EXPECT_EQ(placed(folder, request(folder.path() / "m")), "BV8006");
  EXPECT_EQ(placed(folder, request(folder.path() / "m", true)), "accepted");
  EXPECT_EQ(placed(folder, request(folder.path() / "m", false, true)), "accepted");
}

TEST(OutputPlace, BelongsToTheUser) {
  if (::geteuid() != 0) {
    GTEST_SKIP() << "only root can give a folder to somebody else";
  }
  const ScratchFolder folder;
  folder.write("m.bv-partial/.bv-run", "");
  ASSERT_EQ(::chown((folder.path() / "m.bv-partial").c_str(), 12345, 12345), 0);
  EXPECT_EQ(placed(folder, request(folder.path() / "m", false, true)), "BV8011");
}

/// Runs `body` in a process with a mount name space and a user of its own; 77 when this machine
/// has none.
int in_name_space(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    const int flags = CLONE_NEWNS | (::geteuid() == 0 ? 0 : CLONE_NEWUSER);
    if (::unshare(flags) != 0 ||
        ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
      ::_exit(77);
    }
    ::_exit(body());
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

TEST(OutputPlace, IsNoMountPoint) {
  const ScratchFolder folder;
  fs::create_directories(folder.path() / "volume");
  fs::create_directories(folder.path() / "bound");
  fs::create_directories(folder.path() / "there");
  const int code = in_name_space([&] {
    const fs::path volume = folder.path() / "volume";
    const fs::path bound = folder.path() / "bound";
    if (::mount("tmpfs", volume.c_str(), "tmpfs", 0, "size=1m") != 0 ||
        ::mount((folder.path() / "there").c_str(), bound.c_str(), nullptr, MS_BIND, nullptr) != 0) {
      return 77;
    }
    const bool right = outcome(check_output_place(request(volume))) == "BV8010" &&
                       outcome(check_output_place(request(bound))) == "BV8010" &&
                       outcome(check_output_place(request(volume / "new"))) == "accepted";
    return right ? 0 : 1;
  });
  if (code == 77) {
    GTEST_SKIP() << "this machine gives a process no mounts of its own";
  }
  EXPECT_EQ(code, 0);
}

TEST(OutputPlace, HasAWritableParent) {
  if (::geteuid() == 0) {
    GTEST_SKIP() << "root may write everywhere";
  }
  const ScratchFolder folder;
  fs::create_directories(folder.path() / "closed");
  ::chmod((folder.path() / "closed").c_str(), 0555);
  EXPECT_EQ(placed(folder, request(folder.path() / "closed/new")), "BV8005");
}

}  // namespace
}  // namespace bv::io
