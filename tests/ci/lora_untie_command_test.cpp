// lora merge --untie of every tied fixture, and checkpoints that store a tied output layer all the
// same.

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/checkpoint/open_model.hpp"
#include "core/lora/adapter_config.hpp"
#include "core/lora/class_names.hpp"
#include "core/lora/tied_head.hpp"
#include "fixtures/maker/fixture.hpp"
#include "tests/ci/run_command.hpp"
#include "tests/support/checkpoint_edit.hpp"
#include "tests/support/library.hpp"

namespace bv::cli {
namespace {

namespace fs = std::filesystem;
using support::EditedCheckpoint;
using support::EditedTensor;
using testing::run_line;
using testing::TempFolder;

EditedTensor small(Shape shape) {
  EditedTensor out{DType::F32, std::move(shape), {}};
  const auto count = static_cast<std::size_t>(out.shape[0] * out.shape[1]);
  out.bytes.resize(count * sizeof(float));
  auto* values = reinterpret_cast<float*>(out.bytes.data());
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(i % 5 + 1) * 0.03125F;
  }
  return out;
}

/// An adapter as PEFT writes it, of rank 2, with pairs of the given keys.
void write_adapter(const fs::path& folder, std::map<std::string, EditedTensor> tensors,
                   const std::vector<std::string>& targets) {
  EditedCheckpoint out;
  for (auto& [key, tensor] : tensors) {
    out.tensors["base_model.model." + key] = std::move(tensor);
  }
  out.write(folder);
  fs::rename(folder / "model.safetensors", folder / "adapter_model.safetensors");
  fs::remove(folder / "config.json");
  lora::AdapterConfig config;
  config.r = 2;
  config.lora_alpha = 4;
  config.target_modules.names = targets;
  testing::write_text(folder / "adapter_config.json", lora::adapter_config_text(config));
}

struct Tied {
  std::string base;
  std::string embedding;  // as files name it
  lora::TiedHead head;
  checkpoint::HfModel model;
};

/// The fixture in `folder`, where its output layer is tied and not stored.
std::optional<Tied> tied_fixture(const std::string& name, const fs::path& folder) {
  const std::string base = (folder / "base").string();
  EXPECT_EQ(run_line({"fixture", "make", name, "--out", base, "-q"}).code, 0) << name;
  auto model = checkpoint::open_hf(base, support::families(), {});
  if (!model || !model->model.faults.empty()) {
    return std::nullopt;
  }
  auto head = lora::tied_head(*model);
  if (!head) {
    return std::nullopt;
  }
  const std::string embedding = head->stored;
  return Tied{base, embedding, *std::move(head), *std::move(model)};
}

std::string module_in_class(const Tied& tied, const std::string& tensor) {
  const std::string module = tensor.substr(0, tensor.rfind('.'));
  return lora::class_name(tied.model.model.family.get(), module);
}

/// What check says of a model that lora merge wrote, and lora check --merged of the merge.
void expect_merge_is_a_model(const Tied& tied, const std::string& adapter, const std::string& out) {
  const auto model = run_line({"check", "--model", out, "--only", "names,shapes,values"});
  EXPECT_EQ(model.code, 0) << model.out << model.err;
  const auto judged = run_line(
      {"lora", "check", "--model", tied.base, "--adapter", adapter, "--merged", out, "--json"});
  EXPECT_NE(judged.code, 5) << judged.err;
  for (const auto& verdict : nlohmann::json::parse(judged.out).at("verdicts")) {
    const std::string claim = verdict.at("claim");
    EXPECT_FALSE(verdict.at("outcome") == "Refuted" &&
                 (claim == "adapter-merge" || claim == "shapes"))
        << verdict.dump(1);
  }
  const auto again = checkpoint::open_hf(out, support::families(), {});
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_TRUE(again->headers.contains(tied.head.weight.name));
  EXPECT_FALSE(again->model.tied);
}

TEST(LoraUntie, OfEveryTiedFixtureIsAModel) {
  int merged = 0;
  const auto all = fixtures::builtin_fixtures().value();
  for (const auto& fixture : all) {
    SCOPED_TRACE(fixture.name);
    const TempFolder folder;
    const auto tied = tied_fixture(fixture.name, folder.path());
    if (!tied) {
      continue;
    }
    const Shape& shape = tied->head.weight.shape;
    const std::string adapter = (folder.path() / "adapter").string();
    const std::string out = (folder.path() / "merged").string();
    const std::string module = module_in_class(*tied, tied->embedding);
    write_adapter(adapter,
                  {{module + ".lora_embedding_A", small({2, shape[0]})},
                   {module + ".lora_embedding_B", small({shape[1], 2})}},
                  {module});
    const auto ended = run_line(
        {"lora", "merge", "--model", tied->base, "--adapter", adapter, "--out", out, "--untie"});
    ASSERT_EQ(ended.code, 0) << ended.out << ended.err;
    expect_merge_is_a_model(*tied, adapter, out);
    ++merged;
  }
  EXPECT_GT(merged, 8);  // Gemma 2, 3 and their wrappers too
}

/// The embedding that an MTP layer stores again is the same tensor whatever a config says.
TEST(LoraUntie, ACopyThatIsNotTheOutputLayerIsRefusedByName) {
  for (const char* name : {"glm4_moe/mtp", "deepseek_v3/mtp"}) {
    const TempFolder folder;
    const std::string base = (folder.path() / "base").string();
    ASSERT_EQ(run_line({"fixture", "make", name, "--out", base, "-q"}).code, 0);
    const std::string module = "model.embed_tokens";
    const Shape shape = support::read_tensors(base).at(module + ".weight").shape;
    const std::string adapter = (folder.path() / "adapter").string();
    write_adapter(adapter,
                  {{module + ".lora_embedding_A", small({2, shape[0]})},
                   {module + ".lora_embedding_B", small({shape[1], 2})}},
                  {module});
    const std::string out = (folder.path() / "merged").string();
    const auto ended =
        run_line({"lora", "merge", "--model", base, "--adapter", adapter, "--out", out, "--untie"});
    EXPECT_EQ(ended.code, 5) << ended.out << ended.err;
    EXPECT_NE(ended.err.find("embed_tokens.weight is a stored copy"), std::string::npos)
        << ended.err;
    EXPECT_FALSE(fs::exists(out));
  }
}

/// PEFT's key of the output layer is the class's own name of it: embed_out of GPT-NeoX.
TEST(LoraUntie, APairOnTheOutputLayerOfAnyFamilyIsRead) {
  const TempFolder folder;
  const std::string base = (folder.path() / "base").string();
  ASSERT_EQ(run_line({"fixture", "make", "gpt_neox", "--out", base, "-q"}).code, 0);
  auto edited = EditedCheckpoint::read(base);
  const Shape shape = edited.tensors.at("embed_out.weight").shape;
  edited.tensors.erase("embed_out.weight");
  edited.config["tie_word_embeddings"] = true;
  fs::remove_all(base);
  edited.write(base);
  const std::string adapter = (folder.path() / "adapter").string();
  write_adapter(adapter,
                {{"embed_out.lora_A.weight", small({2, shape[1]})},
                 {"embed_out.lora_B.weight", small({shape[0], 2})}},
                {"embed_out"});
  const auto read = run_line({"lora", "check", "--model", base, "--adapter", adapter});
  EXPECT_NE(read.code, 1) << read.out << read.err;
  EXPECT_EQ(read.out.find("BV4007"), std::string::npos) << read.out;
  const std::string out = (folder.path() / "merged").string();
  const auto merged =
      run_line({"lora", "merge", "--model", base, "--adapter", adapter, "--out", out, "--untie"});
  ASSERT_EQ(merged.code, 0) << merged.out << merged.err;
  EXPECT_TRUE(support::read_tensors(out).contains("embed_out.weight"));
  EXPECT_EQ(run_line({"check", "--model", out, "--only", "names,shapes"}).code, 0);
}

/// llama, tied; `base` stores the output layer too, and `bare` does not.
class StoredTiedHead : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(
        run_line({"fixture", "make", "llama/tied_with_head", "--out", path("base"), "-q"}).code, 0);
    bare_ = EditedCheckpoint::read(path("base"));
    bare_.tensors.erase("lm_head.weight");
    bare_.write(path("bare"));
    const std::string module = "model.layers.0.self_attn.o_proj";
    const Shape& shape = bare_.tensors.at(module + ".weight").shape;
    write_adapter(path("adapter"),
                  {{module + ".lora_A.weight", small({2, shape[1]})},
                   {module + ".lora_B.weight", small({shape[0], 2})}},
                  {module});
    for (const char* one : {"base", "bare"}) {
      ASSERT_EQ(run_line({"lora", "merge", "--model", path(one), "--adapter", path("adapter"),
                          "--out", path(std::string("merged_") + one)})
                    .code,
                0);
    }
  }
  [[nodiscard]] std::string path(const std::string& name) const {
    return (folder_.path() / name).string();
  }
  [[nodiscard]] testing::Ended merged(const std::string& base, const std::string& found) const {
    return run_line({"lora", "check", "--model", path(base), "--adapter", path("adapter"),
                     "--merged", path(found)});
  }
  [[nodiscard]] testing::Ended against(const std::string& a, const std::string& b) const {
    return run_line({"check", "--model", path(a), "--against", path(b)});
  }
  /// `from` with another output layer, or with one where it has none.
  void with_head(const std::string& from, const std::string& to, bool other_bytes,
                 bool tied) const {
    auto edited = EditedCheckpoint::read(path(from));
    auto& head = edited.tensors["lm_head.weight"];
    head = edited.tensors.at("model.embed_tokens.weight");
    head.bytes[0] ^= std::byte{other_bytes};
    edited.config["tie_word_embeddings"] = tied;
    edited.write(path(to));
  }
  TempFolder folder_;
  EditedCheckpoint bare_;
};

