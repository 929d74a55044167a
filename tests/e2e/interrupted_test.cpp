// Killed, stopped, and out of space: nothing under the final name, and --resume completes.

#include <fmt/format.h>
#include <signal.h>

#include <fstream>

#include "tests/e2e/process.hpp"
#include "tests/e2e/small_disk.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;

bool has_finished_shard(const fs::path& folder) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.path().extension() == ".safetensors" &&
        !entry.path().filename().string().starts_with('.')) {
      return true;
    }
  }
  return false;
}

std::map<std::string, std::string> shards_of(const fs::path& folder) {
  std::map<std::string, std::string> out;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) {
      out[fs::relative(entry.path(), folder).string()] = file_text(entry.path());
    }
  }
  return out;
}

class Interrupted : public testing::Test {
 protected:
  void SetUp() override {
    large_llama(512, 12).write(folder.path() / "hf");
    line = {"convert", "--to", "megatron", "--model", folder / "hf",
            "--tp",    "4",    "-j",       "1",       "--out"};
  }
  Ended convert(const std::string& out, const std::vector<std::string>& more = {},
                const std::function<void(pid_t)>& watch = {}) const {
    std::vector<std::string> words = line;
    words.push_back(out);
    words.insert(words.end(), more.begin(), more.end());
    return run(words, {}, watch);
  }
  /// Signals the run once its first shard file is complete; true when it was still at work.
  Ended interrupt(const std::string& out, int signal) const {
    bool sent = false;
    return convert(out, {}, [&](pid_t child) {
      if (!sent && has_finished_shard(out + ".bv-partial")) {
        sent = true;
        ::kill(child, signal);
      }
    });
  }
  void expect_resumed(const std::string& out) const {
    EXPECT_FALSE(fs::exists(out));
    EXPECT_TRUE(has_finished_shard(out + ".bv-partial"));
    const Ended refused = convert(out);
    EXPECT_EQ(refused.code, 5) << refused.all();
    EXPECT_NE(refused.err.find("--resume"), std::string::npos) << refused.err;
    const Ended resumed = convert(out, {"--resume"});
    EXPECT_EQ(resumed.code, 0) << resumed.all();
    EXPECT_FALSE(fs::exists(out + ".bv-partial"));
    ASSERT_EQ(convert(folder / "whole").code, 0);
    const auto found = shards_of(out);
    const auto wanted = shards_of(folder / "whole");
    for (const auto& [name, text] : found) {
      ASSERT_TRUE(wanted.contains(name)) << name << " is left over";
      EXPECT_TRUE(text == wanted.at(name)) << name << " differs";
    }
    EXPECT_EQ(found.size(), wanted.size());
  }

  TempFolder folder;
  std::vector<std::string> line;
};

TEST_F(Interrupted, KilledWhileWritingLeavesNothingUnderTheName) {
  const Ended killed = interrupt(folder / "m", SIGKILL);
  ASSERT_EQ(killed.code, 128 + SIGKILL)
      << "the run ended before it could be killed: " << killed.all();
  expect_resumed(folder / "m");
}

TEST_F(Interrupted, StoppedByCtrlCSaysSo) {
  const Ended stopped = interrupt(folder / "m", SIGINT);
  ASSERT_EQ(stopped.code, 130) << stopped.all();
  EXPECT_EQ(stopped.word(), "STOPPED");
  EXPECT_EQ(stopped.out.find("output "), std::string::npos) << stopped.out;
  EXPECT_NE(stopped.all().find("repeat with --resume, and "), std::string::npos) << stopped.all();
  EXPECT_FALSE(fs::exists(folder / "m"));
  expect_resumed(folder / "m");
}

TEST_F(Interrupted, StoppedBySighupExits129) {
  const Ended stopped = interrupt(folder / "m", SIGHUP);
  ASSERT_EQ(stopped.code, 129) << stopped.all();
  EXPECT_EQ(stopped.word(), "STOPPED");
  EXPECT_FALSE(fs::exists(folder / "m"));
}

