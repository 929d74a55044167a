// Unusable inputs (ux.md 8.3): the message, the code, exit 5, and the last line.

#include <fmt/format.h>

#include <cstring>

#include "tests/e2e/checkpoint_edit.hpp"
#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;

void expect_input_error(const Ended& ended, const std::string& code,
                        const std::vector<std::string>& texts) {
  EXPECT_EQ(ended.code, 5) << ended.all();
  EXPECT_EQ(ended.word(), "INPUT") << ended.out;
  EXPECT_NE(ended.err.find("error[" + code + "]"), std::string::npos) << ended.err;
  EXPECT_NE(ended.err.find("= help"), std::string::npos) << ended.err;
  for (const std::string& text : texts) {
    EXPECT_NE(ended.err.find(text), std::string::npos) << text << "\n" << ended.err;
  }
}

/// A copy of a golden model that a test may damage.
struct Copy {
  explicit Copy(const std::string& name, const std::string& as = "m") : folder(temp.path() / as) {
    fs::copy(golden_hf(name), folder, fs::copy_options::recursive);
    fs::remove(folder / "forward.safetensors");
  }
  [[nodiscard]] Ended check() const { return run({"check", "--model", folder.string()}); }
  TempFolder temp;
  fs::path folder;
};

TEST(BadInput, TensorParallelSizeDoesNotDivide) {
  const Ended ended = run(
      {"--model", golden_hf("llama").string(), "--tp", "3", "--make-vocab-size-divisible-by", "4"});
  expect_input_error(ended, "BV2002",
                     {"TP=3 does not divide", "the 8 query heads of self_attention.linear_qkv",
                      "legal TP for this model: 1 2 4"});
}

TEST(BadInput, ExpertParallelSizeDoesNotDivide) {
  const Ended ended = run({"--model", golden_hf("qwen3_moe").string(), "--ep", "3"});
  expect_input_error(ended, "BV2002",
                     {"EP=3 does not divide the 8 experts", "legal EP for this model: 1 2 4 8"});
}

TEST(BadInput, ModelIsNotInTheCache) {
  const TempFolder cache;
  fs::create_directories(cache.path() / "models--Qwen--Qwen3.5-4B" / "snapshots");
  const Ended ended =
      run({"--model", "Qwen/Qwen3.5-9B"}, {{"HF_HUB_CACHE", cache.path().string()}});
  expect_input_error(ended, "BV7001",
                     {"Qwen/Qwen3.5-9B is not in the HF cache", cache / "models--Qwen--Qwen3.5-9B",
                      "Qwen/Qwen3.5-4B", "hf download Qwen/Qwen3.5-9B"});
}

TEST(BadInput, FolderHasNoConfig) {
  const TempFolder folder;
  for (int i = 0; i < 16; ++i) {
    write_text(folder.path() / fmt::format("__{}_0.distcp", i), "x");
  }
  expect_input_error(run({"--model", folder.path().string()}), "BV7003",
                     {"has no config.json", "16 *.distcp files: a Megatron torch_dist checkpoint"});
}

TEST(BadInput, WeightsArePickles) {
  const Copy copy("llama");
  for (const auto& entry : fs::directory_iterator(copy.folder)) {
    if (entry.path().filename().string().starts_with("model")) {
      fs::remove(entry.path());
    }
  }
  write_text(copy.folder / "pytorch_model.bin", "x");
  expect_input_error(copy.check(), "BV7013",
                     {"pickle files can run code and are not read", "safe_serialization=True"});
}

TEST(BadInput, ShardEndsInsideItsHeader) {
  const Copy copy("llama");
  fs::resize_file(copy.folder / "model-00002-of-00002.safetensors", 120);
  expect_input_error(copy.check(), "BV7004",
                     {"model-00002-of-00002.safetensors", "ends inside its header", "120"});
}

