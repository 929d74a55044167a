// A quantised model to Megatron and back: the files of the source again, byte for byte, in every
// form and layout; or a refusal that names what does not come back.

#include <algorithm>
#include <functional>

#include "tests/e2e/quantised_model.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;
using stored_in::bytes_tensor;
using stored_in::Form;
using stored_in::forms;
using stored_in::in_form;
using stored_in::Numbers;
using stored_in::Tensors;
using stored_in::write_sharded;

std::map<std::string, std::string> files_of(const fs::path& folder) {
  std::map<std::string, std::string> out;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) {
      out[fs::relative(entry.path(), folder).string()] = file_text(entry.path());
    }
  }
  return out;
}

/// What was printed, without the ends of lines.
std::string flat(const Ended& ended) {
  std::string out;
  for (const char c : ended.all()) {
    const bool space = c == ' ' || c == '\n';
    if (!space || out.empty() || out.back() != ' ') {
      out += space ? ' ' : c;
    }
  }
  return out;
}

class Requantised : public ::testing::Test {
 protected:
  [[nodiscard]] std::string at(const std::string& name) const {
    return (folder.path() / name).string();
  }
  [[nodiscard]] Ended there(const Words& more = {}) const {
    fs::remove_all(at("mg"));
    Words line = {"convert", "--to", "megatron", "--model", at("m"), "--out", at("mg")};
    line.insert(line.end(), more.begin(), more.end());
    return run(line);
  }
  [[nodiscard]] Ended back(const Words& more = {}) const {
    fs::remove_all(at("back"));
    Words line = {"convert", "--to", "hf", "--model", at("mg"), "--out", at("back")};
    line.insert(line.end(), more.begin(), more.end());
    return run(line);
  }
  /// Tensors of one safetensors file, changed and written again.
  void edit(const std::string& file, const std::function<void(Tensors&)>& change) const {
    auto tensors = read_tensors(at(file));
    change(tensors);
    EditedCheckpoint{ordered_json::object(), std::move(tensors)}.write(folder.path() / "x");
    fs::rename(at("x/model.safetensors"), at(file));
  }
  void expect_back(const std::string& what) const {
    const Ended ended = back();
    ASSERT_EQ(ended.code, 0) << what << "\n" << ended.all();
    EXPECT_NE(flat(ended).find("restored: every code was found again"), std::string::npos)
        << ended.all();
    EXPECT_TRUE(files_of(at("back")) == files_of(at("m"))) << what;
  }
  /// Refuted with a code and words; nothing is written.
  void expect_refuted(const Ended& ended, const std::string& code, const Words& says) const {
    EXPECT_EQ(ended.code, 1) << ended.all();
    EXPECT_NE(ended.all().find(code), std::string::npos) << ended.all();
    for (const std::string& words : says) {
      EXPECT_NE(flat(ended).find(words), std::string::npos) << words << "\n" << ended.all();
    }
    EXPECT_FALSE(fs::exists(at("back")));
  }
  /// A llama in FP8 by block, and its Megatron folder on two ranks.
  void write_llama() const {
    write_sharded(in_form(EditedCheckpoint::golden("llama"), forms().front()), at("m"));
    const Ended ended = there({"--dtype", "bfloat16", "--tp", "2"});
    ASSERT_EQ(ended.code, 0) << ended.all();
  }

  TempFolder folder;
};

const std::string kCompanions = "mg/quantised/companions.safetensors";
const std::string kRank1 = "mg/pp0_tp1_ep0_etp0.safetensors";
const std::string kUp = "model.layers.0.mlp.up_proj.weight";

TEST_F(Requantised, ComesBackByteForByteInEveryForm) {
  const std::vector<std::pair<Form, Words>> rows = {
      {forms()[0], {"--dtype", "bfloat16"}},
      {forms()[1], {"--dtype", "float32", "--tp", "2"}},
      {forms()[2], {"--dtype", "bfloat16", "--tp", "4", "--pp", "2"}},
      {forms()[3], {"--dtype", "bfloat16", "--tp", "2", "--pp", "2"}}};
  for (const auto& [form, layout] : rows) {
    SCOPED_TRACE(form.name);
    fs::remove_all(at("m"));
    write_sharded(in_form(EditedCheckpoint::golden("llama"), form), at("m"));
    const Ended ended = there(layout);
    ASSERT_EQ(ended.code, 0) << ended.all();
    EXPECT_NE(flat(ended).find("is kept in quantised/: convert --to hf gives it back"),
              std::string::npos)
        << ended.all();
    expect_back(form.name);
  }
}

