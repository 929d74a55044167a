// What lora slice writes, judged by lora check --slices: right folders hold, and every way in which
// a server's files go wrong is refuted by name.

#include <fmt/format.h>

#include <functional>

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;

void write_tensors(const fs::path& file, const std::map<std::string, EditedTensor>& tensors) {
  const TempFolder folder;
  EditedCheckpoint{{}, tensors}.write(folder.path());
  fs::copy_file(folder.path() / "model.safetensors", file, fs::copy_options::overwrite_existing);
}

class LoraSlices : public testing::Test {
 protected:
  void slice(const std::string& name, const Words& options) {
    name_ = name;
    fs::remove_all(folder / "s");
    const Ended ended = run(Words{"lora", "slice", "--model", part("base"), "--adapter",
                                  part("adapter"), "--out", folder / "s"} +
                            options);
    ASSERT_EQ(ended.code, 0) << ended.all();
  }
  [[nodiscard]] std::string part(const std::string& which) const {
    return golden("peft/" + name_ + "/" + which).string();
  }
  [[nodiscard]] Ended check() const {
    return run({"lora", "check", "--model", part("base"), "--adapter", part("adapter"), "--slices",
                folder / "s"});
  }
  [[nodiscard]] fs::path file(int rank) const {
    return folder.path() / fmt::format("s/tp{}.safetensors", rank);
  }
  using TensorsOfRank = std::map<std::string, EditedTensor>;
  void edit(int rank, const std::function<void(TensorsOfRank&)>& change) const {
    auto tensors = read_tensors(file(rank));
    change(tensors);
    write_tensors(file(rank), tensors);
  }
  void edit_json(const std::function<void(nlohmann::json&)>& change) const {
    nlohmann::json json = read_json(folder / "s/slices.json");
    change(json);
    write_text(folder / "s/slices.json", json.dump(2));
  }
  void expect_refuted(const Words& texts) const {
    const Ended ended = check();
    EXPECT_EQ(ended.code, 1) << ended.all();
    for (const std::string& text : texts) {
      EXPECT_NE(ended.flat().find(text), std::string::npos) << text << "\n" << ended.all();
    }
  }
  TempFolder folder;
  std::string name_;
};

TEST_F(LoraSlices, ThatAreRightHold) {
  for (const auto& [name, options] : std::vector<std::pair<std::string, Words>>{
           {"llama_all", {"--tp", "1"}},
           {"llama_all", {"--tp", "2"}},
           {"llama_all", {"--tp", "2", "--fully-sharded"}},
           {"qwen35_dense", {"--tp", "2"}},
           {"qwen35_dense", {"--tp", "2", "--fully-sharded", "--max-rank", "8"}},
           {"partial_qv", {"--tp", "2"}},
           {"qwen3_moe_named_targets", {"--tp", "2"}},
           {"qwen3_moe_per_expert_legacy", {"--tp", "2"}}}) {
    SCOPED_TRACE(name);
    slice(name, options);
    const Ended ended = check();
    EXPECT_EQ(ended.code, 0) << ended.all();
    EXPECT_NE(ended.flat().find("slices lie where the base's rows lie"), std::string::npos)
        << ended.all();
  }
}

constexpr const char* kQ = "model.layers.0.self_attn.qkv_proj.0.lora_B.weight";
constexpr const char* kK = "model.layers.0.self_attn.qkv_proj.1.lora_A.weight";
constexpr const char* kV = "model.layers.0.self_attn.qkv_proj.2.lora_A.weight";

TEST_F(LoraSlices, ThatChangedPlacesAreRefuted) {
  slice("llama_all", {"--tp", "2"});
  fs::rename(file(0), folder / "x");
  fs::rename(file(1), file(0));
  fs::rename(folder / "x", file(1));
  expect_refuted({"BV3009", "in tp0.safetensors holds another's part", "of tp1.safetensors", kQ});
  slice("llama_all", {"--tp", "2"});
  edit(1, [](TensorsOfRank& tensors) { std::swap(tensors.at(kK).bytes, tensors.at(kV).bytes); });
  expect_refuted({"BV3009", std::string("\"") + kK + "\" in tp1.safetensors holds another's part",
                  std::string("\"") + kV + "\" of tp"});
}