TEST_F(StoredTiedHead, OnOneSideAloneIsEqual) {
  for (const auto& [a, b] : {std::pair("base", "bare"), std::pair("bare", "base")}) {
    const auto ended = against(a, b);
    EXPECT_EQ(ended.code, 0) << ended.out << ended.err;
    EXPECT_NE(ended.out.find("lm_head.weight is stored in"), std::string::npos) << ended.out;
    const auto judged = merged(a, std::string("merged_") + b);
    EXPECT_NE(judged.code, 1) << judged.out << judged.err;
    EXPECT_NE(judged.out.find("lm_head.weight is stored by the"), std::string::npos) << judged.out;
  }
}

TEST_F(StoredTiedHead, WithOtherBytesStaysRefuted) {
  with_head("bare", "other", true, true);
  EXPECT_EQ(against("bare", "other").code, 1);
  EXPECT_EQ(against("other", "bare").code, 1);
  with_head("merged_bare", "merged_other", true, true);
  EXPECT_EQ(merged("bare", "merged_other").code, 1);
  EXPECT_EQ(merged("other", "merged_bare").code, 1);
}

TEST_F(StoredTiedHead, OfAnUntiedModelStaysRefuted) {
  with_head("bare", "untied", false, false);
  auto lost = EditedCheckpoint::read(path("untied"));
  lost.tensors.erase("lm_head.weight");
  lost.write(path("lost"));
  EXPECT_EQ(against("untied", "lost").code, 1);
  EXPECT_EQ(against("base", "lost").code, 1) << "the config of B says that it has its own";
  auto merged_lost = EditedCheckpoint::read(path("merged_bare"));
  merged_lost.config["tie_word_embeddings"] = false;
  merged_lost.write(path("merged_lost"));
  EXPECT_EQ(merged("base", "merged_lost").code, 1);
}

