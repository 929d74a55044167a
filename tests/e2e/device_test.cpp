// --device cuda with the host in place of the GPU: the command with core/cuda whole, its kernels
// included, over the stand-in for the CUDA runtime (tests/support/cuda).

#include <gmock/gmock.h>

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

std::string peft_base(const std::string& name) {
  return fixture("golden/peft/" + name + "/base");
}
std::string peft_adapter(const std::string& name) {
  return fixture("golden/peft/" + name + "/adapter");
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
  const std::string model = golden_hf("qwen3_moe").string();
  const std::vector<Words> ways = {
      {"--to", "megatron", "--model", model, "--tp", "2", "--pp", "2"},
      {"--to", "torch_dist", "--model", model},
      {"--to", "megatron", "--model", peft_base("llama_all"), "--adapter",
       peft_adapter("llama_all"), "--tp", "2"},
      {"--to", "hf", "--model", temp / "way0"},
      {"--to", "torch_dist", "--model", peft_base("dora"), "--adapter", peft_adapter("dora")},
      {"--to", "megatron", "--model", peft_base("qwen35_moe"), "--adapter",
       peft_adapter("qwen35_moe"), "--tp", "2", "--ep", "2"}};
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

/// Every way that an adapter changes a base: products of rows and of columns, of experts, with
/// norms, with biases.
TEST(CommandOnHost, LoraMergeWritesTheFolderOfTheProcessor) {
  const TempFolder temp;
  int merged = 0;
  for (const fs::directory_entry& one : fs::directory_iterator(fixture("golden/peft"))) {
    const std::string name = one.path().filename().string();
    if (!fs::exists(one.path() / "adapter") || !fs::exists(one.path() / "base")) {
      continue;
    }
    const Words line = {"lora",          "merge",     "--model",
                        peft_base(name), "--adapter", peft_adapter(name),
                        "--untie",       "--out"};
    const Ended alone = run(line + Words{temp / "alone"});
    const Ended ended = on_host(line + Words{temp / "gpu", "--device", "cuda"},
                                ++merged % 2 == 0 ? "when=random" : "when=late");
    EXPECT_EQ(alone.code, 0) << name << alone.all();
    EXPECT_EQ(ended.code, 0) << name << ended.all();
    EXPECT_TRUE(contents(temp / "alone") == contents(temp / "gpu")) << name;
    fs::remove_all(temp / "alone");
    fs::remove_all(temp / "gpu");
  }
  EXPECT_GT(merged, 15);
}

/// `line` with calls of the runtime that fail one after the other: the folder is right, or it is
/// not there and the exit code says so.
template <typename Contents>
void expect_right_or_none(const Words& line, const std::string& out, const Contents& wanted) {
  int failed = 0;
  for (const char* kind : {" code=719", " code=700 stays", " code=2"}) {
    for (const int call : {1, 2, 4, 5, 7, 9, 10, 12, 14, 17, 20, 24, 30, 47, 81, 130}) {
      const Ended ended =
          on_host(line + Words{out, "--device", "cuda"}, "fail=" + std::to_string(call) + kind);
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

/// The folder is right, or there is none and the exit code says why.
TEST(CommandOnHost, LoraMergeWithAnyCallThatFailsWritesTheRightFolderOrNone) {
  const TempFolder temp;
  const Words line = {
      "lora",   "merge", "--model", peft_base("dora"), "--adapter", peft_adapter("dora"),
      "--jobs", "1",     "--out"};
  ASSERT_EQ(run(line + Words{temp / "alone"}).code, 0);
  const auto wanted = contents(temp / "alone");
  expect_right_or_none(line, temp / "out", wanted);
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

TEST(CommandOnHost, ConvertWithAnyCallThatFailsWritesTheRightFolderOrNone) {
  const TempFolder temp;
  const Words line = {"convert", "--to", "megatron", "--model", golden_hf("llama").string(),
                      "--tp",    "2",    "--jobs",   "1",       "--out"};
  ASSERT_EQ(run(line + Words{temp / "alone"}).code, 0);
  const auto wanted = contents(temp / "alone");
  expect_right_or_none(line, temp / "out", wanted);
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
  const Words merge = {"lora",      "merge",
                       "--model",   peft_base("llama_all"),
                       "--adapter", peft_adapter("llama_all"),
                       "--device",  "cuda",
                       "--out",     temp / "out"};
  for (const Words& one : {line, merge}) {
    const Ended little = on_host(one, "memory=6000000");
    EXPECT_EQ(little.code, 0) << little.all();
    EXPECT_THAT(little.flat(), HasSubstr("the GPU has little memory left: chunks of 2.1 MB"));
    fs::remove_all(temp / "out");
    const Ended none = on_host(one, "memory=1000");
    EXPECT_EQ(none.code, 5) << none.all();
    EXPECT_FALSE(fs::exists(temp / "out"));
  }
}

}  // namespace
}  // namespace bv::e2e