TEST_F(LoraSlices, WithAWrongRowAreRefuted) {
  slice("llama_all", {"--tp", "2"});
  edit(0, [](TensorsOfRank& tensors) {
    auto& q = tensors.at(kQ);
    const auto width = q.bytes.size() / static_cast<std::size_t>(q.shape[0]);
    std::copy_n(q.bytes.begin(), width, q.bytes.begin() + static_cast<std::ptrdiff_t>(width));
  });
  expect_refuted({"BV2006", std::string("row 1 of \"") + kQ + "\" in tp0.safetensors"});
  slice("llama_all", {"--tp", "2"});
  edit(1, [](TensorsOfRank& tensors) { tensors.at(kQ).bytes[0] ^= std::byte{1}; });
  expect_refuted({"BV3001", std::string("row 0 of \"") + kQ + "\" in tp1.safetensors"});
}

TEST_F(LoraSlices, OfOtherRanksAreRefuted) {
  slice("llama_all", {"--tp", "2"});
  fs::remove(file(1));
  expect_refuted({"BV2013", "tp1.safetensors is missing: slices.json says tp 2"});
  slice("llama_all", {"--tp", "2"});
  edit_json([](nlohmann::json& json) { json["tp"] = 1; });
  expect_refuted({"BV2013", "slices.json says tp 1"});
  edit_json([](nlohmann::json& json) { json["tp"] = 4; });
  expect_refuted({"BV2013", "tp2.safetensors is missing: slices.json says tp 4"});
  slice("llama_all", {"--tp", "2"});
  edit_json([](nlohmann::json& json) { json["fully_sharded"] = true; });
  EXPECT_EQ(check().code, 1) << check().all();
  slice("llama_all", {"--tp", "2"});
  edit_json([](nlohmann::json& json) { json["max_rank"] = 1; });
  EXPECT_EQ(check().code, 1) << check().all();
}

TEST_F(LoraSlices, WithOtherTensorsAreRefuted) {
  slice("llama_all", {"--tp", "2"});
  edit(0, [](TensorsOfRank& tensors) { tensors.erase(kQ); });
  expect_refuted({"BV2013", std::string("tp0.safetensors has no \"") + kQ});
  slice("llama_all", {"--tp", "2"});
  edit(0, [](TensorsOfRank& tensors) { tensors["more"] = tensors.at(kQ); });
  expect_refuted({"BV2013", "tp0.safetensors has \"more\", which rank 0 does not hold"});
  slice("llama_all", {"--tp", "2"});
  edit(0, [](TensorsOfRank& tensors) {
    auto& q = tensors.at(kQ);
    std::swap(q.shape[0], q.shape[1]);
  });
  expect_refuted({"BV2001", "has another shape"});
}

TEST_F(LoraSlices, WithAnotherScaleOrMemberAreRefuted) {
  slice("llama_all", {"--tp", "2"});
  edit_json([](nlohmann::json& json) { json["modules"][1]["members"][0]["scale"] = 99; });
  expect_refuted({"BV4002", "slices.json does not describe"});
  slice("llama_all", {"--tp", "2"});
  edit_json([](nlohmann::json& json) { json["modules"].erase(0); });
  EXPECT_EQ(check().code, 1) << check().all();
}

/// Slices of another adapter of the same shapes.
TEST_F(LoraSlices, OfAnotherAdapterAreRefuted) {
  slice("llama_all", {"--tp", "2"});
  fs::copy(part("adapter"), folder / "other");
  auto tensors = read_tensors(folder.path() / "other/adapter_model.safetensors");
  for (auto& [key, tensor] : tensors) {
    tensor.bytes[1] ^= std::byte{64};
  }
  write_tensors(folder.path() / "other/adapter_model.safetensors", tensors);
  const Ended ended = run({"lora", "check", "--model", part("base"), "--adapter", folder / "other",
                           "--slices", folder / "s"});
  EXPECT_EQ(ended.code, 1) << ended.all();
}

TEST_F(LoraSlices, ThatCannotBeReadAreAnInputError) {
  slice("llama_all", {"--tp", "2"});
  for (const char* text : {"", "[]", "{", "{\"schema\": \"bridge-lora-slices/1\"}",
                           "{\"schema\": \"bridge-lora-slices/1\", \"tp\": 0, \"max_rank\": 1, "
                           "\"fully_sharded\": false}"}) {
    write_text(folder / "s/slices.json", text);
    const Ended ended = check();
    EXPECT_EQ(ended.code, 5) << ended.all();
    EXPECT_NE(ended.flat().find("slices.json cannot be used"), std::string::npos) << ended.all();
  }
  fs::remove(folder / "s/slices.json");
  EXPECT_EQ(check().code, 5) << check().all();
}

}  // namespace
}  // namespace bv::e2e
