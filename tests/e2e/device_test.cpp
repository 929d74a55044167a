// --device cuda with the host in place of the GPU: the command with core/cuda whole, its kernels
// included, over the stand-in for the CUDA runtime (tests/support/cuda).

#include <gmock/gmock.h>
#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <set>
#include <thread>

#include "tests/e2e/world.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using ::testing::AnyOf;
using ::testing::HasSubstr;

/// Runs the command that has the host as its GPU; `chosen` is FAKE_CUDA.
Ended on_host(const Words& arguments, const std::string& chosen = "") {
  Setting setting;
  setting.program = BV_COMMAND_ON_HOST;
  setting.variables = {{"FAKE_CUDA", chosen}};
  return run_in(setting, arguments);
}

TEST(CommandOnHost, ChecksEveryBitOfAModelOfEachWayToMove) {
  for (const char* name : {"qwen3_moe_packed", "gpt_oss", "gemma3_text"}) {
    const Ended ended = on_host({"roundtrip", "--model", golden_hf(name).string(), "--tp", "2",
                                 "--device", "cuda", "--only", "bytes,gpu", "--dtype", "float32"});
    EXPECT_EQ(ended.code, 0) << name << ended.all();
    EXPECT_THAT(ended.all(), HasSubstr("G GPU result identical to CPU")) << name;
  }
}

TEST(CommandOnHost, ConvertWritesTheFolderOfTheProcessorEveryWay) {
  const TempFolder temp;
  const std::string peft = fixture("golden/peft/llama_all/");
  const std::string model = golden_hf("qwen3_moe").string();
  const std::vector<Words> ways = {
      {"--to", "megatron", "--model", model, "--tp", "2", "--pp", "2"},
      {"--to", "torch_dist", "--model", model},
      {"--to", "megatron", "--model", peft + "base", "--adapter", peft + "adapter", "--tp", "2"},
      {"--to", "hf", "--model", temp / "way0"}};
  for (std::size_t i = 0; i < ways.size(); ++i) {
    const std::string out = temp / ("way" + std::to_string(i));
    const Ended alone = run(Words{"convert", "--out", out} + ways[i]);
    ASSERT_EQ(alone.code, 0) << i << alone.all();
    const Ended ended =
        on_host(Words{"convert", "--device", "cuda", "--out", out + "gpu"} + ways[i],
                i % 2 == 0 ? "when=random" : "when=late");
    EXPECT_EQ(ended.code, 0) << i << ended.all();
    EXPECT_TRUE(contents(out) == contents(out + "gpu")) << i;
  }
}

