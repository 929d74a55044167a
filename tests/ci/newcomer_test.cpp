// What somebody sees who is here for the first time and makes the usual mistakes.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <regex>

#include "core/base/text.hpp"
#include "tests/ci/run_command.hpp"
#include "tests/support/golden_text.hpp"
#include "tests/support/process.hpp"

namespace bv::cli {
namespace {

namespace fs = std::filesystem;
using support::expect_golden;
using support::unwrapped;
using support::without_places;
using testing::Ended;
using ::testing::HasSubstr;
using testing::run_line;
using testing::TempFolder;

/// Both streams, as fixtures/text/newcomer/NAME.txt has them.
void expect_text(const Ended& ended, const std::string& name) {
  expect_golden("newcomer/" + name, unwrapped(without_places(ended.err + ended.out)));
}

TEST(Newcomer, ShardsWithoutManifestSayWhatIsMissingAndWhatCanBeDone) {
  const TempFolder temp;
  ASSERT_EQ(run_line({"convert", "--to", "megatron", "--model", "fixture:llama", "--tp", "2",
                      "--out", temp / "shards"})
                .code,
            0);
  fs::rename(temp / "shards/manifest.json", temp / "manifest.json");
  const Ended bare =
      run_line({"convert", "--to", "hf", "--model", temp / "shards", "--out", temp / "hf"});
  EXPECT_EQ(bare.code, 5);
  expect_text(bare, "no_manifest");
  // A config.json beside them makes them no HF model.
  fs::copy(temp / "shards/hf/config.json", temp / "shards/config.json");
  const Ended beside =
      run_line({"convert", "--to", "hf", "--model", temp / "shards", "--out", temp / "hf"});
  EXPECT_EQ(beside.code, 5);
  EXPECT_EQ(beside.err, bare.err);
  // The step that it names judges them.
  const Ended judged =
      run_line({"check", "--model", "fixture:llama", "--megatron", temp / "shards"});
  EXPECT_EQ(judged.code, 0) << judged.err << judged.out;
}

TEST(Newcomer, AnIterationThatIsNotThereIsSaidByEveryCommandThatReadsIt) {
  const TempFolder temp;
  fs::copy(testing::kGolden / "torch_dist/qwen3", temp.path() / "ckpt",
           fs::copy_options::recursive);
  testing::write_text(temp.path() / "ckpt/latest_checkpointed_iteration.txt", "500");
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"convert", "--to", "hf", "--model", temp / "ckpt", "--like", testing::hf_case("qwen3"),
            "--out", temp / "hf"},
           {"check", "--model", testing::hf_case("qwen3"), "--megatron", temp / "ckpt"},
           {"diff", testing::hf_case("qwen3"), temp / "ckpt"},
           {"inspect", "--model", temp / "ckpt"}}) {
    const Ended ended = run_line(words);
    EXPECT_EQ(ended.code, 5) << words[0] << ended.err << ended.out;
    EXPECT_THAT(unwrapped(ended.err), HasSubstr("names iter_0000500, which holds no checkpoint"));
    EXPECT_THAT(unwrapped(ended.err), HasSubstr("iter_0000000"));
  }
  fs::remove(temp / "ckpt/latest_checkpointed_iteration.txt");
  const Ended told = run_line({"diff", testing::hf_case("qwen3"), temp / "ckpt"});
  EXPECT_EQ(told.code, 0) << told.err << told.out;
  EXPECT_THAT(told.out, HasSubstr("iter_0000000 is taken, the last of 1 iteration"));
}

/// One comma too many, at the end of a JSON file.
void add_comma(const fs::path& file) {
  std::string text = support::file_text(file);
  text.erase(text.find_last_not_of(" \n", text.rfind('}') - 1) + 1);
  testing::write_text(file, text + ",\n}\n");
}

TEST(Newcomer, ACommaAfterTheLastEntryIsSaidOfEveryFile) {
  const TempFolder temp;
  const auto copy = [&](const fs::path& from, const std::string& to) {
    fs::copy(from, temp.path() / to, fs::copy_options::recursive);
    return temp.path() / to;
  };
  add_comma(copy(testing::hf_case("llama"), "config") / "config.json");
  add_comma(copy(testing::hf_case("llama"), "index") / "model.safetensors.index.json");
  const fs::path peft = copy(testing::kGolden / "peft/llama_all", "peft");
  add_comma(peft / "adapter/adapter_config.json");
  const std::string rules =
      copy(support::fixture("broken/swapped_gate_up.rules.json"), "x.rules.json").string();
  add_comma(rules);
  fs::create_directories(temp.path() / "families");
  add_comma(copy(fs::path(BV_FIXTURES).parent_path() / "core/families/llama.json",
                 "families/other.json"));
  ASSERT_EQ(run_line({"check", "--model", "fixture:llama", "--tp", "1", "--report",
                      "json=" + temp / "v.json"})
                .code,
            0);
  add_comma(temp / "v.json");
  ASSERT_EQ(run_line({"inspect", "--model", "fixture:llama", "-q", "--dump-headers",
                      temp / "m.headers.json"})
                .code,
            0);
  add_comma(temp / "m.headers.json");
  testing::write_text(temp / "s.json", "{\"schema\": \"bridge-survey/1\", \"rows\": []\n}");
  add_comma(temp / "s.json");
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"check", "--model", temp / "config"},
           {"check", "--model", temp / "index"},
           {"lora", "check", "--model", (peft / "base").string(), "--adapter",
            (peft / "adapter").string()},
           {"rules", "lint", rules},
           {"check", "--model", "fixture:qwen3", "--rules", rules},
           {"check", "--model", "fixture:llama", "--families", temp / "families"},
           {"report", "html", temp / "v.json"},
           {"check", "--headers", temp / "m.headers.json"},
           {"survey", rules, "--baseline", temp / "s.json"}}) {
    const Ended ended = run_line(words);
    EXPECT_TRUE(ended.code == 5 || ended.code == 2) << join(words, " ") << ended.code;
    EXPECT_THAT(unwrapped(ended.err), HasSubstr("a comma stands after the last entry"))
        << join(words, " ");
    EXPECT_THAT(ended.err, ::testing::ContainsRegex("\n   \\|  .*,\n   \\|  *\\^\n")) << ended.err;
  }
}

