// Where an output may appear, what may go for it, and two runs that want one place.

#include "core/io/output_folder.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/io/carry_file.hpp"
#include "core/io/writer.hpp"
#include "tests/core/io/scratch.hpp"

namespace bv::io {
namespace {

namespace fs = std::filesystem;
using support::file_text;
using testing::outcome;
using testing::ScratchFolder;
using testing::shown;

/// Every file below a folder with its text.
std::map<std::string, std::string> tree(const fs::path& folder) {
  std::map<std::string, std::string> out;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_symlink() || !entry.is_directory()) {
      std::string& text = out[entry.path().lexically_relative(folder).string()];
      text = entry.is_symlink()        ? "-> " + fs::read_symlink(entry.path()).string()
             : entry.is_regular_file() ? file_text(entry.path())
                                       : "special";
    }
  }
  return out;
}

/// An earlier output holds "a" with the text "1".
FirstStranger earlier_output() {
  const FilePrint print = print_of_text("1");
  return all_but({{"a", {print.bytes, "", print.digest}}});
}

OutputRequest request(const fs::path& out, bool overwrite = false, bool resume = false) {
  OutputRequest made{out, overwrite, resume};
  made.files = {"a", "b", "new", "sub/b"};
  made.first_stranger = earlier_output();
  return made;
}

/// What the marker of a run says that wrote these.
std::string marker(const std::vector<std::string>& files) {
  std::string out;
  for (const std::string& file : files) {
    out += file + std::string(1, '\0');
  }
  return out;
}

/// "accepted", or the code of the refusal; a refusal leaves the folder as it was.
std::string placed(const ScratchFolder& folder, const OutputRequest& wanted) {
  const auto before = tree(folder.path());
  const Status checked = check_output_place(wanted);
  const std::string before_first_byte = outcome(checked);
  if (checked) {
    return before_first_byte;
  }
  EXPECT_FALSE(checked.error().help.empty());
  EXPECT_EQ(outcome(OutputFolder::create(wanted)), before_first_byte);
  EXPECT_EQ(tree(folder.path()), before);
  return before_first_byte;
}

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

TEST(OutputFolder, AppearsWhole) {
  const ScratchFolder folder;
  const fs::path out = folder.path() / "deep/m";
  {
    auto made = OutputFolder::create(request(out));
    ASSERT_TRUE(made) << made.error().message;
    ASSERT_TRUE(write_file(made->partial() / "a", "1"));
    fs::create_directories(made->partial() / "sub");
    ASSERT_TRUE(write_file(made->partial() / "sub/b", "2"));
    EXPECT_FALSE(fs::exists(out));
    const auto done = made->finish({"a", "sub/b"});
    ASSERT_TRUE(done) << done.error().message;
  }
  EXPECT_EQ(tree(folder.path()),
            (std::map<std::string, std::string>{{"deep/m/a", "1"}, {"deep/m/sub/b", "2"}}));
}

TEST(OutputFolder, CountsItsFilesBeforeItTakesItsName) {
  const ScratchFolder folder;
  for (const bool missing : {true, false}) {
    auto made = OutputFolder::create(request(folder.path() / "m", true));
    ASSERT_TRUE(made);
    ASSERT_TRUE(write_file(made->partial() / "a", "1"));
    const std::set<std::string> wanted =
        missing ? std::set<std::string>{"a", "b"} : std::set<std::string>{};
    const auto done = made->finish(wanted);
    ASSERT_FALSE(done);
    EXPECT_EQ(label(done.error().code), "BV3006");
    EXPECT_THAT(done.error().message,
                ::testing::HasSubstr(missing ? "m.bv-partial/b" : "m.bv-partial/a"));
    EXPECT_FALSE(fs::exists(folder.path() / "m"));
  }
  EXPECT_TRUE(fs::exists(folder.path() / "m.bv-partial/a"));
}

