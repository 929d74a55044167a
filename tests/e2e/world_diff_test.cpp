// Checkpoints that a world of processes compares: the verdicts of one process, whoever compares
// which tensor, and nothing is said of a mixture of copies.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <functional>

#include "tests/e2e/large_adapter.hpp"
#include "tests/e2e/world.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

/// The document of --json without what differs from run to run.
std::string stated(const Ended& end) {
  auto out = nlohmann::ordered_json::parse(end.out, nullptr, false);
  EXPECT_FALSE(out.is_discarded()) << end.all();
  if (out.is_object()) {
    out.erase("run");
  }
  return out.dump(1);
}

void expect_like_one_process(const Words& line, int code, const std::vector<int>& sizes) {
  SCOPED_TRACE(line[0] + " " + line[1] + " ... " + line.back());
  const Words told = line + Words{"--json"};
  const Ended alone = run(told);
  ASSERT_EQ(alone.code, code) << alone.all();
  const std::string wanted = stated(alone);
  for (const int size : sizes) {
    const auto ends = run_world(size, told);
    for (std::size_t rank = 0; rank < ends.size(); ++rank) {
      EXPECT_EQ(ends[rank].code, code) << size << ends[rank].all();
      EXPECT_EQ(rank == 0, !ends[rank].all().empty()) << "rank 0 alone speaks" << ends[rank].all();
    }
    EXPECT_EQ(stated(ends[0]), wanted) << size;
  }
}

Words shards_line(const std::string& model, const std::string& out, const Words& layout) {
  return Words{"convert", "--to", "megatron", "--model", model, "--out", out} + layout;
}

/// Bits of every n-th tensor of every file are others.
void damage(const fs::path& folder, std::size_t n) {
  std::size_t number = 0;
  for (const std::string& file : files_below(folder)) {
    if (!file.ends_with(".safetensors")) {
      continue;
    }
    EditedCheckpoint edited;
    edited.tensors = read_tensors(folder / file);
    for (auto& [name, tensor] : edited.tensors) {
      if (number++ % n == 0 && tensor.bytes.size() > 64) {
        std::rotate(tensor.bytes.begin(), tensor.bytes.begin() + 32, tensor.bytes.end());
      }
    }
    const TempFolder temp;
    edited.config = nlohmann::ordered_json::object();
    edited.write(temp.path());
    fs::remove(folder / file);
    fs::copy(temp.path() / "model.safetensors", folder / file);
  }
  EXPECT_GT(number, n);
}

TEST(WorldDiff, CheckOfShardsGivesTheVerdictsOfOneProcess) {
  for (const char* name : {"llama", "qwen3_moe"}) {
    const TempFolder temp;
    const std::string model = golden_hf(name).string();
    ASSERT_EQ(run(shards_line(model, temp / "shards", {"--tp", "2", "--pp", "2"})).code, 0);
    const Words line = {"check", "--model", model, "--megatron", temp / "shards"};
    expect_like_one_process(line, 0, {2, 4, 8});
    expect_like_one_process(line + Words{"--accept-changed"}, 0, {3});
    damage(temp.path() / "shards", 5);
    expect_like_one_process(line, 1, {2, 4, 8});
    expect_like_one_process({"diff", model, temp / "shards"}, 1, {2, 3});
    const Words accepts = line + Words{"--accept-changed"};  // copies of ranks stay one tensor
    expect_like_one_process(accepts, run(accepts).code, {3});
  }
}

TEST(WorldDiff, TwoModelsAreComparedLikeByOneProcess) {
  const TempFolder temp;
  const std::string model = golden_hf("qwen3_moe").string();
  fs::copy(model, temp / "other", fs::copy_options::recursive);
  for (const std::string& file : files_below(temp / "other")) {
    fs::permissions(fs::path(temp / "other") / file, fs::perms::owner_write, fs::perm_options::add);
  }
  fs::permissions(temp / "other", fs::perms::owner_write, fs::perm_options::add);
  expect_like_one_process({"diff", model, temp / "other"}, 0, {2, 4, 8});
  damage(temp.path() / "other", 4);
  expect_like_one_process({"diff", model, temp / "other"}, 1, {2, 4, 8});
  expect_like_one_process({"check", "--model", model, "--against", temp / "other"}, 1, {2, 5});
  expect_like_one_process({"diff", model, temp / "other", "--dtype", "float32"}, 1, {2});
}

