// The bad inputs of docs/reference/messages.md#bad-inputs, each on the real binary: the whole
// message as a text of fixtures/text/bad_input, its code, the exit code, and the last line.

#include <fmt/format.h>

#include <cstring>

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;

/// Both streams, as fixtures/text/bad_input/NUMBER.txt has them.
void expect_text(const Ended& ended, const std::string& number) {
  expect_golden("bad_input/" + number, unwrapped(without_places(ended.err + ended.out)));
}

void expect_input_error(const Ended& ended, const std::string& number, const std::string& code,
                        const std::vector<std::string>& texts) {
  EXPECT_EQ(ended.code, 5) << ended.all();
  EXPECT_EQ(ended.word(), "INPUT") << ended.out;
  EXPECT_NE(ended.all().find("error[" + code + "]"), std::string::npos) << ended.all();
  EXPECT_NE(ended.all().find("= help"), std::string::npos) << ended.all();
  for (const std::string& text : texts) {
    EXPECT_NE(ended.flat().find(text), std::string::npos) << text << "\n" << ended.all();
  }
  expect_text(ended, number);
}

/// A copy of a golden model that a test may damage.
struct Copy : ModelCopy {
  using ModelCopy::ModelCopy;
  [[nodiscard]] Ended check() const { return run({"check", "--model", folder.string()}); }
};

TEST(BadInput, TensorParallelSizeDoesNotDivide) {
  const Ended ended = run(
      {"--model", golden_hf("llama").string(), "--tp", "3", "--make-vocab-size-divisible-by", "4"});
  expect_input_error(ended, "03", "BV2002",
                     {"TP=3 does not divide", "the 8 query heads of self_attention.linear_qkv",
                      "legal TP for this model: 1 2 4"});
}

TEST(BadInput, ExpertParallelSizeDoesNotDivide) {
  const Ended ended = run({"--model", golden_hf("qwen3_moe").string(), "--ep", "3"});
  expect_input_error(ended, "04", "BV2002",
                     {"EP=3 does not divide the 8 experts", "legal EP for this model: 1 2 4 8"});
}

TEST(BadInput, ModelIsNotInTheCache) {
  const TempFolder cache;
  fs::create_directories(cache.path() / "models--Qwen--Qwen3.5-4B" / "snapshots");
  const Ended ended =
      run({"--model", "Qwen/Qwen3.5-9B"}, {{"HF_HUB_CACHE", cache.path().string()}});
  expect_input_error(ended, "05", "BV7001",
                     {"Qwen/Qwen3.5-9B is not in the HF cache", cache / "models--Qwen--Qwen3.5-9B",
                      "Qwen/Qwen3.5-4B", "hf download Qwen/Qwen3.5-9B"});
}

