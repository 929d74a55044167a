// `lora` and `check --adapter`: adapters of the real PEFT and of the real Megatron-Bridge.

#include <nlohmann/json.hpp>
#include <set>

#include "core/io/checkpoint.hpp"
#include "properties/claims/adapter.hpp"
#include "tests/ci/run_command.hpp"

namespace bv::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using testing::Ended;
using testing::hf_case;
using testing::kGolden;
using testing::run_line;
using testing::TempFolder;

std::string peft(const std::string& name, const char* part) {
  return (kGolden / "peft" / name / part).string();
}

std::string text_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

Ended lora(std::vector<std::string> words) {
  words.insert(words.begin(), "lora");
  return run_line(std::move(words));
}

/// Codes of the refuted verdicts of a run with --json.
std::set<std::string> refuted(const Ended& ended) {
  std::set<std::string> out;
  const Json run = Json::parse(ended.out, nullptr, false);
  EXPECT_FALSE(run.is_discarded()) << ended.out << ended.err;
  for (const Json& verdict : run.value("verdicts", Json::array())) {
    if (verdict.at("outcome") == "Refuted") {
      out.insert(verdict.at("code").get<std::string>());
    }
  }
  return out;
}

TEST(LoraCommand, AnAdapterOfPeftPassesOnManyLayouts) {
  for (const char* name : {"llama_all", "qwen35_dense", "qwen35_moe_down_only",
                           "qwen3_moe_named_targets", "gptoss_transposed", "rslora"}) {
    const Ended ended =
        lora({"check", "--model", peft(name, "base"), "--adapter", peft(name, "adapter")});
    EXPECT_EQ(ended.code, 0) << name << ended.out << ended.err;
  }
}

TEST(LoraCommand, ThereAndBackAreTheBytesOfPeft) {
  const TempFolder folder;
  const std::string shards = (folder.path() / "shards").string();
  const std::string back = (folder.path() / "back").string();
  const std::string base = peft("llama_all", "base");
  const Ended there = lora({"convert", "--to", "megatron", "--model", base, "--adapter",
                            peft("llama_all", "adapter"), "--out", shards, "--tp", "2"});
  ASSERT_EQ(there.code, 0) << there.out << there.err;
  EXPECT_TRUE(fs::exists(folder.path() / "shards/pp0_tp1_ep0_etp0.safetensors"));
  const Ended again =
      lora({"convert", "--to", "hf", "--model", base, "--adapter", shards, "--out", back});
  ASSERT_EQ(again.code, 0) << again.out << again.err;
  for (const char* file : {"adapter_model.safetensors", "adapter_config.json"}) {
    EXPECT_EQ(text_of(fs::path(back) / file),
              text_of(fs::path(peft("llama_all", "adapter")) / file));
  }
  const Ended checked = lora({"check", "--model", base, "--adapter", shards});
  EXPECT_EQ(checked.code, 0) << checked.out << checked.err;
}

TEST(LoraCommand, AnAdapterOfMegatronBridgeNeedsItsAlphaAndIsConverted) {
  const TempFolder folder;
  const std::string ranks = (kGolden / "lora/qwen3_5_moe_packed__tp2_ep2/megatron").string();
  const std::string out = (folder.path() / "hf").string();
  std::vector<std::string> words = {
      "convert",   "--to", "hf",    "--model", hf_case("qwen3_5_moe_packed"),
      "--adapter", ranks,  "--out", out};
  const Ended without = lora(words);
  EXPECT_EQ(without.code, 5) << without.err;
  EXPECT_NE(without.err.find("--alpha"), std::string::npos) << without.err;
  words.insert(words.end(), {"--alpha", "12"});
  const Ended with = lora(words);
  ASSERT_EQ(with.code, 0) << with.out << with.err;
  const Ended checked = lora({"check", "--model", hf_case("qwen3_5_moe_packed"), "--adapter", out});
  EXPECT_EQ(checked.code, 0) << checked.out << checked.err;
}