TEST(WorldDiff, ATorchDistCheckpointIsComparedLikeByOneProcess) {
  const TempFolder temp;
  const std::string model = golden_hf("llama").string();
  ASSERT_EQ(run({"convert", "--to", "torch_dist", "--model", model, "--out", temp / "dist"}).code,
            0);
  const Words line = {"check", "--model", model, "--megatron", temp / "dist"};
  expect_like_one_process(line, 0, {2, 4});
  EditedCheckpoint other = EditedCheckpoint::golden("llama");
  for (auto& [name, tensor] : other.tensors) {
    if (name.ends_with("up_proj.weight")) {
      std::rotate(tensor.bytes.begin(), tensor.bytes.begin() + 32, tensor.bytes.end());
    }
  }
  other.write(temp.path() / "hf");
  expect_like_one_process({"check", "--model", temp / "hf", "--megatron", temp / "dist"}, 1,
                          {2, 4});
}

TEST(WorldDiff, ShardsWithAnAdapterInThemAreComparedLikeByOneProcess) {
  const TempFolder temp;
  const std::string base = fixture("golden/peft/llama_all/base");
  const std::string adapter = fixture("golden/peft/llama_all/adapter");
  ASSERT_EQ(run(shards_line(base, temp / "shards", {"--tp", "2", "--adapter", adapter})).code, 0);
  const Words line = {"check", "--model", base, "--megatron", temp / "shards"};
  expect_like_one_process(line + Words{"--adapter", adapter}, 0, {2, 4});
  expect_like_one_process(line, 1, {2});
  fs::copy(adapter, temp / "other");
  auto config = nlohmann::json::parse(file_text(temp / "other/adapter_config.json"));
  config["lora_alpha"] = 7;
  write_text(temp.path() / "other/adapter_config.json", config.dump());
  const auto ends = run_world(3, line + Words{"--adapter", adapter},
                              {{1, {.arguments = line + Words{"--adapter", temp / "other"}}}});
  for (const Ended& end : ends) {
    EXPECT_EQ(end.code, 5) << end.all();
  }
  EXPECT_THAT(ends[0].flat(), HasSubstr("rank 1 has another adapter than rank 0"));
}

TEST(WorldDiff, CopiesThatDifferAreNeverOneSide) {
  const TempFolder temp;
  const std::string model = golden_hf("llama").string();
  ASSERT_EQ(run(shards_line(model, temp / "shards", {"--tp", "2"})).code, 0);
  fs::copy(temp / "shards", temp / "equal", fs::copy_options::recursive);
  fs::copy(temp / "shards", temp / "odd", fs::copy_options::recursive);
  damage(temp.path() / "odd", 1);
  const auto line = [&](const std::string& shards) {
    return Words{"check", "--model", model, "--megatron", temp / shards};
  };
  for (const int odd : {0, 1}) {
    for (const Ended& end : run_world(2, line("shards"), {{odd, {.arguments = line("equal")}}})) {
      EXPECT_EQ(end.code, 0) << end.all();
    }
    const auto ends = run_world(2, line("shards"), {{odd, {.arguments = line("odd")}}});
    for (const Ended& end : ends) {
      EXPECT_EQ(end.code, 5) << end.all();
    }
    EXPECT_THAT(ends[0].flat(), ContainsRegex("BV8017.?: rank 1")) << odd;
    EXPECT_THAT(ends[0].all(), Not(HasSubstr("PASS")));
  }
}

TEST(WorldDiff, AProcessThatIsKilledIsNamed) {
  const TempFolder temp;
  large_llama(512, 12).write(temp.path() / "a");
  large_llama(512, 12).write(temp.path() / "b");
  for (const int odd : {1, 2}) {
    const auto kill = [&, done = false](pid_t process) mutable {
      if (!done &&
          file_text(fmt::format("/proc/{}/maps", process)).find(temp / "b") != std::string::npos) {
        done = true;
        ::kill(process, SIGKILL);
      }
    };
    const auto ends =
        run_world(3, {"diff", temp / "a", temp / "b", "-j", "1"}, {{odd, {.watch = kill}}});
    EXPECT_EQ(ends[0].code, 5) << ends[0].all();
    EXPECT_THAT(ends[0].flat(), ContainsRegex(fmt::format("BV8004.?: rank {}", odd)));
  }
}

TEST(WorldDiff, AMistakeIsToldOnce) {
  const std::string model = golden_hf("llama").string();
  const std::vector<Words> lines = {
      {"check", "--model", model, "--megatron", "/no/such/folder"},
      {"check", "--model", model, "--megatron", model, "--only", "bytes"},
      {"check", "--model", model, "--untie"},
      {"check", "--model", model, "--accept-changed"},
      {"diff", model},
      {"diff", model, "/no/such/folder"}};
  for (const Words& line : lines) {
    const Ended alone = run(line);
    const auto ends = run_world(3, line);
    for (std::size_t rank = 0; rank < ends.size(); ++rank) {
      EXPECT_EQ(ends[rank].code, alone.code) << rank << ends[rank].all();
      EXPECT_EQ(rank == 0, !ends[rank].all().empty()) << ends[rank].all();
    }
    EXPECT_NE(alone.code, 0);
  }
}

}  // namespace
}  // namespace bv::e2e