TEST_F(Interrupted, StoppedBySigtermExits143) {
  const Ended stopped = interrupt(folder / "m", SIGTERM);
  ASSERT_EQ(stopped.code, 143) << stopped.all();
  EXPECT_EQ(stopped.word(), "STOPPED");
  EXPECT_FALSE(fs::exists(folder / "m"));
}

/// A resumed run does not trust what it finds: a changed byte in a finished shard is written again.
TEST_F(Interrupted, ResumeWritesADamagedShardAgain) {
  const std::string out = folder / "m";
  const Ended killed = interrupt(out, SIGKILL);
  ASSERT_EQ(killed.code, 128 + SIGKILL) << killed.all();
  for (const auto& entry : fs::directory_iterator(out + ".bv-partial")) {
    if (entry.path().extension() == ".safetensors") {
      std::string text = file_text(entry.path());
      text.back() = static_cast<char>(text.back() ^ 1);
      write_text(entry.path(), text);
    }
  }
  expect_resumed(out);
}

/// A link to the right bytes would make the output a link to somebody's file.
TEST_F(Interrupted, ResumeKeepsNoLinks) {
  const std::string out = folder / "m";
  const Ended killed = interrupt(out, SIGKILL);
  ASSERT_EQ(killed.code, 128 + SIGKILL) << killed.all();
  fs::create_directories(folder / "elsewhere");
  std::size_t linked = 0;
  for (const auto& entry : fs::directory_iterator(out + ".bv-partial")) {
    if (entry.path().extension() == ".safetensors") {
      const fs::path moved = fs::path(folder / "elsewhere") / entry.path().filename();
      fs::rename(entry.path(), moved);
      fs::create_symlink(moved, entry.path());
      ++linked;
    }
  }
  EXPECT_GT(linked, 0U);
  expect_resumed(out);
  for (const auto& entry : fs::directory_iterator(out)) {
    EXPECT_FALSE(entry.is_symlink()) << entry.path();
  }
}

/// Shards of another layout, and half-written files, do not slip into the output.
TEST_F(Interrupted, ResumeDropsWhatThisRunWouldNotWrite) {
  const std::string out = folder / "m";
  const Ended killed = interrupt(out, SIGKILL);
  ASSERT_EQ(killed.code, 128 + SIGKILL) << killed.all();
  const std::string others =
      std::string("pp1_tp0_ep0_etp0.safetensors") + '\0' + "hf/old.json" + '\0';
  write_text(out + ".bv-partial/.bv-run", file_text(out + ".bv-partial/.bv-run") + others);
  write_text(out + ".bv-partial/.bv-partial-1-0", "half");
  write_text(out + ".bv-partial/pp1_tp0_ep0_etp0.safetensors", "of another layout");
  write_text(out + ".bv-partial/hf/old.json", "of another model");
  expect_resumed(out);
}

/// Half a fixture is of no use, and no folder is left of it.
TEST_F(Interrupted, FixtureMakeEndsAndLeavesNothing) {
  const std::string out = folder / "f";
  for (const int signal : {SIGINT, SIGTERM}) {
    bool sent = false;
    const Ended stopped = run({"fixture", "make", "llama", "--out", out, "--set",
                               "vocab_size=4000000", "--set", "hidden_size=64"},
                              {}, [&](pid_t child) {
                                if (!sent && fs::exists(out + ".bv-partial")) {
                                  sent = true;
                                  ::kill(child, signal);
                                }
                              });
    EXPECT_TRUE(sent);
    EXPECT_EQ(stopped.code, 128 + signal) << stopped.all();
    EXPECT_NE(stopped.err.find("stopped before the end"), std::string::npos) << stopped.all();
    EXPECT_FALSE(fs::exists(out) || fs::exists(out + ".bv-partial")) << stopped.all();
  }
}