TEST(LoraCommand, ExportsThatPeftDoesNotLoadAreRefuted) {
  const auto codes = [](const std::string& name, const std::string& base) {
    return refuted(lora({"check", "--json", "--model", hf_case(base), "--adapter",
                         (kGolden / "lora" / name / "hf_adapter").string()}));
  };
  // D-32: keys per expert for a class whose experts are packed.
  EXPECT_EQ(codes("qwen3_5_moe_packed__tp2_ep2", "qwen3_5_moe_packed"),
            std::set<std::string>{"BV4003"});
  // D-33: gate, up and down of dense layers and shared experts are taken for those of the experts.
  EXPECT_EQ(codes("deepseek_v3__tp2_ep2", "deepseek_v3"), std::set<std::string>{"BV4003"});
  // D-36: the bare name proj also wraps the patch embedding.
  EXPECT_TRUE(codes("qwen3_5_vl_dense__tp2", "qwen3_5_vl_dense").contains("BV4003"));
  // D-04, D-05.
  EXPECT_TRUE(codes("qwen3_next__tp2", "qwen3_next").contains("BV4010"));
  EXPECT_TRUE(codes("llama__tp1_dora", "llama").contains("BV4009"));
}

TEST(LoraCommand, AnAdapterIsNotWrittenAsTorchDist) {
  const support::TempFolder folder;
  const auto ended =
      lora({"convert", "--to", "torch_dist", "--model", hf_case("qwen3"), "--adapter",
            (kGolden / "lora/qwen3__tp1_gate_only/hf_adapter").string(), "--out", folder / "out"});
  EXPECT_EQ(ended.code, 2) << ended.err;
  EXPECT_NE(ended.err.find("an adapter is not written as torch_dist"), std::string::npos)
      << ended.err;
  EXPECT_FALSE(std::filesystem::exists(folder / "out"));
}

TEST(LoraCommand, AnExportIsHeldAgainstTheRanksItWasMadeFrom) {
  const auto codes = [](const std::string& name, const std::string& base, const char* layout) {
    return refuted(lora({"check", "--json", "--model", hf_case(base), "--adapter",
                         (kGolden / "lora" / name / "hf_adapter").string(), "--against",
                         (kGolden / "lora" / name / "megatron").string(), "--alpha", "12",
                         "--layout", layout}));
  };
  // D-03: rows of the visual qkv; D-08: rows of the experts under ETP; D-07: experts that are
  // missing.
  EXPECT_TRUE(
      codes("qwen3_5_vl_dense__tp2", "qwen3_5_vl_dense", "tp2pp1ep1etp1").contains("BV4015"));
  EXPECT_TRUE(
      codes("qwen3_5_moe_packed__tp4_ep2_etp2_shared", "qwen3_5_moe_packed", "tp4pp1ep2etp2")
          .contains("BV4015"));
  const Ended right = lora({"check", "--model", hf_case("qwen3"), "--adapter",
                            (kGolden / "lora/qwen3__tp1_gate_only/hf_adapter").string(),
                            "--against", (kGolden / "lora/qwen3__tp1_gate_only/megatron").string(),
                            "--alpha", "12", "--tp", "1"});
  EXPECT_EQ(right.code, 0) << right.out << right.err;
}

TEST(LoraCommand, ARankThatTheConfigDoesNotSayIsAnInputError) {
  const TempFolder folder;
  const fs::path adapter = folder.path() / "adapter";
  fs::copy(peft("llama_all", "adapter"), adapter);
  std::string config = text_of(adapter / "adapter_config.json");
  const std::size_t at = config.find("\"r\": 6");
  ASSERT_NE(at, std::string::npos);
  config.replace(at, 6, "\"r\": 16");
  fs::permissions(adapter, fs::perms::owner_all);
  fs::remove(adapter / "adapter_config.json");
  testing::write_text(adapter / "adapter_config.json", config);
  const Ended ended =
      lora({"check", "--model", peft("llama_all", "base"), "--adapter", adapter.string()});
  EXPECT_EQ(ended.code, 5) << ended.out;
  EXPECT_NE(ended.err.find("error[BV7012]: adapter_config.json says r=16"), std::string::npos)
      << ended.err;
  EXPECT_NE(ended.err.find("0 of 14 agree with the config"), std::string::npos) << ended.err;
}

