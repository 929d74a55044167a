// A model that another program changes while it is read: a clear error, never a signal, and nothing
// under the final name.

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;

/// Has the process mapped the file? Then its header was read and its bytes are about to be.
bool has_mapped(pid_t process, const std::string& file) {
  return file_text(fmt::format("/proc/{}/maps", process)).find(file) != std::string::npos;
}

class Changing : public testing::Test {
 protected:
  void SetUp() override {
    model_.write(folder.path() / "hf");
    file = folder / "hf/model.safetensors";
  }
  /// Runs the words and changes the file once it is mapped.
  Ended run_while(const std::vector<std::string>& words,
                  const std::function<void(const std::string&)>& change) const {
    bool changed = false;
    Setting setting;
    setting.limit_seconds = 240;
    setting.watch = [&](pid_t child) {
      if (!changed && has_mapped(child, file)) {
        changed = true;
        change(file);
      }
    };
    const Ended ended = run_in(setting, words);
    EXPECT_TRUE(changed) << "the run ended before the file was changed: " << ended.all();
    return ended;
  }
  void expect_told(const Ended& ended) const {
    EXPECT_EQ(ended.code, 5) << ended.all();
    EXPECT_NE(ended.all().find("error[BV7007]"), std::string::npos) << ended.all();
    EXPECT_NE(ended.all().find("= help"), std::string::npos) << ended.all();
    EXPECT_EQ(ended.out.find("PASS"), std::string::npos) << ended.out;
  }
  [[nodiscard]] std::vector<std::vector<std::string>> commands() const {
    return {{"roundtrip", "--model", folder / "hf", "--skip", "placement", "-j", "4"},
            {"convert", "--to", "megatron", "--model", folder / "hf", "--tp", "4", "-j", "4",
             "--out", folder / "m"}};
  }

  TempFolder folder;
  std::string file;
  EditedCheckpoint model_ = large_llama(512, 12);
};

TEST_F(Changing, AFileThatIsCutIsNoCrash) {
  for (const auto& words : commands()) {
    const Ended ended =
        run_while(words, [](const std::string& at) { fs::resize_file(at, 100'000); });
    expect_told(ended);
    EXPECT_EQ(ended.word(), "INPUT") << ended.all();
    EXPECT_FALSE(fs::exists(folder.path() / "m"));
    model_.write(folder.path() / "hf");
  }
  std::vector<std::string> json = commands().front();
  json.emplace_back("--json");
  const Ended ended = run_while(json, [](const std::string& at) { fs::resize_file(at, 100'000); });
  EXPECT_EQ(ended.code, 5) << ended.all();
  EXPECT_EQ(ended.out.find("bridge-verify: "), std::string::npos) << ended.out;
}

TEST_F(Changing, AFileThatIsWrittenOverIsTold) {
  const auto overwrite = [](const std::string& at) {
    const int descriptor = ::open(at.c_str(), O_WRONLY | O_CLOEXEC);
    ASSERT_GE(descriptor, 0);
    const std::string zeros(1 << 20, '\0');
    EXPECT_EQ(::pwrite(descriptor, zeros.data(), zeros.size(), 1 << 20),
              static_cast<ssize_t>(zeros.size()));
    ::close(descriptor);
  };
  for (const auto& words : commands()) {
    expect_told(run_while(words, overwrite));
    EXPECT_FALSE(fs::exists(folder.path() / "m"));
    model_.write(folder.path() / "hf");
  }
}

TEST_F(Changing, AFileThatIsReplacedIsTold) {
  const auto replace = [](const std::string& at) {
    write_text(at + ".new", std::string(1000, 'x'));
    fs::rename(at + ".new", at);
  };
  expect_told(run_while(commands().front(), replace));
}

/// Values are read at the level of headers as well.
TEST_F(Changing, ACheckOfHeadersLooksAgainToo) {
  const Ended ended = run_while({"check", "--model", folder / "hf", "--skip", "placement"},
                                [](const std::string& at) { fs::resize_file(at, 100'000); });
  expect_told(ended);
}

}  // namespace
}  // namespace bv::e2e
