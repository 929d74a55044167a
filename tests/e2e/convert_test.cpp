// convert there and back, and every way in which it must not write.

#include <fmt/format.h>

#include <set>

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;

Ended to_megatron(const fs::path& model, const std::string& out,
                  const std::vector<std::string>& more = {}) {
  std::vector<std::string> line = {"convert",      "--to",  "megatron", "--model",
                                   model.string(), "--out", out};
  line.insert(line.end(), more.begin(), more.end());
  return run(line);
}

Ended to_hf(const std::string& model, const std::string& out,
            const std::vector<std::string>& more = {}) {
  std::vector<std::string> line = {"convert", "--to", "hf", "--model", model, "--out", out};
  line.insert(line.end(), more.begin(), more.end());
  return run(line);
}

/// Every file that belongs to the model: weights, index, config, other JSON.
std::map<std::string, std::string> files_of(const fs::path& folder) {
  std::map<std::string, std::string> out;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename() != "forward.safetensors") {
      out[entry.path().filename().string()] = file_text(entry.path());
    }
  }
  return out;
}

void expect_there_and_back(const std::string& model, const std::vector<std::string>& layout) {
  const TempFolder folder;
  const Ended there = to_megatron(golden_hf(model), folder / "m", layout);
  ASSERT_EQ(there.code, 0) << there.all();
  EXPECT_EQ(there.word(), "PASS");
  const Ended back = to_hf(folder / "m", folder / "h");
  ASSERT_EQ(back.code, 0) << back.all();
  EXPECT_EQ(back.word(), "PASS");
  const auto wanted = files_of(golden_hf(model));
  const auto found = files_of(folder / "h");
  for (const auto& [name, text] : wanted) {
    ASSERT_TRUE(found.contains(name)) << name;
    EXPECT_TRUE(found.at(name) == text)
        << name << " differs after " << fmt::format("{}", fmt::join(layout, " "));
  }
  EXPECT_EQ(found.size(), wanted.size());
}

TEST(Convert, ComesBackByteForByte) {
  expect_there_and_back("qwen3_5_vl_dense", {"--tp", "2"});
  expect_there_and_back("llama", {"--pp", "2", "--vpp", "2"});
  expect_there_and_back("llama", {"--pp", "2", "--decoder-first-pipeline-num-layers", "1"});
  expect_there_and_back("llama", {"--pp", "2", "--decoder-last-pipeline-num-layers", "1"});
  expect_there_and_back("llama", {"--tp", "4", "--make-vocab-size-divisible-by", "64"});
  expect_there_and_back("llama_tied_kv2",
                        {"--tp", "4", "--pp", "2", "--make-vocab-size-divisible-by", "8"});
  expect_there_and_back(
      "qwen3_moe", {"--tp", "2", "--ep", "4", "--etp", "1", "--make-vocab-size-divisible-by", "1"});
  expect_there_and_back("qwen3_5_vl_moe_mtp_per_expert", {"--tp", "2", "--pp", "2", "--ep", "2"});
  expect_there_and_back(
      "gpt_oss", {"--tp", "2", "--ep", "2", "--etp", "1", "--make-vocab-size-divisible-by", "2"});
  expect_there_and_back("deepseek_v3", {"--tp", "2", "--ep", "2", "--no-moe-grouped-gemm",
                                        "--make-vocab-size-divisible-by", "2"});
}

TEST(Convert, NamesWhatACastLoses) {
  const TempFolder folder;
  const Ended there =
      to_megatron(golden_hf("qwen3_5_dense"), folder / "m", {"--dtype", "bfloat16"});
  EXPECT_EQ(there.code, 1) << there.all();
  EXPECT_EQ(there.word(), "FAIL");
  EXPECT_NE(there.out.find("A_log"), std::string::npos) << there.out;
  EXPECT_NE(there.out.find("BV300"), std::string::npos) << there.out;
  const Ended widened = to_megatron(golden_hf("llama"), folder / "w", {"--dtype", "float32"});
  EXPECT_EQ(widened.code, 0) << widened.all();
  const Ended back = to_hf(folder / "w", folder / "h");
  EXPECT_EQ(back.code, 0) << back.all();
  EXPECT_TRUE(read_tensors(folder / "h") == read_tensors(golden_hf("llama")));
}

