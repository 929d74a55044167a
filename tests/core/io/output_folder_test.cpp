// What stands in a folder that is being written, and two runs that want one place.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/io/writer.hpp"
#include "tests/core/io/output_requests.hpp"

namespace bv::io {
namespace {

namespace fs = std::filesystem;
using support::file_text;
using testing::marker;
using testing::outcome;
using testing::placed;
using testing::request;
using testing::ScratchFolder;
using testing::tree;

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