TEST(OutputFolder, TakesThePlaceOfAnEarlierOutputAndOfNothingElse) {
  const ScratchFolder folder;
  folder.write("m/a", "1");
  folder.write("m.bv-replaced/.bv-run",
               marker({"half"}));  // of a run that was killed while it deleted
  folder.write("m.bv-replaced/half", "?");
  {
    auto made = OutputFolder::create(request(folder.path() / "m", true));
    ASSERT_TRUE(made) << made.error().message;
    ASSERT_TRUE(write_file(made->partial() / "new", "n"));
    const auto done = made->finish({"new"});
    ASSERT_TRUE(done) << done.error().message;
  }
  EXPECT_EQ(tree(folder.path()), (std::map<std::string, std::string>{{"m/new", "n"}}));
  folder.write("n/a", "1");
  auto late = OutputFolder::create(request(folder.path() / "n", true));
  ASSERT_TRUE(late);
  ASSERT_TRUE(write_file(late->partial() / "new", "n"));
  folder.write("n/mine", "m");
  EXPECT_EQ(outcome(late->finish({"new"})), "BV8011");
  EXPECT_EQ(file_text(folder.path() / "n/mine"), "m");
  EXPECT_EQ(file_text(folder.path() / "n.bv-partial/new"), "n");
}

TEST(OutputFolder, DoesNotReplaceWhatAppearedMeanwhile) {
  const ScratchFolder folder;
  auto made = OutputFolder::create(request(folder.path() / "m"));
  ASSERT_TRUE(made);
  ASSERT_TRUE(write_file(made->partial() / "a", "1"));
  folder.write("m/a", "1");
  EXPECT_EQ(outcome(made->finish({"a"})), "BV8006");
  EXPECT_TRUE(fs::exists(folder.path() / "m.bv-partial/a"));
}

TEST(OutputFolder, IsLockedWhileItsRunLives) {
  const ScratchFolder folder;
  auto first = OutputFolder::create(request(folder.path() / "m"));
  ASSERT_TRUE(first);
  ASSERT_TRUE(write_file(first->partial() / "a", "1"));
  for (const auto& [overwrite, resume] :
       {std::pair(false, false), std::pair(true, false), std::pair(false, true)}) {
    EXPECT_EQ(placed(folder, request(folder.path() / "m", overwrite, resume)), "BV8008");
  }
  ASSERT_TRUE(first->finish({"a"}));
  EXPECT_EQ(file_text(folder.path() / "m/a"), "1");
  EXPECT_EQ(placed(folder, request(folder.path() / "m")), "BV8006");
}