TEST(BadInput, HeaderLengthIsAbsurd) {
  const Copy copy("qwen3_5_dense");
  std::string text = file_text(copy.folder / "model.safetensors");
  const std::uint64_t length = std::uint64_t{1} << 60;
  std::memcpy(text.data(), &length, sizeof length);
  write_text(copy.folder / "model.safetensors", text);
  expect_input_error(copy.check(), "BV7004", {"1,152,921,504,606,846,976", "100 MB"});
}

std::string safetensors(const std::string& header, std::size_t data) {
  const std::uint64_t length = header.size();
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, sizeof length);
  return out + header + std::string(data, '\0');
}

TEST(BadInput, TensorStandsTwiceInAHeader) {
  const Copy copy("qwen3_5_dense");
  write_text(copy.folder / "model.safetensors",
             safetensors(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                         R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                         2));
  expect_input_error(copy.check(), "BV7009", {"\"a\" appears twice"});
}

TEST(BadInput, OffsetsOverlapOrLeaveAHole) {
  const Copy copy("qwen3_5_dense");
  write_text(copy.folder / "model.safetensors",
             safetensors(R"({"q":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},)"
                         R"("k":{"dtype":"U8","shape":[8],"data_offsets":[4,12]}})",
                         12));
  expect_input_error(copy.check(), "BV7006", {"\"q\"", "\"k\"", "share"});
  write_text(copy.folder / "model.safetensors",
             safetensors(R"({"q":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},)"
                         R"("k":{"dtype":"U8","shape":[8],"data_offsets":[72,80]}})",
                         80));
  expect_input_error(copy.check(), "BV7006", {"64 bytes"});
}

TEST(BadInput, IndexNamesAnotherShard) {
  const Copy copy("llama");
  std::string index = file_text(copy.folder / "model.safetensors.index.json");
  auto json = nlohmann::json::parse(index);
  std::string& shard = json["weight_map"]["lm_head.weight"].get_ref<std::string&>();
  const std::string before = shard;
  shard = before == "model-00001-of-00002.safetensors" ? "model-00002-of-00002.safetensors"
                                                       : "model-00001-of-00002.safetensors";
  write_text(copy.folder / "model.safetensors.index.json", json.dump());
  expect_input_error(copy.check(), "BV7007", {"lm_head.weight", before});
}

TEST(BadInput, ConfigHasATrailingComma) {
  const Copy copy("llama");
  std::string text = file_text(copy.folder / "config.json");
  text.insert(text.rfind('}'), ",\n");
  write_text(copy.folder / "config.json", text);
  expect_input_error(copy.check(), "BV7014", {"config.json is not JSON: line ", "column", "^"});
}

TEST(BadInput, ConfigLacksKeyValueHeads) {
  EditedCheckpoint model = EditedCheckpoint::read(golden_hf("qwen3_5_vl_dense"));
  model.text_config().erase("num_key_value_heads");
  const TempFolder folder;
  model.write(folder.path() / "m");
  expect_input_error(
      run({"check", "--model", folder / "m"}), "BV7014",
      {"num_key_value_heads", "text_config", "--set text_config.num_key_value_heads="});
  const Ended told =
      run({"check", "--model", folder / "m", "--set", "text_config.num_key_value_heads=4"});
  EXPECT_EQ(told.code, 0) << told.all();
}

TEST(BadInput, ArchitectureIsUnknown) {
  EditedCheckpoint model = EditedCheckpoint::read(golden_hf("llama"));
  model.config["architectures"] = {"FooForCausalLM"};
  model.config["model_type"] = "foo";
  const TempFolder folder;
  model.write(folder.path() / "m");
  expect_input_error(run({"check", "--model", folder / "m"}), "BV7010",
                     {"no rules for architecture FooForCausalLM (model_type foo)", "--rules FILE"});
  EXPECT_EQ(run({"inspect", "--model", folder / "m"}).code, 0);
}

TEST(BadInput, NothingIsThere) {
  expect_input_error(run({"check", "--model", "/nowhere/at/all"}), "BV7001", {"/nowhere/at/all"});
  expect_input_error(run({"check", "--model", golden_hf("lama").string()}), "BV7001", {"llama"});
}

}  // namespace
}  // namespace bv::e2e
