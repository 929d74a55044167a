// What outside reviewers found behind a green line: each once more, on other files.

#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;

class Strangers : public testing::Test {
 protected:
  std::string at(const std::string& name) const { return folder / name; }
  std::string fixture(const std::string& name) const {
    EXPECT_EQ(run({"fixture", "make", name, "--out", at(name)}).code, 0);
    return at(name);
  }
  TempFolder folder;
};

/// The index that goes along must name the files that are written: the next reader believes it.
TEST_F(Strangers, AnIndexOfOtherFilesNeverComesBackAsAPass) {
  const std::string model = fixture("llama");
  ASSERT_EQ(run({"convert", "--to", "megatron", "--model", model, "--out", at("m")}).code, 0);
  const fs::path index = folder.path() / "m/hf/model.safetensors.index.json";
  auto json = nlohmann::ordered_json::parse(file_text(index));
  auto& map = json.at("weight_map");
  const std::string other = map.back().get<std::string>();
  ASSERT_NE(map.front().get<std::string>(), other);
  map.front() = other;
  write_text(index, json.dump());
  const Ended back =
      run({"convert", "--to", "hf", "--model", at("m"), "--out", at("b"), "--accept-changed"});
  EXPECT_EQ(back.code, 5) << back.all();
  EXPECT_NE(back.err.find("error[BV7007]"), std::string::npos) << back.err;
  EXPECT_FALSE(fs::exists(at("b")));
}

TEST_F(Strangers, AWeightsFileWhoseNameIsNotUtf8IsRefusedBeforeAnythingIsWritten) {
  const std::string model = fixture("llama");
  for (const auto& entry : fs::directory_iterator(model)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".index.json")) {
      fs::remove(entry.path());
    } else if (name.starts_with("model-00001")) {
      fs::rename(entry.path(), model + "/a.safetensors");
    } else if (name.starts_with("model-00002")) {
      fs::rename(entry.path(), model + "/\xfe.safetensors");
    }
  }
  const Ended there = run({"convert", "--to", "megatron", "--model", model, "--out", at("m")});
  EXPECT_EQ(there.code, 5) << there.all();
  EXPECT_NE(there.err.find("is not UTF-8"), std::string::npos) << there.err;
  EXPECT_FALSE(fs::exists(at("m")) || fs::exists(at("m.bv-partial")));
}

/// Extras may be left out; a parameter that the model has makes the run a partial one.
TEST_F(Strangers, ExcludingWhatTheModelHasIsNotAPass) {
  const std::string model = fixture("llama");
  const Words check = {"check", "--model", model, "--exclude", "model.layers.1.*"};
  const Ended partial = run(check);
  EXPECT_EQ(partial.code, 3) << partial.all();
  EXPECT_NE(partial.out.find("parameters that the model has"), std::string::npos) << partial.out;
  Words allowed = check;
  allowed.push_back("--allow-partial");
  EXPECT_EQ(run(allowed).code, 0);
}

/// Two mistakes in one rules file are told in one round.
TEST_F(Strangers, AWrongPlaceIsToldBesideAWrongName) {
  auto rules =
      nlohmann::json::parse(file_text(support::fixture("broken/swapped_gate_up.rules.json")));
  for (auto& rule : rules.at("rules")) {
    if (rule.at("hf").is_object() && rule.at("hf").contains("q")) {
      rule.at("hf")["q"] = "model.layers.*.self_attn.query.weight";
    }
  }
  write_text(at("two.json"), rules.dump());
  const Words line = {"check", "--model", fixture("qwen3"), "--rules", at("two.json")};
  const Ended both = run(line);
  EXPECT_EQ(both.code, 1) << both.all();
  EXPECT_NE(both.out.find("error[BV1004]"), std::string::npos) << both.out;
  EXPECT_NE(both.out.find("error[BV2006]"), std::string::npos) << both.out;
  EXPECT_NE(both.out.find("of the rules whose names"), std::string::npos) << both.out;
  Words only = line;
  only.insert(only.end(), {"--only", "placement", "--tp", "2"});
  EXPECT_NE(run(only).out.find("error[BV2006]"), std::string::npos);
}