TEST(LoraCommand, CheckWithAnAdapterJudgesBoth) {
  const Ended ended = run_line({"check", "--model", peft("llama_all", "base"), "--adapter",
                                peft("llama_all", "adapter"), "--tp", "1,2"});
  EXPECT_EQ(ended.code, 0) << ended.out << ended.err;
  EXPECT_NE(ended.out.find("adapter-coverage"), std::string::npos) << ended.out;
  EXPECT_NE(ended.out.find("placement"), std::string::npos) << ended.out;
  const Ended wrong = run_line({"check", "--model", peft("llama_all", "base"), "--adapter",
                                peft("qwen35_dense", "adapter"), "--tp", "1,2"});
  EXPECT_EQ(wrong.code, 1) << wrong.out << wrong.err;
}

TEST(LoraCommand, UnpackedExpertsAreOnePairEach) {
  const TempFolder folder;
  const std::string out = (folder.path() / "unpacked").string();
  const Ended ended = lora({"unpack", "--model", peft("qwen3_moe_named_targets", "base"),
                            "--adapter", peft("qwen3_moe_named_targets", "adapter"), "--out", out});
  ASSERT_EQ(ended.code, 0) << ended.out << ended.err;
  const auto file = io::Checkpoint::open(fs::path(out) / "adapter_model.safetensors").value();
  const auto shape = [&](const std::string& key) {
    const auto found = file.tensors().find("base_model.model.model.layers.0." + key);
    return found == file.tensors().end() ? Shape{} : found->second.spec.shape;
  };
  EXPECT_EQ(shape("mlp.experts.7.gate_proj.lora_A.weight"), (Shape{6, 40}));
  EXPECT_EQ(shape("mlp.experts.7.up_proj.lora_B.weight"), (Shape{12, 6}));
  EXPECT_EQ(shape("mlp.experts.0.down_proj.lora_B.weight"), (Shape{40, 3}));
}

/// What is missing is said in the first line: nothing is checked that has no name.
TEST(LoraCommand, WithoutAModelTheFirstLineSaysSo) {
  const Ended check = lora({"check", "--adapter", "a"});
  EXPECT_EQ(check.code, 2);
  EXPECT_TRUE(check.err.starts_with("error[BV0002]: lora needs a model")) << check.err;
  for (const char* verb : {"merge", "slice", "unpack"}) {
    const Ended made = lora({verb, "--adapter", "a", "--out", "b"});
    EXPECT_EQ(made.code, 2) << verb;
    EXPECT_TRUE(made.err.starts_with("error[BV0002]: ")) << made.err;
  }
  const Ended ended = lora({"check", "--model", "m", "--adapter", "a"});
  EXPECT_TRUE(ended.err.starts_with("checking m\n")) << ended.err;
}

TEST(LoraCommand, ExplainListsItsClaimsInTwoColumns) {
  const std::string list = run_line({"explain"}).out;
  std::set<std::size_t> columns;
  for (const claims::AdapterClaim& claim : claims::kAdapterCatalogue) {
    const std::size_t row = list.find("\n  " + std::string(claim.id) + "  ");
    ASSERT_NE(row, std::string::npos) << claim.id << " runs into its text";
    columns.insert(list.find_first_not_of(' ', row + 3 + claim.id.size()) - row);
  }
  EXPECT_EQ(columns.size(), 1);
}

TEST(LoraCommand, WrongUseIsToldWithTheVerbs) {
  EXPECT_EQ(lora({}).code, 2);
  EXPECT_EQ(lora({"check", "--model", hf_case("llama")}).code, 2);
  EXPECT_EQ(lora({"train", "--adapter", "x"}).code, 2);
  EXPECT_EQ(lora({"unmerge", "--adapter", "x"}).code, 2);  // what a merge rounded away is gone
  const Ended none = lora({"check", "--model", hf_case("llama"), "--adapter", hf_case("llama")});
  EXPECT_EQ(none.code, 5);
  EXPECT_NE(none.err.find("error[BV7012]"), std::string::npos) << none.err;
  EXPECT_NE(none.err.find("no adapter_config.json"), std::string::npos) << none.err;
}

}  // namespace
}  // namespace bv::cli
