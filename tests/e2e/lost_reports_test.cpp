// A report that cannot be written: no other one of that run says PASS.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <fstream>

#include "tests/e2e/process.hpp"
#include "tests/e2e/small_disk.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

std::size_t times(const std::string& text, std::string_view part) {
  std::size_t out = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++out;
  }
  return out;
}

/// Of all files below `folder`, those that speak of success.
std::vector<std::string> green_files(const fs::path& folder) {
  std::vector<std::string> out;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) {
      continue;
    }
    const std::string text = file_text(entry.path());
    const bool page = entry.path().extension() == ".html";  // its script knows every word
    if (text.find(page ? "<title>PASS" : "PASS") != std::string::npos) {
      out.push_back(entry.path().string());
    }
  }
  return out;
}

void expect_one_error(const Ended& lost, const std::string& label) {
  EXPECT_EQ(lost.code, 5) << lost.all();
  EXPECT_EQ(lost.word(), "INPUT") << lost.all();
  EXPECT_EQ(times("\n" + lost.all(), "\nerror[" + label + "]"), 1U) << lost.all();
  EXPECT_EQ(times("\n" + lost.all(), "\nnext "), 0U) << lost.all();
  EXPECT_EQ(times("\n" + lost.all(), "\nreport "), 0U) << lost.all();
}

/// Every size at which the disk fills in another one of the reports.
TEST(LostReports, AFullDiskLeavesNoGreenReport) {
  const TempFolder folder;
  const std::string model = golden_hf("llama").string();
  const Words line = {"check", "--model", model, "--tp", "1", "--out"};
  ASSERT_EQ(run(line + Words{folder / "whole"}).code, 0);
  ASSERT_FALSE(green_files(folder / "whole").empty());
  int lost = 0;
  for (const int kilobytes : {8, 16, 32, 48, 64, 80, 96, 128, 160, 200}) {
    const SmallDisk disk(folder.path() / "disk", fmt::format("{}k", kilobytes));
    ASSERT_TRUE(disk.mounted()) << "this test mounts a tmpfs and needs root";
    const Ended ended = run(line + Words{folder / "disk/r"});
    if (ended.code == 0) {
      EXPECT_FALSE(green_files(folder / "disk").empty());
      continue;
    }
    ++lost;
    expect_one_error(ended, "BV8001");
    EXPECT_TRUE(green_files(folder / "disk").empty())
        << kilobytes << " " << green_files(folder / "disk")[0];
    for (const auto& entry : fs::directory_iterator(folder / "disk/r")) {
      EXPECT_FALSE(entry.path().filename().string().starts_with(".bv-partial")) << entry.path();
    }
    // The next run takes the folder for that of an earlier run.
    ASSERT_TRUE(disk.grow("4m"));
    EXPECT_EQ(run(line + Words{folder / "disk/r"}).code, 0);
  }
  EXPECT_GE(lost, 4);
}

TEST(LostReports, ReportsOfAnEarlierRunDoNotStayGreen) {
  const TempFolder folder;
  const SmallDisk disk(folder.path() / "disk", "400k");
  ASSERT_TRUE(disk.mounted()) << "this test mounts a tmpfs and needs root";
  const Words line = {"check", "--model",        golden_hf("llama").string(), "--tp", "1",
                      "--out", folder / "disk/r"};
  ASSERT_EQ(run(line).code, 0);
  std::ofstream filler(folder.path() / "disk/filler", std::ios::binary);
  filler << std::string(std::size_t{400} << 10, 'x');
  filler.close();
  expect_one_error(run(line), "BV8001");
  EXPECT_TRUE(green_files(folder / "disk").empty());
}

TEST(LostReports, OneOfSeveralFilesIsEnough) {
  const TempFolder folder;
  fs::create_directories(folder.path() / "good");
  const std::string model = golden_hf("llama").string();
  const std::string out = folder / "hf";
  const std::vector<Words> lines = {
      {"check", "--model", model, "--tp", "1"},
      {"convert", "--to", "megatron", "--model", model, "--tp", "1", "--out", out},
      {"diff", model, model},
      {"fuzz", "--seconds", "1"}};
  for (const Words& line : lines) {
    const Ended ended = run(line + Words{"--report", "json=" + (folder / "good/v.json"), "--report",
                                         "text=" + (folder / "good/r.txt"), "--report",
                                         "markdown=" + (folder / "absent/m.md")});
    EXPECT_EQ(ended.code, 5) << line[0] << ended.all();
    EXPECT_EQ(ended.word(), "INPUT") << line[0] << ended.all();
    EXPECT_EQ(times("\n" + ended.all(), "\nerror["), 1U) << line[0] << ended.all();
    EXPECT_EQ(times("\n" + ended.all(), "\nnext "), 0U) << line[0] << ended.all();
    EXPECT_TRUE(green_files(folder / "good").empty()) << line[0];
    EXPECT_THAT(file_text(folder.path() / "good/v.json"), HasSubstr("\"exit_code\": 5")) << line[0];
    EXPECT_THAT(file_text(folder.path() / "good/r.txt"), HasSubstr("bridge-verify: INPUT"));
    EXPECT_THAT(file_text(folder.path() / "good/r.txt"), Not(HasSubstr("\nnext ")));
  }
}

TEST(LostReports, ASurveyThatIsNotWrittenLeavesNoPages) {
  const TempFolder folder;
  const fs::path out = folder.path() / "survey";
  fs::create_directories(out / "survey.json");  // a folder where a file is to be
  const Ended ended = run({"survey", fixture("registries"), "--out", out.string()});
  EXPECT_EQ(ended.code, 5) << ended.all();
  EXPECT_TRUE(green_files(out).empty()) << green_files(out)[0];
  EXPECT_FALSE(fs::exists(out / "survey.html"));
}

}  // namespace
}  // namespace bv::e2e