TEST(OutputFolder, IsFreeAgainWhenItsRunIsGone) {
  const ScratchFolder folder;
  const pid_t child = ::fork();
  if (child == 0) {
    auto made = OutputFolder::create(request(folder.path() / "m"));
    ::_exit(made && write_file(made->partial() / "a", "1") ? 0 : 1);  // without its destructor
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_EQ(status, 0);
  EXPECT_EQ(placed(folder, request(folder.path() / "m")), "BV8006");
  auto resumed = OutputFolder::create(request(folder.path() / "m", false, true));
  ASSERT_TRUE(resumed) << resumed.error().message;
  EXPECT_TRUE(resumed->finish({"a"}));
}

/// A kill between the last two steps: the marker is gone and the name not yet given.
TEST(OutputFolder, IsKnownWithoutItsMarkerWhenAllItHoldsIsKnown) {
  const ScratchFolder folder;
  folder.write("m.bv-partial/a", "1");
  auto resumed = OutputFolder::create(request(folder.path() / "m", false, true));
  ASSERT_TRUE(resumed) << resumed.error().message;
  EXPECT_TRUE(resumed->finish({"a"}));
  EXPECT_EQ(tree(folder.path()), (std::map<std::string, std::string>{{"m/a", "1"}}));
}

TEST(OutputFolder, KeepsFinishedFilesAndNoLinks) {
  const ScratchFolder folder;
  folder.write("m.bv-partial/.bv-run",
               marker({"a", "c", "d", "gone/old", "other", "sub/b", "sub/old"}));
  folder.write("m.bv-partial/a", "1");
  folder.write("m.bv-partial/sub/b", "2");
  folder.write("m.bv-partial/sub/old", "2");
  folder.write("m.bv-partial/gone/old", "2");
  folder.write("m.bv-partial/.bv-partial-1-0", "half");
  folder.write("other/c", "3");
  fs::create_symlink("../other/c", folder.path() / "m.bv-partial/c");
  fs::create_hard_link(folder.path() / "other/c", folder.path() / "m.bv-partial/d");
  fs::create_directory_symlink("../other", folder.path() / "m.bv-partial/other");
  auto resumed = OutputFolder::create(request(folder.path() / "m", false, true));
  ASSERT_TRUE(resumed) << resumed.error().message;
  ASSERT_TRUE(resumed->keep_only({"a", "sub/b", "c", "d", "other/c"}));
  auto left = tree(folder.path());
  EXPECT_EQ(left.erase("m.bv-partial/.bv-run"), 1U);
  EXPECT_EQ(left, (std::map<std::string, std::string>{
                      {"m.bv-partial/a", "1"}, {"m.bv-partial/sub/b", "2"}, {"other/c", "3"}}));
}

TEST(OutputFolder, ClearsNothingThatNoRunWrote) {
  for (const char* mine : {"thesis.txt", "sub/thesis.txt", "old/thesis.txt", "a/thesis.txt"}) {
    const ScratchFolder folder;
    folder.write("m.bv-partial/.bv-run", marker({"a", "sub/b"}) + "thesis.txt");  // a cut name
    folder.write("m.bv-partial/sub/b", "2");
    folder.write(std::string("m.bv-partial/") + mine, "mine");
    for (const auto& [overwrite, resume] :
         {std::pair(false, false), std::pair(true, false), std::pair(false, true)}) {
      EXPECT_EQ(placed(folder, request(folder.path() / "m", overwrite, resume)), "BV8011") << mine;
    }
  }
}

TEST(OutputFolder, ClearsNothingThatAppearedDuringItsRun) {
  const ScratchFolder folder;
  {
    auto made = OutputFolder::create(request(folder.path() / "m"));
    ASSERT_TRUE(made);
    ASSERT_TRUE(write_file(made->partial() / "a", "1"));
    folder.write("m.bv-partial/thesis.txt", "mine");
    EXPECT_EQ(outcome(made->keep_only({})), "BV8011");
    made->abandon();
  }
  EXPECT_EQ(file_text(folder.path() / "m.bv-partial/thesis.txt"), "mine");
  EXPECT_EQ(placed(folder, request(folder.path() / "m", true)), "BV8011");
}

TEST(OutputFolder, RemembersTheFilesOfEveryRunThatItHolds) {
  const ScratchFolder folder;
  for (const char* name : {"of-one-layout", "of-another"}) {
    OutputRequest wanted = request(folder.path() / "m", false, true);
    wanted.files = {name};
    auto made = OutputFolder::create(wanted);
    ASSERT_TRUE(made) << made.error().message;
    ASSERT_TRUE(write_file(made->partial() / name, "1"));
  }
  OutputRequest last = request(folder.path() / "m", true);
  auto made = OutputFolder::create(last);
  ASSERT_TRUE(made) << made.error().message;
  ASSERT_TRUE(write_file(made->partial() / "new", "n"));
  ASSERT_TRUE(made->finish({"new"}));
  EXPECT_EQ(tree(folder.path()), (std::map<std::string, std::string>{{"m/new", "n"}}));
}

TEST(OutputFolder, LeavesNothingWhenNothingWasFinished) {
  const ScratchFolder folder;
  { ASSERT_TRUE(OutputFolder::create(request(folder.path() / "m"))); }
  EXPECT_TRUE(fs::is_empty(folder.path()));
  {
    auto made = OutputFolder::create(request(folder.path() / "m"));
    ASSERT_TRUE(made);
    ASSERT_TRUE(write_file(made->partial() / "a", "1"));
    made->abandon();
  }
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

}  // namespace
}  // namespace bv::io