/// Two rules for one name: the message says which of them is right, where the family knows.
TEST(Newcomer, OfTwoRulesForOneNameTheWrongOneIsBlamed) {
  const TempFolder temp;
  const nlohmann::json swapped =
      support::read_json(support::fixture("broken/swapped_gate_up.rules.json"));
  nlohmann::json right;
  nlohmann::json file = swapped;
  for (nlohmann::json& rule : file["rules"]) {
    if (rule["hf"].is_object() && rule["hf"].contains("gate")) {
      right = rule;
      std::swap(right["hf"]["gate"], right["hf"]["up"]);
    }
  }
  nlohmann::json wrong_first = file;
  wrong_first["rules"].push_back(right);
  nlohmann::json right_first = file;
  right_first["rules"].insert(right_first["rules"].begin(), right);
  nlohmann::json twice = file;
  twice["rules"].push_back(twice["rules"][0]);
  for (const auto& [name, text] :
       {std::pair("wrong_first", wrong_first.dump(1)),
        std::pair("right_first", right_first.dump(1)), std::pair("twice", twice.dump(1))}) {
    testing::write_text(temp.path() / (std::string(name) + ".json"), text);
  }
  const auto line_of = [](const nlohmann::json& json, std::size_t rule) {
    const std::string text = json.dump(1);
    std::size_t at = text.find("\"rules\"");
    for (std::size_t i = 0; i <= rule; ++i) {
      at = text.find("\n  {", at + 1);
    }
    return 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at) + 1, '\n');
  };
  const auto blamed = [&](const std::string& name, std::int64_t line) {
    const Ended ended = run_line({"check", "--model", "fixture:qwen3", "--tp", "1", "--rules",
                                  temp / name, "--only", "names"});
    EXPECT_EQ(ended.code, 1) << ended.out;
    EXPECT_THAT(unwrapped(ended.out),
                HasSubstr(fmt::format("remove the rule at {}:{}:", temp / name, line)));
  };
  std::size_t place = 0;
  while (!(file["rules"][place]["hf"].is_object() && file["rules"][place]["hf"].contains("gate"))) {
    ++place;
  }
  blamed("wrong_first.json", line_of(wrong_first, place));
  blamed("right_first.json", line_of(right_first, place + 1));
  const Ended lint = run_line({"rules", "lint", temp / "twice.json"});
  EXPECT_EQ(lint.code, 0) << lint.out;
  EXPECT_THAT(lint.out, HasSubstr("warning[BV1010]"));
  EXPECT_THAT(lint.out, HasSubstr("of the same tensors"));
  EXPECT_EQ(run_line({"rules", "lint", temp / "wrong_first.json"}).code, 1);
}

TEST(Newcomer, MarksStandBelowTheStarsInCheckAsInLint) {
  const std::string rules = support::fixture("broken/wildcard_count.rules.json");
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"rules", "lint", rules},
        std::vector<std::string>{"check", "--model", "fixture:qwen3", "--rules", rules, "--only",
                                 "names"}}) {
    const Ended ended = run_line(words);
    EXPECT_THAT(ended.out, HasSubstr("   |  megatron  decoder.layers.*.self_attention.linear_qkv."
                                     "layer_norm_weight\n   |                           ^\n"));
    EXPECT_THAT(ended.out, ::testing::Not(::testing::ContainsRegex("\n   \\|  *\n")));
  }
}