/// Commands that work for long end at a signal, say so, and leave nothing in the folder for
/// temporary files.
TEST(InterruptedWork, OfEveryLongCommandEndsAndLeavesNothing) {
  const std::vector<std::vector<std::string>> kLines = {{"mutate"},
                                                        {"mutate", "qwen3_5_moe", "--survivors"},
                                                        {"fuzz", "--seconds", "60", "--out"},
                                                        {"survey", fixture("registries")}};
  for (const std::vector<std::string>& line : kLines) {
    for (const int signal : {SIGINT, SIGTERM}) {
      const TempFolder folder;
      fs::create_directory(folder / "tmp");
      std::vector<std::string> words = line;
      if (line.back().starts_with("--")) {
        words.push_back(folder / "out");
      }
      int looks = 0;
      const Ended ended = run(words, {{"TMPDIR", folder / "tmp"}}, [&](pid_t child) {
        constexpr int kWorking = 200;  // a look takes about a millisecond
        if (++looks == kWorking) {
          ::kill(child, signal);
        }
      });
      EXPECT_EQ(ended.code, 128 + signal) << line[0] << ended.all();
      EXPECT_EQ(ended.all().find("PASS"), std::string::npos) << line[0] << ended.all();
      EXPECT_TRUE(fs::is_empty(folder / "tmp")) << line[0];
      for (const auto& entry : fs::directory_iterator(folder.path())) {
        EXPECT_EQ(entry.path().string().find(".bv-"), std::string::npos) << entry.path();
      }
    }
  }
}

TEST_F(Interrupted, ADiskThatIsTooSmallIsToldBeforeTheFirstByte) {
  const SmallDisk disk(folder.path() / "disk", "40m");
  ASSERT_TRUE(disk.mounted()) << "this test mounts a tmpfs and needs root";
  const Ended full = convert(folder / "disk/m");
  EXPECT_EQ(full.code, 5) << full.all();
  EXPECT_NE(full.err.find("error[BV8001]"), std::string::npos) << full.err;
  EXPECT_NE(full.err.find("disk full: the output needs"), std::string::npos) << full.err;
  EXPECT_TRUE(fs::is_empty(folder.path() / "disk"));
}

TEST_F(Interrupted, FullDiskKeepsFinishedShardsAndResumes) {
  const SmallDisk disk(folder.path() / "disk", "120m");
  ASSERT_TRUE(disk.mounted()) << "this test mounts a tmpfs and needs root";
  const std::string out = folder / "disk/m";
  bool filled = false;
  // Another program takes the rest meanwhile; the run waits for it, or it might be done before.
  const Ended full = convert(out, {}, [&](pid_t child) {
    if (!filled && has_finished_shard(out + ".bv-partial")) {
      filled = true;
      ::kill(child, SIGSTOP);
      std::ofstream(folder / "disk/other") << std::string(std::size_t{120} << 20, 'x');
      ::kill(child, SIGCONT);
    }
  });
  EXPECT_EQ(full.code, 5) << full.all();
  EXPECT_EQ(full.word(), "INPUT");
  EXPECT_NE(full.err.find("error[BV8001]"), std::string::npos) << full.err;
  EXPECT_NE(full.err.find("disk full writing " + out + ".bv-partial/pp0_tp"), std::string::npos)
      << full.err;
  EXPECT_NE(full.err.find("free space, then repeat with --resume; "), std::string::npos)
      << full.err;
  EXPECT_FALSE(fs::exists(out));
  fs::remove(folder / "disk/other");
  ASSERT_TRUE(disk.grow("400m"));
  expect_resumed(out);
}

