// Killed at every call that changes files: what is under the final name is whole, and nothing else
// reads as a checkpoint.

#include <fmt/format.h>
#include <signal.h>

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;

class KilledAtAnyPoint : public ::testing::Test {
 protected:
  void SetUp() override {
#ifdef BV_SANITIZED
    GTEST_SKIP() << "a sanitizer must come first among preloaded libraries";
#endif
  }
  [[nodiscard]] static std::string hf() {
    return golden_hf("qwen3").string();
  }
  [[nodiscard]] std::string out() const {
    return folder / "m";
  }

  /// Writes a checkpoint and is killed in place of call `at`; 0: runs to its end.
  [[nodiscard]] Ended convert(long at, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> line = {"convert", "--to", "torch_dist", "--model", hf(),
                                     "-j",      "1",    "--out",      out()};
    line.insert(line.end(), more.begin(), more.end());
    return run(
        line,
        {{"LD_PRELOAD", BV_KILLER}, {"KILL_AT", std::to_string(at)}, {"STEPS", folder / "steps"}});
  }
  [[nodiscard]] long steps_of(const std::vector<std::string>& more = {}) const {
    const Ended ended = convert(0, more);
    EXPECT_EQ(ended.code, 0) << ended.all();
    return std::stol(file_text(folder.path() / "steps"));
  }
  [[nodiscard]] static bool is_right(const std::string& checkpoint) {
    return run({"check", "--model", hf(), "--megatron", checkpoint}).code == 0;
  }
  /// True when the checkpoint stands under its name.
  bool expect_whole_or_nothing(long at) const {
    const bool there = fs::exists(out());
    if (there) {
      EXPECT_TRUE(is_right(out())) << at;
    }
    const std::string partial = out() + ".bv-partial";
    if (fs::exists(partial) && run({"inspect", "--model", partial}).code == 0) {
      EXPECT_TRUE(is_right(partial)) << at << ": reads as a checkpoint and is none";
    }
    return there;
  }
  TempFolder folder;
};

/// Before the last files every third call is taken, and each of the last ones.
TEST_F(KilledAtAnyPoint, ATorchDistCheckpointIsWholeOrNotThere) {
  constexpr long kLast = 40;
  const long steps = steps_of();
  fs::remove_all(out());
  ASSERT_GT(steps, 2 * kLast);
  long whole = 0;
  for (long at = 1; at <= steps; at += at < steps - kLast ? 3 : 1) {
    SCOPED_TRACE(at);
    const Ended killed = convert(at);
    ASSERT_EQ(killed.code, 128 + SIGKILL) << killed.all();
    whole += expect_whole_or_nothing(at) ? 1 : 0;
    fs::remove_all(out());
    fs::remove_all(out() + ".bv-partial");
  }
  EXPECT_LT(whole, 10) << "it stands under its name before it is whole";
}

/// The earlier checkpoint stays until the new one takes its place.
TEST_F(KilledAtAnyPoint, AnOverwrittenCheckpointIsTheOldOrTheNewOne) {
  constexpr long kLast = 30;
  ASSERT_EQ(convert(0).code, 0);
  const long steps = steps_of({"--overwrite"});
  for (long at = steps - kLast; at <= steps; ++at) {
    SCOPED_TRACE(at);
    const Ended killed = convert(at, {"--overwrite"});
    ASSERT_EQ(killed.code, 128 + SIGKILL) << killed.all();
    expect_whole_or_nothing(at);
    const Ended again = convert(0, {"--overwrite"});
    ASSERT_EQ(again.code, 0) << again.all();
    ASSERT_TRUE(is_right(out()));
  }
}

/// A right model was judged before; what is judged now is wrong, and killed before it says so.
TEST_F(KilledAtAnyPoint, TheReportsOfAnEarlierRunDoNotStandForThisOne) {
  const std::string junit = folder / "junit.xml";
  const auto check = [&](const std::vector<std::string>& more, long at) {
    std::vector<std::string> line = {"check",         "--model", hf(), "--tp", "1",
                                     "--out",         out(),     "-j", "1",    "--report",
                                     "junit=" + junit};
    line.insert(line.end(), more.begin(), more.end());
    return run(
        line,
        {{"LD_PRELOAD", BV_KILLER}, {"KILL_AT", std::to_string(at)}, {"STEPS", folder / "steps"}});
  };
  const std::vector<std::string> wrong = {"--rules", fixture("broken/swapped_gate_up.rules.json")};
  ASSERT_EQ(check({}, 0).code, 0);
  ASSERT_EQ(check(wrong, 0).code, 1);
  const long steps = std::stol(file_text(folder.path() / "steps"));
  for (long at = steps / 2 + 1; at <= steps; ++at) {
    SCOPED_TRACE(at);
    ASSERT_EQ(check({}, 0).code, 0);
    ASSERT_EQ(check(wrong, at).code, 128 + SIGKILL);
    for (const std::string& file :
         {out() + "/verdicts.json", out() + "/report.html", out() + "/junit.xml", junit}) {
      const std::string text = file_text(file);
      EXPECT_TRUE(text.find("STOPPED") != std::string::npos ||
                  text.find("not ended") != std::string::npos ||
                  text.find("stopped before its end") != std::string::npos ||
                  text.find("BV2006") != std::string::npos)
          << file << " is of the earlier run";
    }
  }
}

}  // namespace
}  // namespace bv::e2e