TEST_F(Requantised, ComesBackFromExpertsOnEveryLayout) {
  write_sharded(in_form(EditedCheckpoint::golden("qwen3_moe"), forms()[0]), at("m"));
  for (const Words& layout : {Words{"--ep", "2"}, Words{"--tp", "2", "--ep", "2", "--etp", "2"},
                              Words{"--pp", "2", "--no-moe-grouped-gemm"}}) {
    Words line = {"--dtype", "bfloat16", "--jobs", "3"};
    line.insert(line.end(), layout.begin(), layout.end());
    ASSERT_EQ(there(line).code, 0);
    expect_back(layout.back());
  }
}

/// gpt-oss: matrices of two numbers a byte, whose transpose is the weight, packed over the experts.
TEST_F(Requantised, ComesBackFromMxfp4OfGptOss) {
  ASSERT_EQ(run({"fixture", "make", "gpt_oss", "--out", at("plain"), "--set", "hidden_size=64",
                 "--set", "intermediate_size=32"})
                .code,
            0);
  EditedCheckpoint model = EditedCheckpoint::read(at("plain"));
  Numbers numbers;
  Tensors tensors;
  for (auto& [name, tensor] : model.tensors) {
    if (!name.ends_with("experts.gate_up_proj") && !name.ends_with("experts.down_proj")) {
      tensors[name] = tensor;
      continue;
    }
    const Shape& s = tensor.shape;  // [experts, in, out]
    const auto any = [&] { return static_cast<std::byte>(numbers.next()); };
    const auto exponent = [&] { return static_cast<std::byte>(100 + numbers.next() % 30); };
    tensors[name + "_blocks"] = bytes_tensor(DType::U8, {s[0], s[2], s[1] / 32, 16}, any);
    tensors[name + "_scales"] = bytes_tensor(DType::U8, {s[0], s[2], s[1] / 32}, exponent);
  }
  model.tensors = std::move(tensors);
  model.config["quantization_config"] = {{"quant_method", "mxfp4"}};
  write_sharded(model, at("m"));
  for (const Words& layout :
       {Words{"--tp", "1"}, Words{"--tp", "2", "--ep", "2"}, Words{"--etp", "2", "--pp", "2"}}) {
    Words line = {"--dtype", "bfloat16"};
    line.insert(line.end(), layout.begin(), layout.end());
    const Ended ended = there(line);
    ASSERT_EQ(ended.code, 0) << ended.all();
    expect_back(layout.back());
  }
}

TEST_F(Requantised, IsPlainWhereThatIsAskedFor) {
  write_llama();
  const Ended again = run({"convert", "--to", "megatron", "--model", at("m"), "--out", at("mg"),
                           "--dtype", "bfloat16", "--overwrite"});
  EXPECT_EQ(again.code, 0) << again.all();  // every file of the folder is known as ours
  const Ended ended = back({"--quantised", "plain"});
  ASSERT_EQ(ended.code, 0) << ended.all();
  const EditedCheckpoint found = EditedCheckpoint::read(at("back"));
  EXPECT_FALSE(found.config.contains("quantization_config"));
  EXPECT_EQ(found.tensors.at(kUp).dtype, DType::BF16);
  EXPECT_FALSE(found.tensors.contains(kUp + "_scale_inv"));
}

/// Scales of a cache and buffers, which no rule reads, come back with the quantised form, and stay
/// behind in the plain one.
TEST_F(Requantised, GivesBackWhatNoRuleReads) {
  EditedCheckpoint model = in_form(EditedCheckpoint::golden("llama"), forms().front());
  const std::vector<std::string> unread = {"model.layers.0.self_attn.rotary_emb.inv_freq",
                                           "model.layers.1.self_attn.k_scale",
                                           "model.layers.1.self_attn.v_scale"};
  for (const std::string& name : unread) {
    model.tensors[name] = {DType::F32, {5}, std::vector<std::byte>(20, std::byte{7})};
  }
  write_sharded(model, at("m"));
  const Ended ended = there({"--dtype", "bfloat16", "--tp", "2"});
  ASSERT_EQ(ended.code, 0) << ended.all();
  EXPECT_NE(flat(ended).find("with 3 other tensors that the shards cannot give back"),
            std::string::npos)
      << ended.all();
  EXPECT_NE(flat(ended).find("ignored 2 (scales of a quantised cache"), std::string::npos)
      << ended.all();
  expect_back("with tensors that no rule reads");
  ASSERT_EQ(back({"--quantised", "plain"}).code, 0);
  const auto plain = EditedCheckpoint::read(at("back")).tensors;
  const auto index = ordered_json::parse(file_text(at("back/model.safetensors.index.json")));
  for (const std::string& name : unread) {
    EXPECT_FALSE(plain.contains(name)) << name;
    EXPECT_FALSE(index["weight_map"].contains(name)) << name;
  }
}