/// The verdicts of a certificate are those of the run.
TEST_F(Strangers, ARunWhoseRedVerdictsWereTakenOutIsNotCertified) {
  const Words line = {"roundtrip",
                      "--model",
                      fixture("qwen3"),
                      "--layouts",
                      "all",
                      "--rules",
                      support::fixture("broken/swapped_gate_up.rules.json"),
                      "--out",
                      at("v")};
  ASSERT_EQ(run(line).code, 1);
  auto json = nlohmann::ordered_json::parse(file_text(at("v/verdicts.json")));
  auto& verdicts = json.at("verdicts");
  for (std::size_t i = verdicts.size(); i-- > 0;) {
    if (verdicts[i].at("outcome") == "Refuted") {
      verdicts.erase(i);
    }
  }
  write_text(at("forged.json"), json.dump());
  const Ended forged = run({"certify", at("forged.json"), "--out", at("c.gz")});
  EXPECT_EQ(forged.code, 5) << forged.all();
  EXPECT_NE(forged.err.find("result.counts.refuted"), std::string::npos) << forged.err;
  json.at("result").at("counts").erase("refuted");
  write_text(at("forged.json"), json.dump());
  EXPECT_EQ(run({"certify", at("forged.json"), "--out", at("c.gz")}).code, 5);
  json.at("result").erase("counts");
  write_text(at("forged.json"), json.dump());
  EXPECT_EQ(run({"certify", at("forged.json"), "--out", at("c.gz")}).code, 5);
  EXPECT_FALSE(fs::exists(at("c.gz")));
}

/// A merge is another model under other head counts, as any export is.
TEST_F(Strangers, AMergeWithAnotherConfigIsRefuted) {
  const std::string model = support::fixture("golden/peft/llama_all/base");
  const std::string adapter = support::fixture("golden/peft/llama_all/adapter");
  ASSERT_EQ(
      run({"lora", "merge", "--model", model, "--adapter", adapter, "--out", at("merged")}).code,
      0);
  const Words line = {"lora",      "check", "--model",  model,
                      "--adapter", adapter, "--merged", at("merged")};
  EXPECT_EQ(run(line).code, 0);
  auto config = nlohmann::json::parse(file_text(at("merged/config.json")));
  config["num_key_value_heads"] = 1;
  write_text(at("merged/config.json"), config.dump());
  const Ended other = run(line);
  EXPECT_EQ(other.code, 1) << other.all();
  EXPECT_NE(other.out.find("error[BV7014]"), std::string::npos) << other.out;
}

/// The original of a stored copy is not there: the copy is then a tensor that no rule reads.
TEST_F(Strangers, ACopyWithoutItsOriginalIsRefuted) {
  const std::string model = fixture("nemotron_h");
  std::string bytes = file_text(model + "/model.safetensors");
  const std::string name = "\"backbone.embeddings.weight\"";
  const std::size_t at_name = bytes.find(name);
  ASSERT_NE(at_name, std::string::npos);
  bytes.replace(at_name, name.size(), "\"backbone.embedding.weight\" ");
  write_text(model + "/model.safetensors", bytes);
  const Ended ended = run({"check", "--model", model, "--set", "tie_word_embeddings=true"});
  EXPECT_EQ(ended.code, 1) << ended.all();
}

/// Where no family says how many MTP layers there are, they are still numbered from 0.
TEST_F(Strangers, MtpLayersAreNumberedFromZero) {
  const std::string model = at("nova");
  ASSERT_EQ(run({"fixture", "make", "glm4_moe/mtp", "--out", model}).code, 0);
  auto config = nlohmann::json::parse(file_text(model + "/config.json"));
  config["architectures"] = {"NovaMoeForCausalLM"};
  config["model_type"] = "nova_moe";
  write_text(model + "/config.json", config.dump());
  std::string rules =
      run({"rules", "show", "glm4_moe", "--as-rules", "--model", "fixture:glm4_moe/mtp"}).out;
  const Words line = {"check", "--model", model, "--rules", at("rules.json"), "--only", "names"};
  write_text(at("rules.json"), rules);
  const Ended right = run(line);
  EXPECT_EQ(right.code, 3) << right.all();  // the list of parameters is not known
  ASSERT_NE(rules.find("mtp.layers.0."), std::string::npos) << rules;
  for (std::size_t i = rules.find("mtp.layers.0."); i != std::string::npos;
       i = rules.find("mtp.layers.0.", i)) {
    rules[i + std::string("mtp.layers.").size()] = '3';
  }
  write_text(at("rules.json"), rules);
  const Ended wrong = run(line);
  EXPECT_EQ(wrong.code, 1) << wrong.all();
  EXPECT_NE(wrong.out.find("mtp.layers.0.eh_proj.weight"), std::string::npos) << wrong.out;
}