/// A torch_dist checkpoint is whole or not there: nothing that reads as one is left at any point.
class InterruptedTorchDist : public Interrupted {
 protected:
  void SetUp() override {
    Interrupted::SetUp();
    line = {"convert", "--to", "torch_dist", "--model", folder / "hf", "-j", "1", "--out"};
  }
  /// Files of the partial output, the temporary ones included.
  static std::size_t files_below(const fs::path& partial) {
    std::size_t out = 0;
    std::error_code ignored;
    for (fs::recursive_directory_iterator at(partial, ignored);
         !ignored && at != fs::recursive_directory_iterator(); at.increment(ignored)) {
      const std::string name = at->path().filename().string();
      if (name.find("distcp") != std::string::npos || name.starts_with(".bv-partial")) {
        ++out;
      }
    }
    return out;
  }
  Ended interrupt_dist(const std::string& out, int signal) const {
    bool sent = false;
    return convert(out, {}, [&](pid_t child) {
      if (!sent && files_below(out + ".bv-partial") > 0) {
        sent = true;
        ::kill(child, signal);
      }
    });
  }
  void expect_started_again(const std::string& out) const {
    EXPECT_FALSE(fs::exists(out));
    const Ended read = run({"inspect", "--model", out + ".bv-partial"});
    EXPECT_NE(read.code, 0) << read.all();
    const Ended refused = convert(out);
    EXPECT_EQ(refused.code, 5) << refused.all();
    EXPECT_EQ(refused.err.find("--resume"), std::string::npos) << refused.err;
    const Ended again = convert(out, {"--overwrite"});
    EXPECT_EQ(again.code, 0) << again.all();
    EXPECT_FALSE(fs::exists(out + ".bv-partial"));
    const Ended same = run({"check", "--model", folder / "hf", "--megatron", out});
    EXPECT_EQ(same.code, 0) << same.all();
  }
};

TEST_F(InterruptedTorchDist, KilledWhileWritingLeavesNothingThatReadsAsComplete) {
  const Ended killed = interrupt_dist(folder / "m", SIGKILL);
  ASSERT_EQ(killed.code, 128 + SIGKILL) << killed.all();
  expect_started_again(folder / "m");
}

TEST_F(InterruptedTorchDist, StoppedByCtrlCSaysHowToStartAgain) {
  const Ended stopped = interrupt_dist(folder / "m", SIGINT);
  ASSERT_EQ(stopped.code, 130) << stopped.all();
  EXPECT_EQ(stopped.all().find("--resume"), std::string::npos) << stopped.all();
  EXPECT_NE(stopped.flat().find("repeat with --overwrite"), std::string::npos) << stopped.all();
  expect_started_again(folder / "m");
}

TEST_F(InterruptedTorchDist, AFullDiskIsToldAndNothingIsLeft) {
  const SmallDisk disk(folder.path() / "disk", "40m");
  ASSERT_TRUE(disk.mounted()) << "this test mounts a tmpfs and needs root";
  const Ended full = convert(folder / "disk/m");
  EXPECT_EQ(full.code, 5) << full.all();
  EXPECT_NE(full.err.find("error[BV8001]"), std::string::npos) << full.err;
  EXPECT_EQ(full.err.find("--resume"), std::string::npos) << full.err;
  EXPECT_FALSE(fs::exists(folder / "disk/m"));
}

TEST_F(Interrupted, FullDiskOnTheWayBackLeavesNothing) {
  ASSERT_EQ(convert(folder / "m").code, 0);
  const SmallDisk disk(folder.path() / "disk", "20m");
  ASSERT_TRUE(disk.mounted()) << "this test mounts a tmpfs and needs root";
  const Ended full =
      run({"convert", "--to", "hf", "--model", folder / "m", "--out", folder / "disk/h"});
  EXPECT_EQ(full.code, 5) << full.all();
  EXPECT_NE(full.err.find("error[BV8001]"), std::string::npos) << full.err;
  EXPECT_FALSE(fs::exists(folder / "disk/h"));
}

TEST(Streams, AFullStdoutIsNoSuccess) {
  const std::string line = fmt::format("'{}' check --model '{}' > /dev/full 2> /dev/null",
                                       BV_BINARY, golden_hf("llama").string());
  EXPECT_EQ(WEXITSTATUS(std::system(line.c_str())), 5);
}

}  // namespace
}  // namespace bv::e2e