TEST(CommandOnHost, AWorldTakesADeviceForEachProcess) {
  const TempFolder temp;
  const Words line = {"convert", "--to", "megatron", "--model", golden_hf("llama").string(),
                      "--tp",    "2",    "--out"};
  ASSERT_EQ(run(line + Words{temp / "alone"}).code, 0);
  const auto in_world = [&](const std::string& out, const std::string& chosen) {
    std::vector<Ended> ends(2);
    std::vector<std::thread> threads;
    const int port = free_port();
    for (int rank = 0; rank < 2; ++rank) {
      threads.emplace_back([&, rank] {
        Setting setting;
        setting.program = BV_COMMAND_ON_HOST;
        setting.variables = torchrun(rank, 2, port);
        setting.variables["FAKE_CUDA"] = chosen;
        ends[static_cast<std::size_t>(rank)] =
            run_in(setting, line + Words{out, "--device", "cuda", "--patience", "20"});
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
    return ends;
  };
  for (const Ended& end : in_world(temp / "two", "devices=2")) {
    EXPECT_EQ(end.code, 0) << end.all();
  }
  EXPECT_TRUE(contents(temp / "two") == contents(temp / "alone"));
  for (const Ended& end : in_world(temp / "one", "devices=1")) {  // each process sees its own alone
    EXPECT_EQ(end.code, 0) << end.all();
  }
  EXPECT_TRUE(contents(temp / "one") == contents(temp / "alone"));
  const auto ends = in_world(temp / "none", "devices=0");
  EXPECT_EQ(ends[0].code, 5) << ends[0].all();
  EXPECT_EQ(ends[1].code, 5) << ends[1].all();
  EXPECT_THAT(ends[0].flat(), HasSubstr("--device cuda: there is no GPU "));
  EXPECT_FALSE(fs::exists(temp / "none"));
}

/// Calls of the runtime fail one after the other: the folder is right, or it is not there and the
/// exit code says so.
TEST(CommandOnHost, ConvertWithAnyCallThatFailsWritesTheRightFolderOrNone) {
  const TempFolder temp;
  const Words line = {"convert", "--to", "megatron", "--model", golden_hf("llama").string(),
                      "--tp",    "2",    "--out"};
  ASSERT_EQ(run(line + Words{temp / "alone"}).code, 0);
  const auto wanted = contents(temp / "alone");
  int failed = 0;
  for (const char* kind : {" code=719", " code=700 stays", " code=2"}) {
    for (const int call : {1, 2, 4, 5, 7, 9, 10, 12, 14, 17, 20, 24, 30, 47, 81, 130}) {
      const std::string out = temp / "out";
      const Ended ended = on_host(line + Words{out, "--device", "cuda", "--jobs", "1"},
                                  "fail=" + std::to_string(call) + kind);
      if (fs::exists(out)) {
        EXPECT_EQ(ended.code, 0) << call << kind << ended.all();
        EXPECT_TRUE(contents(out) == wanted) << call << kind;
        fs::remove_all(out);
        continue;
      }
      ++failed;
      EXPECT_EQ(ended.code, 5) << call << kind << ended.all();
      EXPECT_THAT(ended.all(), AnyOf(HasSubstr("BV8003"), HasSubstr("BV8002"))) << call << kind;
    }
  }
  EXPECT_GT(failed, 10);
}

TEST(CommandOnHost, ACheckWhoseDeviceFailsIsNeverGreenAndNeverRefuted) {
  for (const int call : {3, 8, 15, 40, 90}) {
    for (const char* kind : {"", " stays code=700"}) {
      const Ended ended = on_host({"roundtrip", "--model", golden_hf("llama").string(), "--tp", "2",
                                   "--device", "cuda", "--only", "bytes,gpu", "--jobs", "1"},
                                  "fail=" + std::to_string(call) + kind);
      EXPECT_THAT(ended.all(), HasSubstr("refuted 0")) << call << kind;
      EXPECT_TRUE(ended.code == 3 || ended.code == 5 || ended.code == 0) << ended.all();
      EXPECT_EQ(ended.code == 0, ended.word() == "PASS") << call << kind << ended.all();
      if (std::string(kind).find("stays") != std::string::npos) {
        EXPECT_NE(ended.code, 0) << call << ended.all();
      }
    }
  }
}

TEST(CommandOnHost, LittleMemoryIsANoteAndNoneAnError) {
  const TempFolder temp;
  const Words line = {"convert",   "--to", "megatron", "--model", golden_hf("llama").string(),
                      "--tp",      "2",    "--device", "cuda",    "--out",
                      temp / "out"};
  const Ended little = on_host(line, "memory=6000000");
  EXPECT_EQ(little.code, 0) << little.all();
  EXPECT_THAT(little.flat(), HasSubstr("the GPU has little memory left: chunks of 2.1 MB"));
  fs::remove_all(temp / "out");
  const Ended none = on_host(line, "memory=1000");
  EXPECT_EQ(none.code, 5) << none.all();
  EXPECT_FALSE(fs::exists(temp / "out"));
}

/// ci/gpu/run.sh as on a GPU machine, with small benchmarks; what needs a GPU runs, on the host.
TEST(CommandOnHost, TheScriptOfTheBundleRunsItsSuiteAndWritesEveryRow) {
  const TempFolder temp;
  fs::create_directories(temp / "bin");
  fs::create_directories(temp / "fixtures/golden/hf");
  fs::create_directory_symlink(golden_hf("qwen3"), temp / "fixtures/golden/hf/qwen3");
  fs::copy(fs::path(BV_ROOT) / "ci/gpu/run.sh", temp / "run.sh");
  const auto stand_in = [&](const std::string& name, const std::string& body) {
    std::ofstream(temp / ("bin/" + name)) << "#!/bin/sh\n" << body << "\n";
    fs::permissions(temp / ("bin/" + name), fs::perms::owner_all);
  };
  fs::create_symlink(BV_COMMAND_ON_HOST, temp / "bin/bridge-verify");
  fs::create_symlink(BV_GPU_BENCH_ON_HOST, temp / "bin/bv_gpu_bench");
  fs::create_symlink(BV_CUDA_TEST, temp / "bin/bv_cuda_test");
  // The tests of the GPU are tests of their own here (label slow); the script runs the short ones.
  stand_in("bv_gpu_test", std::string("exec ") + BV_GPU_TEST_ON_HOST +
                              " --gtest_filter=GpuKernels.*:Gpu.MergesAndTurns* \"$@\"");
  const auto run_script = [&](const std::string& chosen) {
    const std::string line = "FAKE_CUDA='" + chosen + "' bash " + (temp / "run.sh") + " " +
                             (temp / "results.json") + " 1 2>" + (temp / "errors.txt") +
                             " >/dev/null";
    const int status = std::system(line.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  ASSERT_EQ(run_script("devices=1"), 0) << file_text(temp / "errors.txt");
  const auto results = nlohmann::json::parse(file_text(temp / "results.json"));
  EXPECT_EQ(results["ran_on_gpu"], true);
  EXPECT_THAT(results["gpu"].get<std::string>(), HasSubstr("Host as a GPU 0"));
  EXPECT_EQ(results["models"].size(), 1U);
  EXPECT_EQ(results["models"][0]["exit"], 0);
  EXPECT_GT(results["bv_gpu_test"]["tests"], 1);
  EXPECT_EQ(results["bv_gpu_test"]["failures"], 0);
  EXPECT_EQ(results["slice"]["cuda"]["exit"], 0);
  EXPECT_EQ(results["slice"]["cpu"]["exit"], 0);
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
  // A GPU that fails is neither "none here" nor green; none is exit 3.
  EXPECT_EQ(run_script("fail=40 stays code=700"), 1);
  EXPECT_EQ(run_script("devices=0"), 3) << file_text(temp / "errors.txt");
  EXPECT_THAT(file_text(temp / "errors.txt"), HasSubstr("NOT RUN ON A GPU"));
  EXPECT_EQ(nlohmann::json::parse(file_text(temp / "results.json"))["ran_on_gpu"], false);
}

}  // namespace
}  // namespace bv::e2e
