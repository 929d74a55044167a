// What is copied to a GPU machine (ci/gpu), with the host in place of the GPU: its script runs
// every part of it, and its size is bounded.

#include <gmock/gmock.h>
#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <regex>
#include <set>

#include "tests/e2e/world.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

int shell(const std::string& line) {
  const int status = std::system(line.c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// A folder as the script finds it, with few goldens.
void make_folder(const TempFolder& temp) {
  fs::create_directories(temp / "bin");
  fs::create_directories(temp / "fixtures/golden/hf");
  fs::create_directories(temp / "fixtures/golden/peft");
  fs::create_directories(temp / "library");
  fs::create_directory_symlink(golden_hf("qwen3"), temp / "fixtures/golden/hf/qwen3");
  for (const char* const name : {"dora", "qwen35_moe"}) {
    fs::create_directory_symlink(fixture(std::string("golden/peft/") + name),
                                 temp / (std::string("fixtures/golden/peft/") + name));
  }
  for (const char* const name : {"libnccl.so.2", "libcuda.so.1"}) {
    fs::create_symlink(BV_FAKE_NCCL, temp / (std::string("library/") + name));
  }
  fs::copy(fs::path(BV_ROOT) / "ci/gpu/run.sh", temp / "run.sh");
  fs::create_symlink(BV_COMMAND_ON_HOST, temp / "bin/bridge-verify");
  fs::create_symlink(BV_GPU_BENCH_ON_HOST, temp / "bin/bv_gpu_bench");
  fs::create_symlink(BV_CUDA_TEST, temp / "bin/bv_cuda_test");
  // The tests of the GPU are tests of their own here (label slow); the script runs the short ones.
  std::ofstream(temp / "bin/bv_gpu_test")
      << "#!/bin/sh\nexec " << BV_GPU_TEST_ON_HOST
      << " --gtest_filter=GpuKernels.*:Gpu.MergesAndTurns*:$EXTRA \"$@\"\n";
  fs::permissions(temp / "bin/bv_gpu_test", fs::perms::owner_all);
}

int run_script(const TempFolder& temp, const std::string& variables) {
  return shell(variables + " LD_LIBRARY_PATH='" + (temp / "library") + "' bash " +
               (temp / "run.sh") + " " + (temp / "results.json") + " 1 2>" + (temp / "errors.txt") +
               " >/dev/null");
}

nlohmann::json results_in(const TempFolder& temp) {
  return nlohmann::json::parse(file_text(temp / "results.json"));
}

/// ci/gpu/run.sh as on a GPU machine, with small benchmarks; what needs a GPU runs, on the host.
TEST(BundleOnHost, TheScriptRunsItsSuiteAndWritesEveryRow) {
  const TempFolder temp;
  make_folder(temp);
  // What a job and a user have set is not for the programs of the script.
  const std::string job =
      " RANK=0 WORLD_SIZE=4 MASTER_ADDR=127.0.0.1 MASTER_PORT=1 BRIDGE_VERIFY_TP=7";
  ASSERT_EQ(run_script(temp, "FAKE_CUDA=devices=2" + job), 0) << file_text(temp / "errors.txt");
  const auto results = results_in(temp);
  EXPECT_EQ(results["ran_on_gpu"], true);
  EXPECT_THAT(results["gpu"].get<std::string>(), HasSubstr("Host as a GPU 0"));
  EXPECT_EQ(results["models"].size(), 1U);
  EXPECT_EQ(results["models"][0]["exit"], 0);
  EXPECT_EQ(results["adapters"].size(), 2U);
  for (const auto& row : results["adapters"]) {
    EXPECT_EQ(row["same_bytes"], true) << row.dump();
  }
  EXPECT_GT(results["bv_gpu_test"]["tests"], 1);
  EXPECT_EQ(results["bv_gpu_test"]["failures"], 0);
  EXPECT_EQ(results["slice"]["cuda"]["exit"], 0);
  EXPECT_EQ(results["slice"]["cpu"]["exit"], 0);
  EXPECT_GT(results["slice"]["lora"]["kib"], 10);
  EXPECT_EQ(results["slice"]["lora"]["cuda"]["exit"], 0);
  EXPECT_EQ(results["slice"]["lora"]["cpu"]["exit"], 0);
  EXPECT_EQ(results["slice"]["lora"]["same_bytes"], true);
  const auto& bench = results["benchmarks"];
  EXPECT_GT(bench["kinds"].size(), 25U);
  std::set<int> runs;
  for (const auto& row : bench["kinds"]) {
    EXPECT_GT(row["ratio"], 0) << row.dump();
    runs.insert(row["run_bytes"].get<int>());
  }
  EXPECT_EQ(runs, (std::set<int>{2, 128, 512}));
  EXPECT_GT(bench["streaming"]["ratio"], 0);
  EXPECT_EQ(bench["merge"].size(), 6U);
  EXPECT_EQ(bench["collectives"].size(), 3U);
  for (const auto& row : bench["collectives"]) {
    EXPECT_EQ(row["ranks"], 2) << row.dump();
    EXPECT_GT(row["ratio"], 0) << row.dump();
  }
  // One GPU, and no NCCL.
  ASSERT_EQ(
      shell("FAKE_CUDA=devices=1 " + (temp / "bin/bv_gpu_bench") + " 1 >" + (temp / "alone.json")),
      0);
  const auto alone = nlohmann::json::parse(file_text(temp / "alone.json"))["collectives"];
  EXPECT_EQ(alone.size(), 3U);
  for (const auto& row : alone) {
    EXPECT_EQ(row["ranks"], 1) << row.dump();
    EXPECT_FALSE(row["nccl"].get<std::string>().empty()) << row.dump();
  }
}

/// A GPU that fails is neither "none here" nor green; none is exit 3; a test that skips itself
/// where there is a GPU is a fault, whatever its suite is called.
TEST(BundleOnHost, TheScriptSaysWhatWentWrong) {
  const TempFolder temp;
  make_folder(temp);
  EXPECT_EQ(run_script(temp, "FAKE_CUDA='fail=40 stays code=700'"), 1);
  EXPECT_EQ(run_script(temp, "FAKE_CUDA=devices=0"), 3) << file_text(temp / "errors.txt");
  EXPECT_THAT(file_text(temp / "errors.txt"), HasSubstr("NOT RUN ON A GPU"));
  EXPECT_EQ(results_in(temp)["ran_on_gpu"], false);
  // The rest of it is as above: no goldens, and no benchmarks.
  fs::remove_all(temp / "fixtures");
  fs::remove(temp / "bin/bv_gpu_bench");
  std::ofstream(temp / "bin/bv_gpu_bench")
      << "#!/bin/sh\ncase $1 in --adapter) exec " << BV_GPU_BENCH_ON_HOST
      << " \"$@\" ;; --device) echo a GPU ;; *) echo '{}' ;; esac\n";
  fs::permissions(temp / "bin/bv_gpu_bench", fs::perms::owner_all);
  for (const char* const line : {"[  SKIPPED ] Gpu.AreRight", "[  SKIPPED ] GpuWorlds.AreRight",
                                 "[       OK ] GpuWorlds.AreRight"}) {
    std::ofstream(temp / "bin/bv_gpu_test")
        << "#!/bin/sh\necho '" << line << "'\n"
        << "echo '{\"tests\": 2, \"failures\": 0}' >\"${1#--gtest_output=json:}\"\n";
    const bool skips = std::string_view(line).find("SKIPPED") != std::string_view::npos;
    EXPECT_EQ(run_script(temp, "FAKE_CUDA=devices=1"), skips ? 1 : 0)
        << line << file_text(temp / "errors.txt");
    EXPECT_EQ(file_text(temp / "errors.txt").find("skipped themselves") != std::string::npos, skips)
        << line;
  }
}

/// The bundle of this build, which is linked with more than glibc: refused for that, then for its
/// size, and then made; the number is what the folder has.
TEST(BundleOnHost, IsBelowFortyMebibytesAndRefusesWhatIsNot) {
  const TempFolder temp;
  fs::create_directories(temp / "build");
  for (const char* const file : {BV_BINARY, BV_CUDA_TEST, BV_GPU_TEST, BV_GPU_BENCH}) {
    fs::copy_file(file, temp / ("build/" + fs::path(file).filename().string()));
  }
  const auto make = [&](const std::string& variables, const std::string& mib) {
    return shell(variables + " bash " + (fs::path(BV_ROOT) / "ci/gpu/bundle.sh").string() + " " +
                 (temp / "build") + " " + (temp / "bundle") + " " + mib + " >" + (temp / "said") +
                 " 2>&1");
  };
  EXPECT_EQ(make("", "40"), 1);
  EXPECT_THAT(file_text(temp / "said"), HasSubstr("these are linked and would be missing there"));
  EXPECT_EQ(make("BV_BUNDLE_LINKED=1", "3"), 1);
  EXPECT_THAT(file_text(temp / "said"), HasSubstr("that is more than 3 MiB"));
  ASSERT_EQ(make("BV_BUNDLE_LINKED=1", "40"), 0) << file_text(temp / "said");
  std::smatch found;
  const std::string said = file_text(temp / "said");
  ASSERT_TRUE(std::regex_search(said, found, std::regex("bundle: ([0-9]+) MiB"))) << said;
  std::uintmax_t bytes = 0;
  for (const fs::directory_entry& one : fs::recursive_directory_iterator(temp / "bundle")) {
    bytes += one.is_regular_file() ? one.file_size() : 0;
  }
  EXPECT_LT(bytes, std::uintmax_t{40} << 20U);
  EXPECT_LT(std::abs(std::stod(found[1]) - static_cast<double>(bytes) / (1 << 20)), 4) << said;
  EXPECT_FALSE(fs::exists(temp / "bundle/bin"));  // unpacked by who starts it
  EXPECT_TRUE(fs::exists(temp / "bundle/fixtures/golden/peft/dora/base/config.json"));
}

}  // namespace
}  // namespace bv::e2e