TEST(Newcomer, EtpThatFollowsTpIsSaid) {
  const std::vector<std::string> line = {"check", "--model", "fixture:qwen3_moe", "--tp", "2",
                                         "--ep",  "2"};
  EXPECT_THAT(run_line(line).out, HasSubstr("1 asked for, ETP follows --tp"));
  std::vector<std::string> said = line;
  said.insert(said.end(), {"--etp", "1"});
  EXPECT_THAT(run_line(said).out, ::testing::Not(HasSubstr("ETP follows")));
  const std::vector<std::string> wide = {"check",
                                         "--model",
                                         "fixture:qwen3_moe",
                                         "--tp",
                                         "8",
                                         "--set",
                                         "num_attention_heads=16",
                                         "--set",
                                         "num_key_value_heads=8"};
  const Ended refused = run_line(wide);
  EXPECT_EQ(refused.code, 5);
  EXPECT_THAT(unwrapped(refused.err), HasSubstr("ETP follows --tp, because --etp was not given"));
  EXPECT_THAT(unwrapped(refused.err), HasSubstr("--etp 1"));
}

TEST(Newcomer, AnotherCheckBesideMegatronSaysBothCommands) {
  for (const auto& [option, value, help] :
       {std::tuple("--level", "full", "bridge-verify check --model m --level full"),
        std::tuple("--only", "names", "bridge-verify check --model m --only names")}) {
    const Ended ended = run_line({"check", "--model", "m", "--megatron", "c", option, value});
    EXPECT_EQ(ended.code, 2);
    EXPECT_THAT(unwrapped(ended.err), HasSubstr(help));
  }
}

/// What is read has its own numbers, not those of the model that names the files.
TEST(Newcomer, TheHeaderOfAConversionFromTorchDistIsAboutTheCheckpoint) {
  const TempFolder temp;
  const Ended ended = run_line({"convert", "--to", "hf", "--model",
                                (testing::kGolden / "torch_dist/qwen3").string(), "--like",
                                testing::hf_case("qwen3"), "--out", temp / "hf"});
  EXPECT_EQ(ended.code, 0) << ended.err << ended.out;
  // Beside a longer folder the words behind it stand on lines of their own.
  const std::string header = std::regex_replace(ended.out.substr(0, ended.out.find("\n\n")),
                                                std::regex("\\s+\\(megatron\\)\\s+10 tensors"),
                                                " (megatron)   10 tensors");
  expect_golden("newcomer/from_torch_dist", unwrapped(without_places(header)) + "\n");
}

TEST(Newcomer, SettingsShowTheModel) {
  EXPECT_THAT(run_line({"config", "show"}, {{"BRIDGE_VERIFY_MODEL", "there"}}).out,
              ::testing::ContainsRegex("model +there +BRIDGE_VERIFY_MODEL"));
}

/// A family with one thing misspelt, beside a model that it is for.
Ended with_family(const TempFolder& temp, const std::function<void(nlohmann::json&)>& change) {
  const fs::path root = fs::path(BV_FIXTURES).parent_path() / "core/families";
  nlohmann::json family = support::read_json(root / "llama.json");
  family["family"] = "mine";
  family["architectures"] = {"MineForCausalLM"};
  family["model_types"] = {"mine"};
  family["tables"] = {{"my_mlp", support::read_json(root / "tables/dense_mlp.json")}};
  family["sections"][1]["use"][3] = "my_mlp";
  change(family);
  testing::write_text(temp.path() / "f/mine.json", family.dump(1));
  fs::remove_all(temp.path() / "m");
  fs::copy(testing::hf_case("llama"), temp.path() / "m", fs::copy_options::recursive);
  nlohmann::json config = support::read_json(temp.path() / "m/config.json");
  config["architectures"] = {"MineForCausalLM"};
  config["model_type"] = "mine";
  testing::write_text(temp.path() / "m/config.json", config.dump());
  return run_line({"check", "--model", temp / "m", "--families", temp / "f", "--tp", "2"});
}

TEST(Newcomer, AMisspeltKindOfAFamilyFileIsOneBlock) {
  const TempFolder temp;
  EXPECT_EQ(with_family(temp, [](nlohmann::json&) {}).code, 3);  // norms are not stated
  for (const auto& [kind, meant] :
       {std::pair("gated_mpl", "gated_mlp"), std::pair("GatedMLPMapping", "gated_mlp")}) {
    const Ended ended = with_family(temp, [&kind](nlohmann::json& family) {
      family["tables"]["my_mlp"]["rules"][1]["kind"] = kind;
    });
    EXPECT_EQ(ended.code, 5) << ended.out;
    EXPECT_THAT(ended.err, HasSubstr("error[BV7011]"));
    EXPECT_THAT(ended.err, HasSubstr(std::string("did you mean \"") + meant + "\"?"));
    EXPECT_EQ(ended.err.find("error["), ended.err.rfind("error["));
    EXPECT_EQ(ended.out.find("error["), std::string::npos);
  }
}

TEST(Newcomer, AMisspeltComputesLikeIsOneBlock) {
  const TempFolder temp;
  const Ended typo = with_family(temp, [](nlohmann::json& family) {
    family["facts"] = {{"computes_like", "lama"}};
  });
  EXPECT_EQ(typo.code, 5) << typo.out;
  EXPECT_THAT(typo.err, HasSubstr("did you mean \"llama\"?"));
  const Ended right = with_family(temp, [](nlohmann::json& family) {
    family["facts"] = {{"computes_like", "llama"}};
  });
  EXPECT_NE(right.code, 5) << right.err;
}

}  // namespace
}  // namespace bv::cli
