// Runs that the system gives less than they ask for: threads, memory, room in a file.

#include <fmt/format.h>
#include <sys/wait.h>

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;

TEST(Limits, AThreadThatCannotStartIsNoCrash) {
  const ModelCopy model("llama");
  const std::string from = model.folder.string();
  for (const std::uint64_t mebibytes : {24U, 40U, 64U, 120U}) {
    Setting setting;
    setting.limits.memory_bytes = mebibytes << 20;
    for (const Words& line :
         {Words{"roundtrip", "--model", from, "-j", "64"}, Words{"diff", from, from, "-j", "64"}}) {
      const Ended ended = run_in(setting, line);
      EXPECT_TRUE(ended.code == 0 || ended.code == 5 || ended.code == 3)
          << mebibytes << " " << ended.code << ended.all();
    }
  }
}

TEST(Limits, AFileSizeLimitIsAFullDisk) {
  const ModelCopy model("llama");
  const std::string from = model.folder.string();
  const TempFolder folder;
  const fs::path to = folder.path() / "s";
  const std::string line = fmt::format(
      "ulimit -f 20; exec '{}' convert --to megatron --model '{}' --out '{}' 2>/dev/null",
      BV_BINARY, from, to.string());
  const int status = std::system(("bash -c \"" + line + "\" >/dev/null").c_str());
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 5);
  EXPECT_FALSE(fs::exists(to));
}

}  // namespace
}  // namespace bv::e2e