/// A tensor that lost bits in the shards comes back as it was stored; not beside trained ones.
TEST_F(Requantised, GivesBackTensorsThatLostBits) {
  EditedCheckpoint model = in_form(EditedCheckpoint::golden("llama"), forms().front());
  EditedTensor& norm = model.tensors.at("model.norm.weight");
  norm = {DType::F32, norm.shape, std::vector<std::byte>(norm.bytes.size() * 2, std::byte{0x3f})};
  write_sharded(model, at("m"));
  const Ended ended = there({"--dtype", "bfloat16", "--tp", "2"});
  ASSERT_EQ(ended.code, 1) << ended.all();  // the norm lost bits, as it was asked for
  expect_back("with a norm that lost bits");
  edit(kRank1, [&](Tensors& tensors) {
    tensors.at("decoder.layers.0.self_attention.linear_qkv.layer_norm_weight").bytes[0] ^=
        std::byte{1};
  });
  edit("mg/pp0_tp0_ep0_etp0.safetensors", [&](Tensors& tensors) {
    tensors.at("decoder.layers.0.self_attention.linear_qkv.layer_norm_weight").bytes[0] ^=
        std::byte{1};
  });
  expect_refuted(back({"--accept-changed"}), "BV3008",
                 {"1 tensor that lost bits in them comes back as the source stored it",
                  "--accept-changed --quantised plain"});
}

/// Servers take a folder with these files for quantised weights.
TEST_F(Requantised, KeepsWhatQuantisersWriteBesideTheConfigOutOfThePlainForm) {
  write_sharded(in_form(EditedCheckpoint::golden("llama"), forms().front()), at("m"));
  write_text(at("m/hf_quant_config.json"), R"({"quantization": {"quant_algo": "FP8"}})");
  write_text(at("m/recipe.yaml"), "quant_stage: {}\n");
  const Ended ended = there({"--dtype", "bfloat16"});
  ASSERT_EQ(ended.code, 0) << ended.all();
  expect_back("with files of quantisers");
  ASSERT_EQ(back({"--quantised", "plain"}).code, 0);
  EXPECT_FALSE(fs::exists(at("back/hf_quant_config.json")));
  EXPECT_FALSE(fs::exists(at("back/recipe.yaml")));
}

TEST_F(Requantised, RefusesTrainedWeightsByNameWithTheNextStep) {
  write_llama();
  const std::string tensor = "decoder.layers.1.mlp.linear_fc2.weight";
  edit(kRank1, [&](Tensors& tensors) { tensors.at(tensor).bytes[4] ^= std::byte{1}; });
  expect_refuted(back(), "BV3008", {tensor, "--accept-changed --quantised plain"});
  expect_refuted(
      back({"--accept-changed"}), "BV3008",
      {"model.layers.1.mlp.down_proj.weight", "1 of 28 quantised weights",
       "1 of 864 elements are values that no code gives", "--accept-changed --quantised plain"});
  const Ended plain = back({"--accept-changed", "--quantised", "plain"});
  EXPECT_EQ(plain.code, 0) << plain.all();
}

/// Two values of one block exchanged: both have codes, and the tensor is another one.
TEST_F(Requantised, RefusesOtherCodesThanThoseOfTheSource) {
  write_llama();
  edit(kRank1, [&](Tensors& tensors) {
    auto& bytes = tensors.at("decoder.layers.1.mlp.linear_fc2.weight").bytes;
    std::size_t at = 2;
    while (std::equal(bytes.begin(), bytes.begin() + 2,
                      bytes.begin() + static_cast<std::ptrdiff_t>(at))) {
      at += 2;
    }
    ASSERT_LT(at, 8U);
    std::swap_ranges(bytes.begin(), bytes.begin() + 2,
                     bytes.begin() + static_cast<std::ptrdiff_t>(at));
  });
  expect_refuted(back({"--accept-changed"}), "BV3008",
                 {"model.layers.1.mlp.down_proj.weight", "another tensor than the source"});
}

TEST_F(Requantised, RefusesAChangedScaleAndExchangedCompanionsByName) {
  write_llama();
  const std::string scale = kUp + "_scale_inv";
  fs::copy_file(at(kCompanions), at("kept"));
  edit(kCompanions, [&](Tensors& tensors) { tensors.at(scale).bytes[2] ^= std::byte{1}; });
  for (const Words& more : {Words{}, Words{"--accept-changed"}}) {
    expect_refuted(back(more), "BV3008", {scale, "companions.safetensors changed"});
  }
  fs::copy_file(at("kept"), at(kCompanions), fs::copy_options::overwrite_existing);
  const std::string other = "model.layers.1.mlp.up_proj.weight_scale_inv";
  edit(kCompanions, [&](Tensors& tensors) { std::swap(tensors.at(scale), tensors.at(other)); });
  expect_refuted(back(), "BV3009", {scale, "holds what " + other + " held"});
  EXPECT_EQ(back({"--quantised", "plain"}).code, 0);
}