TEST(BadInput, FolderHasNoConfig) {
  const TempFolder folder;
  for (int i = 0; i < 16; ++i) {
    write_text(folder.path() / fmt::format("__{}_0.distcp", i), "x");
  }
  expect_input_error(run({"--model", folder.path().string()}), "07", "BV7003",
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
  expect_input_error(copy.check(), "08", "BV7013",
                     {"not an archive of torch.save", "safe_serialization=True"});
}

TEST(BadInput, ShardEndsInsideItsHeader) {
  const Copy copy("llama");
  fs::resize_file(copy.folder / "model-00002-of-00002.safetensors", 120);
  expect_input_error(copy.check(), "09", "BV7004",
                     {"model-00002-of-00002.safetensors", "ends inside its header", "120"});
}

TEST(BadInput, HeaderLengthIsAbsurd) {
  const Copy copy("qwen3_5_dense");
  std::string text = file_text(copy.folder / "model.safetensors");
  const std::uint64_t length = std::uint64_t{1} << 60;
  std::memcpy(text.data(), &length, sizeof length);
  write_text(copy.folder / "model.safetensors", text);
  expect_input_error(copy.check(), "10", "BV7004", {"1,152,921,504,606,846,976", "100 MB"});
}

TEST(BadInput, TensorStandsTwiceInAHeader) {
  const Copy copy("qwen3_5_dense");
  write_text(copy.folder / "model.safetensors",
             safetensors(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                         R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                         2));
  expect_input_error(copy.check(), "11", "BV7009", {"\"a\" appears twice"});
}

TEST(BadInput, OffsetsOverlapOrLeaveAHole) {
  const Copy copy("qwen3_5_dense");
  write_text(copy.folder / "model.safetensors",
             safetensors(R"({"q":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},)"
                         R"("k":{"dtype":"U8","shape":[8],"data_offsets":[4,12]}})",
                         12));
  expect_input_error(copy.check(), "12_overlap", "BV7006", {"\"q\"", "\"k\"", "share"});
  write_text(copy.folder / "model.safetensors",
             safetensors(R"({"q":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},)"
                         R"("k":{"dtype":"U8","shape":[8],"data_offsets":[72,80]}})",
                         80));
  expect_input_error(copy.check(), "12_hole", "BV7006", {"64 bytes"});
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
  expect_input_error(copy.check(), "13", "BV7007", {"lm_head.weight", before});
}

TEST(BadInput, ConfigHasATrailingComma) {
  const Copy copy("llama");
  std::string text = file_text(copy.folder / "config.json");
  text.insert(text.rfind('}'), ",\n");
  write_text(copy.folder / "config.json", text);
  expect_input_error(copy.check(), "14", "BV7014",
                     {"config.json is not JSON: line ", "column", "^"});
}

TEST(BadInput, ConfigHasNoNumberWhereTransformersWantsOne) {
  EditedCheckpoint model = EditedCheckpoint::golden("qwen3_5_vl_dense");
  model.text_config()["num_key_value_heads"] = nullptr;
  const TempFolder folder;
  model.write(folder.path() / "m");
  expect_input_error(run({"check", "--model", folder / "m"}), "15", "BV7014",
                     {"text_config.num_key_value_heads is null", "--set"});
  const Ended told =
      run({"check", "--model", folder / "m", "--set", "text_config.num_key_value_heads=4"});
  EXPECT_EQ(told.code, 0) << told.all();
}

TEST(BadInput, ArchitectureIsUnknown) {
  EditedCheckpoint model = EditedCheckpoint::golden("llama");
  model.config["architectures"] = {"FooForCausalLM"};
  model.config["model_type"] = "foo";
  const TempFolder folder;
  model.write(folder.path() / "m");
  expect_input_error(run({"check", "--model", folder / "m"}), "16", "BV7010",
                     {"no rules for architecture FooForCausalLM (model_type foo)", "--rules FILE"});
  EXPECT_EQ(run({"inspect", "--model", folder / "m"}).code, 0);
}

TEST(BadInput, NothingIsThere) {
  expect_input_error(run({"check", "--model", "/nowhere/at/all"}), "nowhere", "BV7001",
                     {"/nowhere/at/all"});
  expect_input_error(run({"check", "--model", golden_hf("lama").string()}), "similar", "BV7001",
                     {"llama"});
}

/// A refusal before any work.
void expect_usage(const Ended& ended, const std::string& number, const std::string& code,
                  const std::vector<std::string>& texts) {
  EXPECT_EQ(ended.code, 2) << ended.all();
  EXPECT_EQ(ended.word(), "USAGE") << ended.out;
  EXPECT_NE(ended.err.find("error[" + code + "]"), std::string::npos) << ended.err;
  for (const std::string& text : texts) {
    EXPECT_NE(ended.flat().find(text), std::string::npos) << text << "\n" << ended.err;
  }
  expect_text(ended, number);
}

TEST(BadInput, OptionIsUnknown) {
  expect_usage(run({"--modle", "x"}), "01", "BV0001",
               {"unknown option --modle", "= help    did you mean --model?"});
}

TEST(BadInput, ParallelSizeIsZero) {
  expect_usage(
      run({"--model", golden_hf("llama").string(), "--tp", "0"}), "02", "BV0002",
      {"--tp 0 is not a positive number", "= help    write --tp 1 for no tensor parallelism"});
}

/// A model of the HF cache, of whose shards some were not fetched.
struct CachedModel {
  explicit CachedModel(const std::string& golden) {
    const std::string commit(40, 'a');
    const fs::path repository = cache.path() / "models--Org--Name";
    snapshot = repository / "snapshots" / commit;
    fs::create_directories(repository / "refs");
    write_text(repository / "refs/main", commit);
    fs::create_directories(snapshot);
    fs::copy(golden_hf(golden), snapshot, fs::copy_options::recursive);
    fs::remove(snapshot / "forward.safetensors");
  }
  [[nodiscard]] Ended check(const std::vector<std::string>& words) const {
    std::vector<std::string> line = words;
    line.insert(line.end(), {"--model", "Org/Name"});
    return run(line, {{"HF_HUB_CACHE", cache.path().string()}});
  }
  TempFolder cache;
  fs::path snapshot;
};

TEST(BadInput, ShardsAreMissingFromTheCache) {
  const CachedModel model("llama");
  fs::remove(model.snapshot / "model-00002-of-00002.safetensors");
  const Ended ended = model.check({"check"});
  expect_input_error(
      ended, "06", "BV7002",
      {"1 of 2 shards is missing from the snapshot", "model-00002-of-00002.safetensors",
       "names can be checked, bytes cannot", "hf download Org/Name --include \"model-00002-*\""});
  EXPECT_NE(ended.last_line().find("  refuted 0  "), std::string::npos) << ended.out;
  EXPECT_EQ(ended.last_line().find("proved 0 "), std::string::npos) << ended.out;
  EXPECT_NE(ended.out.find("not reached"), std::string::npos) << ended.out;
}

/// The names are judged although bytes are absent: a tensor that the index does not name is missed.
TEST(BadInput, NamesAreStillJudgedWithoutAllShards) {
  const CachedModel model("llama");
  fs::remove(model.snapshot / "model-00002-of-00002.safetensors");
  auto index = nlohmann::json::parse(file_text(model.snapshot / "model.safetensors.index.json"));
  const std::string name = "model.layers.3.mlp.up_proj.weight";
  ASSERT_EQ(index["weight_map"].at(name), "model-00002-of-00002.safetensors");
  index["weight_map"].erase(name);
  write_text(model.snapshot / "model.safetensors.index.json", index.dump());
  for (const char* command : {"check", "roundtrip"}) {
    const Ended ended = model.check({command});
    EXPECT_EQ(ended.code, 1) << ended.all();
    EXPECT_NE(ended.out.find("error[BV1002]: HF tensor " + name), std::string::npos) << ended.out;
    EXPECT_NE(ended.out.find("error[BV7002]"), std::string::npos) << ended.out;
  }
  const TempFolder out;
  const Ended convert = model.check({"convert", "--to", "megatron", "--out", out / "m"});
  EXPECT_EQ(convert.code, 5) << convert.all();
  EXPECT_NE(convert.err.find("error[BV7002]"), std::string::npos) << convert.err;
}

TEST(BadInput, KindOfARuleIsUnknown) {
  const Ended ended = run({"check", "--model", golden_hf("qwen3").string(), "--rules",
                           fixture("broken/unknown_kind.rules.json")});
  EXPECT_EQ(ended.code, 3) << ended.all();
  EXPECT_NE(ended.out.find("unsupported[BV1016]: rule r4 has the kind"), std::string::npos);
  EXPECT_NE(ended.out.find("did you mean qkv?"), std::string::npos) << ended.out;
}

TEST(BadInput, WildcardsOfARuleDoNotPairUp) {
  const std::string rules = fixture("broken/wildcard_count.rules.json");
  const Ended ended = run({"check", "--model", golden_hf("qwen3").string(), "--rules", rules});
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_NE(ended.out.find("error[BV1009]"), std::string::npos) << ended.out;
  EXPECT_NE(ended.out.find("in the Megatron name"), std::string::npos) << ended.out;
  const Ended lint = run({"rules", "lint", rules});
  EXPECT_EQ(lint.code, 1) << lint.all();
  EXPECT_NE(lint.out.find("error[BV1009]"), std::string::npos) << lint.out;
}

TEST(BadInput, RuleIsNeverReached) {
  const std::string rules = fixture("broken/wildcard_order.rules.json");
  const Ended mild = run({"rules", "lint", rules});
  EXPECT_EQ(mild.code, 0) << mild.all();
  EXPECT_NE(mild.out.find("warning[BV1005]: rule r6 can never match: rule r5 is tried first"),
            std::string::npos)
      << mild.out;
  expect_text(mild, "19");
  EXPECT_EQ(run({"rules", "lint", rules, "--fail-on", "warning"}).code, 1);
  EXPECT_EQ(run({"rules", "lint", rules, "--strict"}).code, 1);
}

TEST(BadInput, DeviceIsNotThere) {
  const TempFolder folder;
  const std::string llama = golden_hf("llama").string();
  const std::string peft = fixture("golden/peft/llama_all/");
  const std::string out = folder / "out";
  for (std::vector<std::string> line :
       {std::vector<std::string>{"check", "--model", llama},
        {"roundtrip", "--model", llama},
        {"convert", "--to", "megatron", "--model", llama, "--out", out},
        {"lora", "merge", "--model", peft + "base", "--adapter", peft + "adapter", "--out", out}}) {
    // What is found differs from machine to machine; a GPU 99 is nowhere.
    line.insert(line.end(), {"--device", "cuda:99"});
    const Ended none = run(line);
    EXPECT_FALSE(fs::exists(out));
    EXPECT_EQ(none.code, 5) << none.all();
    EXPECT_EQ(none.word(), "INPUT");
    EXPECT_NE(none.flat().find("error[BV8003]: --device cuda:99: there is no GPU 99"),
              std::string::npos)
        << none.all();
    EXPECT_NE(none.flat().find("bridge-verify doctor says what this machine can do"),
              std::string::npos);
  }
  for (const char* option : {"--timeout", "--mem-limit"}) {
    const Ended ignored = run({"check", "--model", golden_hf("llama").string(), option, "9"});
    EXPECT_EQ(ignored.code, 2) << ignored.all();
    EXPECT_NE(ignored.all().find("is not built into this version"), std::string::npos);
  }
  const Ended wrong = run({"roundtrip", "--model", golden_hf("llama").string(), "--device", "gpu"});
  EXPECT_EQ(wrong.code, 2) << wrong.all();
}

TEST(BadInput, FolderCannotBeWritten) {
  const TempFolder folder;
  fs::create_directory(folder.path() / "closed");
  fs::permissions(folder.path() / "closed", fs::perms::owner_read | fs::perms::owner_exec);
  const Limits limits{0, 0, true};
  for (const std::vector<std::string>& line :
       {std::vector<std::string>{"check", "--out", folder / "closed/report"},
        {"convert", "--to", "megatron", "--out", folder / "closed/m"}}) {
    std::vector<std::string> words = line;
    words.insert(words.end(), {"--model", golden_hf("llama").string()});
    const Ended ended = run_in({{}, {}, 60, limits, {}}, words);
    EXPECT_EQ(ended.code, 5) << ended.all();
    EXPECT_NE(ended.err.find("error[BV8005]"), std::string::npos) << ended.err;
    EXPECT_NE(ended.err.find("= help"), std::string::npos) << ended.err;
  }
}

}  // namespace
}  // namespace bv::e2e