TEST(Convert, LeavesAFullFolderAlone) {
  const TempFolder folder;
  write_text(folder.path() / "m/keep.txt", "mine");
  const Ended refused = to_megatron(golden_hf("llama"), folder / "m");
  EXPECT_EQ(refused.code, 5) << refused.all();
  EXPECT_NE(refused.err.find("error[BV8006]"), std::string::npos);
  EXPECT_EQ(file_text(folder / "m/keep.txt"), "mine");
  const Ended kept = to_megatron(golden_hf("llama"), folder / "m", {"--overwrite"});
  EXPECT_EQ(kept.code, 5) << kept.all();
  EXPECT_NE(kept.err.find("error[BV8011]"), std::string::npos) << kept.err;
  EXPECT_NE(kept.err.find("keep.txt"), std::string::npos) << kept.err;
  EXPECT_EQ(file_text(folder / "m/keep.txt"), "mine");
  fs::remove(folder / "m/keep.txt");
  ASSERT_EQ(to_megatron(golden_hf("llama"), folder / "m").code, 0);
  const Ended replaced =
      to_megatron(golden_hf("llama"), folder / "m",
                  {"--tp", "2", "--make-vocab-size-divisible-by", "4", "--overwrite"});
  EXPECT_EQ(replaced.code, 0) << replaced.all();
  EXPECT_TRUE(fs::exists(folder / "m/pp0_tp1_ep0_etp0.safetensors"));
  write_text(folder.path() / "file", "x");
  EXPECT_EQ(to_megatron(golden_hf("llama"), folder / "file").code, 5);
  fs::create_directories(folder.path() / "empty");
  EXPECT_EQ(to_megatron(golden_hf("llama"), folder / "empty").code, 0);
}

TEST(Convert, NeverWritesIntoItsInput) {
  const TempFolder folder;
  fs::copy(golden_hf("llama"), folder.path() / "hf", fs::copy_options::recursive);
  const auto before = files_of(folder / "hf");
  for (const std::string& out : {folder / "hf", folder / "hf/m", folder / "hf/../hf/m"}) {
    for (const char* flag : {"--overwrite", "--resume"}) {
      const Ended ended = to_megatron(folder / "hf", out, {flag});
      EXPECT_EQ(ended.code, ended.err.find("BV0003") == std::string::npos ? 5 : 2) << ended.all();
      EXPECT_NE(ended.err.find("= help"), std::string::npos);
    }
  }
  EXPECT_TRUE(files_of(folder / "hf") == before);
  ASSERT_EQ(to_megatron(folder / "hf", folder / "m").code, 0);
  EXPECT_NE(to_hf(folder / "m", folder / "m/h").code, 0);
  EXPECT_NE(to_hf(folder / "m", folder / "m", {"--overwrite"}).code, 0);
  EXPECT_TRUE(fs::exists(folder / "m/manifest.json"));
}

TEST(Convert, RefusesAFolderThatIsNoMegatronFolder) {
  const TempFolder folder;
  const Ended ended = to_hf(golden_hf("llama").string(), folder / "h");
  EXPECT_EQ(ended.code, 5);
  EXPECT_EQ(ended.word(), "INPUT");
  EXPECT_EQ(run({"convert", "--model", golden_hf("llama").string(), "--out", folder / "h"}).code,
            2);
  EXPECT_EQ(run({"convert", "--to", "megatron", "--model", golden_hf("llama").string()}).code, 2);
}

TEST(Convert, ReportsReplicasThatDiverged) {
  const TempFolder folder;
  ASSERT_EQ(to_megatron(golden_hf("qwen3_vl"), folder / "m", {"--tp", "2"}).code, 0);
  const std::string shard = folder / "m/pp0_tp1_ep0_etp0.safetensors";
  auto tensors = read_tensors(shard);
  tensors.at("language_model.decoder.final_layernorm.weight").bytes[3] ^= std::byte{1};
  EditedCheckpoint damaged{nlohmann::ordered_json::object(), std::move(tensors)};
  damaged.write(folder.path() / "x");
  fs::rename(folder / "x/model.safetensors", shard);
  const Ended changed = to_hf(folder / "m", folder / "h");
  EXPECT_EQ(changed.code, 1) << changed.all();
  EXPECT_NE(changed.out.find("BV3008"), std::string::npos) << changed.out;
  const Ended ended = to_hf(folder / "m", folder / "h", {"--accept-changed"});
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_NE(ended.out.find("BV2010"), std::string::npos) << ended.out;
  EXPECT_NE(ended.out.find("language_model.decoder.final_layernorm.weight"), std::string::npos);
  EXPECT_FALSE(fs::exists(folder / "h"));
}

TEST(Convert, RefusesAMegatronFolderWithAMissingOrCutShard) {
  const TempFolder folder;
  ASSERT_EQ(to_megatron(golden_hf("qwen3_vl"), folder / "m", {"--tp", "2"}).code, 0);
  const std::string shard = folder / "m/pp0_tp1_ep0_etp0.safetensors";
  const std::string text = file_text(shard);
  fs::resize_file(shard, text.size() - 2);
  EXPECT_EQ(to_hf(folder / "m", folder / "h").code, 5);
  fs::remove(shard);
  EXPECT_EQ(to_hf(folder / "m", folder / "h").code, 5);
  EXPECT_FALSE(fs::exists(folder / "h"));
  write_text(shard, text);
  EXPECT_EQ(to_hf(folder / "m", folder / "h").code, 0);
}

}  // namespace
}  // namespace bv::e2e