/// AutoModelForCausalLM loads the text model of a checkpoint with towers: PEFT's keys are then
/// those of the text class, and the towers are no part of it.
class TextClassAdapter : public ::testing::TestWithParam<std::string> {};

TEST_P(TextClassAdapter, IsReadConvertedAndMerged) {
  const TempFolder folder;
  const auto path = [&](const char* name) { return (folder.path() / name).string(); };
  ASSERT_EQ(run_line({"fixture", "make", GetParam(), "--out", path("base"), "-q"}).code, 0);
  const auto base = checkpoint::open_hf(path("base"), support::families(), {}).value();
  const auto text = lora::text_class(base.model, lora::head_name(base));
  ASSERT_TRUE(text);
  std::map<std::string, EditedTensor> tensors;
  for (const auto& [name, spec] : base.headers) {
    const std::string own = text->to_own(lora::class_name(base.model.family.get(), name));
    if (own.ends_with(".self_attn.o_proj.weight")) {
      const std::string module = own.substr(0, own.rfind('.'));
      tensors[module + ".lora_A.weight"] = small({2, spec.shape[1]});
      tensors[module + ".lora_B.weight"] = small({spec.shape[0], 2});
    }
  }
  ASSERT_FALSE(tensors.empty());
  write_adapter(path("adapter"), tensors, {"o_proj"});
  const auto checked =
      run_line({"lora", "check", "--model", path("base"), "--adapter", path("adapter")});
  EXPECT_EQ(checked.code, 0) << checked.out << checked.err;
  EXPECT_NE(checked.out.find("of the text model alone"), std::string::npos) << checked.out;
  const auto there = run_line({"lora", "convert", "--to", "megatron", "--model", path("base"),
                               "--adapter", path("adapter"), "--out", path("there")});
  ASSERT_EQ(there.code, 0) << there.out << there.err;
  const auto back = run_line({"lora", "convert", "--to", "hf", "--model", path("base"), "--adapter",
                              path("there"), "--out", path("back")});
  ASSERT_EQ(back.code, 0) << back.out << back.err;
  EXPECT_EQ(support::read_tensors(folder.path() / "adapter/adapter_model.safetensors"),
            support::read_tensors(folder.path() / "back/adapter_model.safetensors"));
  const auto merged = run_line({"lora", "merge", "--model", path("base"), "--adapter",
                                path("adapter"), "--out", path("merged")});
  ASSERT_EQ(merged.code, 0) << merged.out << merged.err;
  const auto judged = run_line({"lora", "check", "--model", path("base"), "--adapter",
                                path("adapter"), "--merged", path("merged")});
  EXPECT_EQ(judged.code, 0) << judged.out << judged.err;
  tensors.erase(tensors.begin());
  tensors.erase(tensors.begin());
  write_adapter(path("fewer"), tensors, {"o_proj"});
  const auto fewer =
      run_line({"lora", "check", "--model", path("base"), "--adapter", path("fewer")});
  EXPECT_EQ(fewer.code, 1) << fewer.out;
  EXPECT_NE(fewer.out.find("BV4003"), std::string::npos) << fewer.out;
}

INSTANTIATE_TEST_SUITE_P(Towers, TextClassAdapter,
                         ::testing::Values("qwen3_5_vl", "qwen3_5_vl_moe", "llama4", "gemma3_vl",
                                           "mistral3", "qwen3_vl"),
                         [](const auto& one) { return one.param; });

}  // namespace
}  // namespace bv::cli