/// Equal tensors are another model under other head counts.
TEST_F(Strangers, AgainstAConfigOfOtherSizesIsRefuted) {
  const std::string model = fixture("llama");
  fs::copy(model, at("other"), fs::copy_options::recursive);
  const Words line = {"check", "--model", model, "--against", at("other")};
  const Ended equal = run(line);
  EXPECT_EQ(equal.code, 0) << equal.all();
  EXPECT_NE(equal.out.find("the same sizes"), std::string::npos) << equal.out;
  const auto with = [&](const char* field, const nlohmann::json& value) {
    auto config = nlohmann::json::parse(file_text(model + "/config.json"));
    config[field] = value;
    write_text(at("other/config.json"), config.dump());
    return run(line);
  };
  const Ended noted = with("rope_theta", 123.5);
  EXPECT_EQ(noted.code, 0) << noted.all();
  EXPECT_NE(noted.out.find("rope_theta"), std::string::npos) << noted.out;
  EXPECT_EQ(with("transformers_version", "0.0.0").out.find("differ"), std::string::npos);
  const auto config = nlohmann::json::parse(file_text(model + "/config.json"));
  const int groups = config.at("num_key_value_heads").get<int>();
  for (const auto& [field, value] : std::vector<std::pair<const char*, nlohmann::json>>{
           {"num_key_value_heads", groups / 2}, {"tie_word_embeddings", true}, {"head_dim", 4}}) {
    const Ended refuted = with(field, value);
    EXPECT_EQ(refuted.code, 1) << field << refuted.all();
    EXPECT_NE(refuted.out.find("error[BV7014]"), std::string::npos) << field << refuted.out;
  }
  write_text(at("other/config.json"), "{");
  EXPECT_EQ(run(line).code, 1);
}

TEST_F(Strangers, ASettingThatNothingReadsIsNoted) {
  const std::string dense = fixture("llama");
  const auto noted = [](const std::string& model, const std::string& setting) {
    return run({"check", "--model", model, "--tp", "1", "--set", setting})
               .all()
               .find("config.json has no such field") != std::string::npos;
  };
  EXPECT_TRUE(noted(dense, "num_hidden_layer=7"));
  const std::string nested = golden_hf("qwen3_5_vl_dense_mtp_tied").string();
  EXPECT_TRUE(noted(nested, "num_hidden_layers=2"));
  EXPECT_FALSE(noted(dense, "num_hidden_layers=2"));
  auto config = nlohmann::ordered_json::parse(file_text(dense + "/config.json"));
  config.erase("head_dim");
  write_text(dense + "/config.json", config.dump());
  EXPECT_FALSE(noted(dense, "head_dim=8"));
}

TEST_F(Strangers, ARankFileOfAnotherLayoutIsAFaultOfTheInput) {
  const std::string model = fixture("llama");
  ASSERT_EQ(
      run({"convert", "--to", "megatron", "--model", model, "--tp", "2", "--out", at("m")}).code,
      0);
  fs::copy_file(at("m/pp0_tp0_ep0_etp0.safetensors"), at("m/pp0_tp3_ep0_etp0.safetensors"));
  const Ended ended = run({"check", "--model", model, "--megatron", at("m")});
  EXPECT_EQ(ended.code, 5) << ended.all();
}

/// A snapshot that is a link out of its cache entry takes nothing along from there.
TEST_F(Strangers, ASnapshotThatLeadsOutOfTheCacheIsNotFollowed) {
  const std::string model = fixture("llama");
  const std::string entry = at("hub/models--a--b");
  fs::create_directories(entry + "/snapshots");
  fs::create_directories(entry + "/refs");
  const std::string commit(40, 'a');
  fs::create_symlink(model, entry + "/snapshots/" + commit);
  write_text(entry + "/refs/main", commit);
  const Ended ended = run(
      {"convert", "--to", "megatron", "--model", entry + "/snapshots/" + commit, "--out", at("m")});
  EXPECT_EQ(ended.code, 5) << ended.all();
  EXPECT_NE(ended.err.find("error[BV7016]"), std::string::npos) << ended.err;
  EXPECT_FALSE(fs::exists(at("m")));
}

/// What is printed to be copied must run, for adapters as well.
TEST_F(Strangers, TheReplayOfAnAdapterUnderCheckRuns) {
  const std::string base = fixture("llama");
  const std::string adapter = (golden_hf("llama").parent_path().parent_path() / "peft").string();
  const Ended ended = run({"check", "--model", base, "--adapter", adapter + "/llama_all/adapter"});
  ASSERT_EQ(ended.code, 1) << ended.all();
  const std::string before = "= replay  bridge-verify ";
  const std::size_t at_line = ended.out.find(before);
  ASSERT_NE(at_line, std::string::npos) << ended.out;
  std::istringstream line(ended.out.substr(
      at_line + before.size(), ended.out.find('\n', at_line) - at_line - before.size()));
  Words words;
  for (std::string word; line >> word;) {
    words.push_back(word);
  }
  const Ended again = run(words);
  EXPECT_EQ(again.code, 1) << again.all();
  EXPECT_NE(again.out.find("error[BV"), std::string::npos) << again.all();
}

}  // namespace
}  // namespace bv::e2e
