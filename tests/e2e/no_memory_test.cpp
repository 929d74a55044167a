// Memory and threads that cannot be had: a message and a documented exit code, and nothing half
// written. The refusals are injected (preloaded/refusals.cpp).

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <thread>

#include "tests/support/files.hpp"
#include "tests/support/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using support::Ended;
using support::file_text;
using support::run;
using Line = std::vector<std::string>;

class NoMemory : public ::testing::Test {
 protected:
  void SetUp() override {
#ifdef BV_SANITIZED
    GTEST_SKIP() << "a sanitizer has an allocator of its own";
#endif
    ASSERT_EQ(run({"fixture", "make", "llama", "--out", folder / "m"}).code, 0);
    ASSERT_EQ(
        run({"convert", "--to", "megatron", "--model", folder / "m", "--out", folder / "s"}).code,
        0);
    ASSERT_EQ(run({"check", "--model", folder / "m", "--tp", "1", "--out", folder / "r"}).code, 0);
  }

  /// `line` while one allocation, or all threads beyond some, are refused.
  Ended refused(const Line& line, const std::string& what, std::uint64_t number) const {
    fs::remove_all(out());
    fs::remove_all(out() + ".bv-partial");
    return run(line, {{"LD_PRELOAD", BV_REFUSALS},
                      {what, std::to_string(number)},
                      {"ALLOCATIONS", folder / "count"}});
  }
  [[nodiscard]] std::string out() const {
    return folder / "o";
  }
  /// What lies in the output folder: bytes by name.
  [[nodiscard]] std::map<std::string, std::string> outputs() const {
    std::map<std::string, std::string> all;
    if (!fs::exists(out())) {
      return all;
    }
    for (const std::string& file : support::files_below(out())) {
      all[file] = file_text(fs::path(out()) / file);
    }
    return all;
  }

  [[nodiscard]] std::vector<Line> lines() const {
    const std::string m = folder / "m";
    return {{"check", "--model", m, "--tp", "2", "--skip", "forward", "--report", "json=-"},
            {"roundtrip", "--model", m, "--tp", "2", "--skip", "forward", "-j", "2"},
            {"convert", "--to", "megatron", "--model", m, "--out", out(), "-j", "2"},
            {"convert", "--to", "hf", "--model", folder / "s", "--out", out(), "-j", "2"},
            {"diff", m, folder / "s", "-j", "2"},
            {"inspect", "--model", m, "--json"},
            {"layout", "--model", m, "--tp", "2"},
            {"trace", "model.norm.weight", "--model", m},
            {"rules", "lint", support::fixture("rules/qwen3.rules.json")},
            {"fixture", "make", "llama", "--out", out()},
            {"report", "html", folder / "r/verdicts.json"},
            {"explain"}};
  }

  support::TempFolder folder;
};

TEST_F(NoMemory, AnyAllocationThatFailsEndsWithFiveOrAsWithoutIt) {
  for (const Line& line : lines()) {
    const Ended whole = refused(line, "REFUSE_ALLOCATION", 0);
    const std::string named = fmt::format("{}", fmt::join(line, " "));
    const auto written = outputs();
    const std::uint64_t all = std::stoull(file_text(folder / "count"));
    ASSERT_GT(all, 100U) << named;
    std::set<std::uint64_t> places = {1, 2, 3, 5, 8, 13, 21, 34, 55, 89, all, all - 1};
    std::uint64_t random = 7;
    const int draws = line[0] == "inspect" ? 300 : 24;  // the quickest one is looked at closely
    for (int i = 0; i < draws; ++i) {
      random = random * 6364136223846793005U + 1442695040888963407U;
      places.insert(1 + (random >> 33U) % all);
    }
    for (const std::uint64_t place : places) {
      const Ended ended = refused(line, "REFUSE_ALLOCATION", place);
      const bool as_before = ended.code == whole.code;
      EXPECT_TRUE(as_before || ended.code == 5)
          << named << ", allocation " << place << ": exit " << ended.code << "\n"
          << ended.all();
      if (!as_before) {
        EXPECT_NE(ended.err.find("error[BV"), std::string::npos) << named << place << ended.err;
        // After the rename nothing of the output can fail any more: it is whole.
        if (fs::exists(out())) {
          EXPECT_EQ(outputs(), written) << named << ", allocation " << place;
        }
      }
    }
  }
}

/// Where the system gives no thread, the work is done by those that there are.
TEST_F(NoMemory, ThreadsThatDoNotStartAreDoneWithout) {
  for (const Line& line : lines()) {
    Line eight = line;
    if (const auto jobs = std::find(eight.begin(), eight.end(), "-j"); jobs != eight.end()) {
      *(jobs + 1) = "8";
    }
    const Ended whole = refused(eight, "REFUSE_THREADS", 1000);
    for (const std::uint64_t threads : {0U, 1U, 3U}) {
      const Ended ended = refused(eight, "REFUSE_THREADS", threads);
      EXPECT_EQ(ended.code, whole.code) << line[0] << ", " << threads << "\n" << ended.all();
      EXPECT_EQ(ended.word(), whole.word());
    }
  }
}

/// The files of one run, not of two: the other waits or says so.
TEST(ReportFolder, TwoRunsAtOnceLeaveTheReportsOfOne) {
  const support::TempFolder folder;
  for (int i = 0; i < 8; ++i) {
    const std::string out = folder / ("r" + std::to_string(i));
    const auto check = [&out](const std::string& model) {
      return run({"check", "--model", "fixture:" + model, "--tp", "1", "--only", "names,shapes",
                  "--allow-partial", "--out", out});
    };
    Ended other;
    std::thread beside([&] { other = check("mixtral"); });
    const Ended one = check("llama");
    beside.join();
    for (const Ended& ended : {one, other}) {
      EXPECT_TRUE(ended.code == 0 ||
                  (ended.code == 5 && ended.err.find("error[BV") != std::string::npos))
          << ended.code << ended.all();
    }
    EXPECT_TRUE(one.code == 0 || other.code == 0);
    std::set<std::string> models;
    std::size_t files = 0;
    for (const std::string& file : support::files_below(out)) {
      const std::string text = file_text(fs::path(out) / file);
      files += text.empty() ? 0U : 1U;
      for (const char* model : {"fixture:llama", "fixture:mixtral"}) {
        if (text.find(model) != std::string::npos) {
          models.insert(model);
        }
      }
    }
    EXPECT_GT(files, 1U);
    EXPECT_EQ(models.size(), 1U) << "reports of two runs";
  }
}

}  // namespace
}  // namespace bv::e2e