TEST_F(Requantised, RefusesCompanionsOfAnotherShapeOrNone) {
  write_llama();
  fs::copy_file(at(kCompanions), at("kept"));
  const std::string scale = "model.layers.0.self_attn.q_proj.weight_scale_inv";
  const std::vector<std::function<void(Tensors&)>> edits = {
      [&](Tensors& tensors) { tensors.erase(scale); },
      [&](Tensors& tensors) { tensors["more"] = tensors.at(scale); },
      [&](Tensors& tensors) { std::swap(tensors.at(scale).shape[0], tensors.at(scale).shape[1]); },
      [&](Tensors& tensors) { tensors.at(scale).dtype = DType::I32; }};
  for (const auto& change : edits) {
    edit(kCompanions, change);
    const Ended ended = back();
    EXPECT_EQ(ended.code, 5) << ended.all();
    EXPECT_NE(ended.all().find("BV7031"), std::string::npos) << ended.all();
    EXPECT_FALSE(fs::exists(at("back")));
    fs::copy_file(at("kept"), at(kCompanions), fs::copy_options::overwrite_existing);
  }
  fs::remove(at(kCompanions));
  EXPECT_EQ(back().code, 5);
  EXPECT_EQ(back({"--quantised", "plain"}).code, 0);
}

/// A config that changed decides the form, or is not the one that would be written.
TEST_F(Requantised, RefusesAChangedConfig) {
  write_llama();
  const std::string kept = file_text(at("mg/quantised/config.json"));
  write_text(at("mg/quantised/config.json"), kept + " ");
  for (const Words& more : {Words{}, Words{"--accept-changed"}}) {
    expect_refuted(back(more), "BV3008", {"quantised/config.json"});
  }
  std::string other = kept;
  const std::size_t block = other.find("weight_block_size");
  other.replace(block, 17, "weight_block_sizf");
  write_text(at("mg/quantised/config.json"), other);
  const Ended ended = back();
  EXPECT_EQ(ended.code, 5) << ended.all();
  EXPECT_NE(flat(ended).find("quantised/config.json is not the file that convert wrote"),
            std::string::npos)
      << ended.all();
  EXPECT_FALSE(fs::exists(at("back")));
  write_text(at("mg/quantised/config.json"), kept);
  write_text(at("mg/hf/config.json"), file_text(at("mg/hf/config.json")) + " ");
  expect_refuted(back({"--accept-changed"}), "BV3008", {"hf/config.json"});
  EXPECT_EQ(back({"--accept-changed", "--quantised", "plain"}).code, 0);
}

/// A scale of 0 makes all codes equal: zeros come back, other codes are not guessed.
TEST_F(Requantised, IsNotGuessedWhereSeveralCodesHaveOneValue) {
  EditedCheckpoint model = in_form(EditedCheckpoint::golden("llama"), forms().front());
  auto& scale = model.tensors.at(kUp + "_scale_inv").bytes;
  std::fill(scale.begin(), scale.begin() + 4, std::byte{0});
  auto& codes = model.tensors.at(kUp);
  const std::int64_t columns = codes.shape[1];
  for (std::int64_t at = 0; at < 16 * columns; ++at) {
    if (at % columns < 8) {
      codes.bytes[static_cast<std::size_t>(at)] = std::byte{0};
    }
  }
  write_sharded(model, at("m"));
  ASSERT_EQ(there({"--dtype", "bfloat16"}).code, 0);
  expect_back("zeros");
  codes.bytes[3] = std::byte{0x31};
  fs::remove_all(at("m"));
  write_sharded(model, at("m"));
  const Ended ended = there({"--dtype", "bfloat16"});
  ASSERT_EQ(ended.code, 0) << ended.all();
  EXPECT_NE(flat(ended).find("1 code of 1 weight cannot be told"), std::string::npos)
      << ended.all();
  expect_refuted(back(), "BV3005", {kUp, "several codes give", "--quantised plain"});
}

TEST_F(Requantised, IsNoChoiceOfAFolderThatKeptNothing) {
  EditedCheckpoint::golden("llama").write(at("m"));
  ASSERT_EQ(there().code, 0);
  const Ended ended = back({"--quantised", "restore"});
  EXPECT_EQ(ended.code, 2) << ended.all();
  EXPECT_NE(ended.all().find("keeps no quantised form"), std::string::npos) << ended.all();
  EXPECT_EQ(back({"--quantised", "plain"}).code, 0);
}

}  // namespace
}  // namespace bv::e2e
