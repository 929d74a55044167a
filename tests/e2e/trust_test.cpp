// convert beside what nobody vouches for: edited Megatron folders, links, other people's files,
// other runs, and options that must not be forgotten.

#include <fmt/format.h>
#include <sys/wait.h>

#include <set>
#include <thread>
#include <utility>

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;

const std::string kRank0 = "pp0_tp0_ep0_etp0.safetensors";
const std::string kRank1 = "pp0_tp1_ep0_etp0.safetensors";
const Words kTwoRanks = {"--tp", "2", "--make-vocab-size-divisible-by", "4"};

class Trust : public testing::Test {
 protected:
  std::string at(const std::string& name) const { return folder / name; }
  void copy_golden(const std::string& name, const std::string& to) const {
    fs::create_directories(folder.path() / to);
    fs::copy(golden_hf(name), folder.path() / to, fs::copy_options::recursive);
    fs::remove(folder.path() / to / "forward.safetensors");
  }
  Ended there(const std::string& model, const std::string& out, const Words& more = {}) const {
    return run(Words{"convert", "--to", "megatron", "--model", at(model), "--out", at(out)} + more);
  }
  Ended back(const std::string& model, const std::string& out, const Words& more = {}) const {
    return run(Words{"convert", "--to", "hf", "--model", at(model), "--out", at(out)} + more);
  }
  /// Every regular file below a folder.
  static std::map<std::string, std::string> files_of(const fs::path& folder) {
    std::map<std::string, std::string> out;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      if (entry.is_regular_file()) {
        out[fs::relative(entry.path(), folder).string()] = file_text(entry.path());
      }
    }
    return out;
  }
  void expect_same(const std::string& a, const std::string& b) const {
    const auto wanted = files_of(at(a));
    const auto found = files_of(at(b));
    for (const auto& [name, text] : wanted) {
      EXPECT_TRUE(found.contains(name) && found.at(name) == text) << name;
    }
    EXPECT_EQ(found.size(), wanted.size());
  }
  void expect_refuted(const Ended& ended, const std::string& code, const Words& says) const {
    EXPECT_EQ(ended.code, 1) << ended.all();
    EXPECT_EQ(ended.word(), "FAIL");
    EXPECT_NE(ended.out.find(code), std::string::npos) << ended.out;
    for (const std::string& words : says) {
      EXPECT_NE(ended.out.find(words), std::string::npos) << words << "\n" << ended.out;
    }
  }
  void expect_refused(const Ended& ended, int exit, const std::string& code,
                      const std::string& says = "") const {
    EXPECT_EQ(ended.code, exit) << ended.all();
    EXPECT_NE(ended.err.find("error[" + code + "]"), std::string::npos) << ended.err;
    EXPECT_NE(ended.err.find(says), std::string::npos) << ended.err;
    EXPECT_NE(ended.err.find("= help"), std::string::npos) << ended.err;
  }
  /// Tensors of a shard, changed and written again.
  void edit(const std::string& shard,
            const std::function<void(std::map<std::string, EditedTensor>&)>& change) const {
    auto tensors = read_tensors(at(shard));
    change(tensors);
    EditedCheckpoint{nlohmann::ordered_json::object(), std::move(tensors)}.write(folder.path() /
                                                                                 "x");
    fs::rename(at("x/model.safetensors"), at(shard));
  }

  TempFolder folder;
};

TEST_F(Trust, RankFilesThatChangedPlacesAreNamed) {
  copy_golden("llama", "m");
  ASSERT_EQ(there("m", "s", kTwoRanks).code, 0);
  fs::rename(at("s/" + kRank0), at("s/x"));
  fs::rename(at("s/" + kRank1), at("s/" + kRank0));
  fs::rename(at("s/x"), at("s/" + kRank1));
  for (const Words& more : {Words{}, Words{"--accept-changed"}}) {
    expect_refuted(back("s", "b", more), "BV3009", {kRank0 + " and " + kRank1 + " are exchanged"});
    EXPECT_FALSE(fs::exists(at("b")));
  }
}

/// Shapes and copies alone say nothing of it: the fingerprints do, whatever was trained.
TEST_F(Trust, RankFilesThatChangedPlacesAreNamedByCheckOfTrainedWeightsToo) {
  copy_golden("llama", "m");
  ASSERT_EQ(there("m", "s", kTwoRanks).code, 0);
  const Words check = {"check", "--model", at("m"), "--megatron", at("s"), "--accept-changed"};
  EXPECT_EQ(run(check).code, 0) << run(check).all();
  fs::rename(at("s/" + kRank0), at("s/x"));
  fs::rename(at("s/" + kRank1), at("s/" + kRank0));
  fs::rename(at("s/x"), at("s/" + kRank1));
  expect_refuted(run(check), "BV3009", {kRank0 + " and " + kRank1 + " are exchanged"});
  edit("s/" + kRank0, [](auto& tensors) {  // trained since, but for one layer
    for (auto& [name, tensor] : tensors) {
      if (name.find("layers.1.") == std::string::npos) {
        tensor.bytes[0] ^= std::byte{1};
      }
    }
  });
  expect_refuted(run(check), "BV3009", {kRank0});
}

TEST_F(Trust, ARankThatIsACopyOfAnotherIsNamed) {
  copy_golden("llama", "m");
  ASSERT_EQ(there("m", "s", kTwoRanks).code, 0);
  fs::copy_file(at("s/" + kRank0), at("s/" + kRank1), fs::copy_options::overwrite_existing);
  expect_refuted(back("s", "b"), "BV3009", {kRank1 + " holds what " + kRank0 + " held"});
}

TEST_F(Trust, LayersAndExpertsThatChangedPlacesAreNamed) {
  copy_golden("qwen3_moe", "m");
  ASSERT_EQ(there("m", "s", {"--no-moe-grouped-gemm"}).code, 0);
  const auto exchange = [&](const std::string& a, const std::string& b) {
    edit("s/" + kRank0, [&](auto& tensors) {
      std::map<std::string, EditedTensor> after;
      for (const auto& [name, tensor] : tensors) {
        std::string other = name;
        for (const auto& [from, to] : {std::pair(a, b), std::pair(b, a)}) {
          if (name.find(from) != std::string::npos) {
            other.replace(name.find(from), from.size(), to);
            break;
          }
        }
        after[other] = tensor;
      }
      tensors = std::move(after);
    });
  };
  exchange("decoder.layers.0.", "decoder.layers.1.");
  expect_refuted(back("s", "b"), "BV3009",
                 {"decoder.layers.0 of " + kRank0, "decoder.layers.1 of", "are exchanged"});
  exchange("decoder.layers.0.", "decoder.layers.1.");
  ASSERT_EQ(back("s", "b").code, 0);
  exchange("decoder.layers.1.mlp.experts.local_experts.0.",
           "decoder.layers.1.mlp.experts.local_experts.3.");
  expect_refuted(back("s", "c"), "BV3009", {"local_experts.0 of", "local_experts.3 of"});
  EXPECT_FALSE(fs::exists(at("c")));
}

TEST_F(Trust, OneChangedBitIsNamedAndTrainedWeightsAreTakenWhenAskedFor) {
  copy_golden("llama", "m");
  ASSERT_EQ(there("m", "s", kTwoRanks).code, 0);
  const std::string tensor = "decoder.layers.1.mlp.linear_fc2.weight";
  edit("s/" + kRank1, [&](auto& tensors) { tensors.at(tensor).bytes[5] ^= std::byte{4}; });
  expect_refuted(back("s", "b"), "BV3008", {tensor, kRank1});
  EXPECT_FALSE(fs::exists(at("b")));
  const Ended taken = back("s", "b", {"--accept-changed"});
  EXPECT_EQ(taken.code, 0) << taken.all();
  EXPECT_NE(taken.out.find("1 of "), std::string::npos) << taken.out;
  EXPECT_NE(taken.out.find("tensors changed since convert"), std::string::npos) << taken.out;
  // In both replicas the same bit: no replica differs, the fingerprints do.
  for (const std::string& rank : {kRank0, kRank1}) {
    edit("s/" + rank, [&](auto& tensors) {
      tensors.at("decoder.final_layernorm.weight").bytes[0] ^= std::byte{1};
    });
  }
  expect_refuted(back("s", "c"), "BV3008", {"decoder.final_layernorm.weight"});
}

TEST_F(Trust, AShardOfAnotherTypeIsRefused) {
  copy_golden("llama", "m");
  ASSERT_EQ(there("m", "s", kTwoRanks).code, 0);
  edit("s/" + kRank0,
       [&](auto& tensors) { tensors.at("decoder.final_layernorm.weight").dtype = DType::I32; });
  for (const Words& more : {Words{}, Words{"--accept-changed"}}) {
    const Ended ended = back("s", "b", more);
    EXPECT_EQ(ended.code, 5) << ended.all();
    EXPECT_NE(ended.all().find("decoder.final_layernorm.weight"), std::string::npos) << ended.all();
  }
  EXPECT_FALSE(fs::exists(at("b")));
}

TEST_F(Trust, OtherHeadsInTheCarriedConfigAreRefuted) {
  copy_golden("llama", "m");
  ASSERT_EQ(there("m", "s", kTwoRanks).code, 0);
  std::string config = file_text(at("s/hf/config.json"));
  const auto replace = [&config](const std::string& a, const std::string& b) {
    ASSERT_NE(config.find(a), std::string::npos);
    config.replace(config.find(a), a.size(), b);
  };
  replace("\"head_dim\": 10", "\"head_dim\": 20");
  replace("\"num_attention_heads\": 8", "\"num_attention_heads\": 4");
  replace("\"num_key_value_heads\": 4", "\"num_key_value_heads\": 2");
  write_text(at("s/hf/config.json"), config);
  for (const Words& more : {Words{}, Words{"--accept-changed"}}) {
    expect_refuted(back("s", "b", more), "BV3008", {"hf/config.json"});
    EXPECT_FALSE(fs::exists(at("b")));
  }
}

TEST_F(Trust, SettingsAreInTheConfigThatComesBack) {
  copy_golden("llama", "m");
  const Words set = {"--set", "num_attention_heads=4", "--set", "head_dim=20",
                     "--set", "num_key_value_heads=2"};
  ASSERT_EQ(there("m", "s", set + kTwoRanks).code, 0);
  const Ended ended = back("s", "b");
  ASSERT_EQ(ended.code, 0) << ended.all();
  EXPECT_TRUE(read_tensors(at("b")) == read_tensors(at("m")));
  std::string config = file_text(at("m/config.json"));
  for (const auto& [a, b] :
       {std::pair("\"head_dim\": 10", "\"head_dim\": 20"),
        std::pair("\"num_attention_heads\": 8", "\"num_attention_heads\": 4"),
        std::pair("\"num_key_value_heads\": 4", "\"num_key_value_heads\": 2")}) {
    config.replace(config.find(a), std::string(a).size(), b);
  }
  EXPECT_EQ(file_text(at("b/config.json")), config) << "and nothing else changed";
  EXPECT_EQ(run({"check", "--model", at("b")}).code, 0);
}

TEST_F(Trust, AModelWithoutItsMtpLayersComesBackAndPasses) {
  copy_golden("qwen3_5_vl_moe_mtp_per_expert", "m");
  ASSERT_EQ(there("m", "s", {"--drop-mtp"}).code, 0);
  const Ended ended = back("s", "b");
  ASSERT_EQ(ended.code, 0) << ended.all();
  for (const auto& [name, tensor] : read_tensors(at("b"))) {
    EXPECT_EQ(name.find("mtp."), std::string::npos) << name;
  }
  const Ended check = run({"check", "--model", at("b")});
  EXPECT_EQ(check.code, 0) << check.all();
}

TEST_F(Trust, BuffersThatLoadersComputeStayAndAreNamedOnce) {
  auto model = EditedCheckpoint::golden("llama");
  model.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = {
      DType::F32, {5}, std::vector<std::byte>(20)};
  // As vLLM, ModelOpt and Quark store scales of a cache beside an attention that is not quantised.
  for (const char* name : {"k_scale", "k_proj.k_scale", "v_proj.v_scale", "k_proj.output_scale"}) {
    model.tensors[std::string("model.layers.1.self_attn.") + name] = {
        DType::F32, {}, std::vector<std::byte>(4)};
  }
  model.write(folder.path() / "m");
  const Ended written = there("m", "s");
  ASSERT_EQ(written.code, 0) << written.all();
  EXPECT_NE(written.out.find("inv_freq"), std::string::npos) << written.out;
  const Ended ended = back("s", "b");
  ASSERT_EQ(ended.code, 0) << ended.all();
  model.tensors.erase("model.layers.0.self_attn.rotary_emb.inv_freq");
  std::erase_if(model.tensors, [](const auto& one) { return one.first.ends_with("_scale"); });
  EXPECT_TRUE(read_tensors(at("b")) == model.tensors);
}

TEST_F(Trust, RefutedRulesWriteNothingAndRightOnesComeBack) {
  copy_golden("qwen3", "m");
  const fs::path rules = fs::path(BV_FIXTURES);
  for (const char* broken : {"swapped_gate_up", "qkv_concat", "transposed_o_proj"}) {
    const Ended ended = there(
        "m", "x", {"--rules", (rules / "broken" / (std::string(broken) + ".rules.json")).string()});
    EXPECT_EQ(ended.code, 1) << broken << ended.all();
    EXPECT_FALSE(fs::exists(at("x"))) << broken;
  }
  const Ended right = there("m", "s", {"--rules", (rules / "rules/qwen3.rules.json").string()});
  ASSERT_EQ(right.code, 0) << right.all();
  const Ended ended = back("s", "b");
  ASSERT_EQ(ended.code, 0) << ended.all();
  expect_same("m", "b");
}

TEST_F(Trust, FilesInFoldersKeepTheirNames) {
  copy_golden("llama", "m");
  fs::create_directories(at("m/sub"));
  fs::rename(at("m/model-00002-of-00002.safetensors"),
             at("m/sub/model-00002-of-00002.safetensors"));
  std::string index = file_text(at("m/model.safetensors.index.json"));
  for (std::size_t i = index.find("\"model-00002"); i != std::string::npos;
       i = index.find("\"model-00002", i + 5)) {
    index.replace(i, 1, "\"sub/");
  }
  write_text(at("m/model.safetensors.index.json"), index);
  write_text(at("m/templates/a/chat.jinja"), "hello");
  ASSERT_EQ(there("m", "s").code, 0);
  const Ended ended = back("s", "b");
  ASSERT_EQ(ended.code, 0) << ended.all();
  expect_same("m", "b");
}

TEST_F(Trust, AStrangeIndexBesideTheWeightsIsNoObstacle) {
  copy_golden("llama", "m");
  write_text(at("m/x.safetensors.index.json"), "{no");
  ASSERT_EQ(there("m", "s").code, 0);
  const Ended ended = back("s", "b");
  ASSERT_EQ(ended.code, 0) << ended.all();
  expect_same("m", "b");
}

TEST_F(Trust, LinksOutOfTheFolderAreFollowedOnlyWhenAskedFor) {
  copy_golden("llama", "m");
  write_text(at("secret"), "key");
  fs::create_symlink("../secret", at("m/tokenizer.json"));
  fs::create_symlink("config.json", at("m/inside.json"));
  const Ended left = there("m", "s");
  EXPECT_EQ(left.code, 0) << left.all();
  EXPECT_FALSE(fs::exists(at("s/hf/tokenizer.json")));
  EXPECT_NE(left.out.find("tokenizer.json"), std::string::npos) << left.out;
  EXPECT_NE(left.out.find("--follow-links"), std::string::npos) << left.out;
  EXPECT_EQ(file_text(at("s/hf/inside.json")), file_text(at("m/config.json")));
  EXPECT_EQ(there("m", "f", {"--follow-links"}).code, 0);
  EXPECT_EQ(file_text(at("f/hf/tokenizer.json")), "key");
  // On the way back as well.
  fs::remove(at("f/hf/tokenizer.json"));
  fs::create_symlink("../../secret", at("f/hf/tokenizer.json"));
  EXPECT_EQ(back("f", "b").code, 5);
  EXPECT_FALSE(fs::exists(at("b")));
  EXPECT_EQ(back("f", "b", {"--follow-links"}).code, 0);
}

TEST_F(Trust, NamesThatCannotBeWrittenAgainStay) {
  copy_golden("llama", "m");
  write_text(at("m/\xff.txt"), "x");
  const Ended ended = there("m", "s");
  EXPECT_EQ(ended.code, 0) << ended.all();
  EXPECT_NE(ended.out.find("cannot be written again"), std::string::npos) << ended.out;
}

TEST_F(Trust, OverwriteNeverTakesTheModelNorAStrangersFile) {
  copy_golden("llama", "p/model");
  write_text(at("p/thesis.txt"), "mine");
  const auto before = files_of(at("p"));
  expect_refused(there("p/model", "p", {"--overwrite"}), 5, "BV8010");
  copy_golden("llama", "m");
  expect_refused(there("m", "p", {"--overwrite"}), 5, "BV8011");
  EXPECT_TRUE(files_of(at("p")) == before);
  copy_golden("llama", "o.bv-partial");
  EXPECT_EQ(there("o.bv-partial", "o", {"--resume"}).code, 5);
  EXPECT_TRUE(fs::exists(at("o.bv-partial/config.json")));
}

TEST_F(Trust, TwoRunsIntoOneOutputGiveOneWholeOutput) {
  copy_golden("llama", "m");
  for (int round = 0; round < 6; ++round) {
    const std::string out = fmt::format("o{}", round);
    const std::string flag = round % 2 == 0 ? "--resume" : "--overwrite";
    Ended first;
    std::thread other([&] { first = there("m", out, {flag}); });
    const Ended second = there("m", out, kTwoRanks + Words{flag});
    other.join();
    for (const Ended* one : {&std::as_const(first), &second}) {
      EXPECT_TRUE(one->code == 0 || one->code == 5) << one->all();
    }
    EXPECT_TRUE(first.code == 0 || second.code == 0) << first.all() << second.all();
    const Ended ended = back(out, out + "b");
    EXPECT_EQ(ended.code, 0) << ended.all();
    EXPECT_FALSE(fs::exists(at(out + ".bv-partial")));
    EXPECT_FALSE(fs::exists(at(out + ".bv-replaced")));
  }
}

TEST_F(Trust, TheWayBackUsesOrRefusesEveryOption) {
  copy_golden("llama", "m");
  ASSERT_EQ(there("m", "s").code, 0);
  for (const Words& more :
       {Words{"--set", "a=1"}, Words{"--family", "llama"}, Words{"--tp", "2"}, Words{"--pp", "2"},
        Words{"--ep", "2"}, Words{"--dtype", "float32"}, Words{"--transformer-impl", "local"},
        Words{"--drop-mtp"}, Words{"--exclude", "lm_head.*"},
        Words{"--make-vocab-size-divisible-by", "4"}, Words{"--seed", "7"}}) {
    expect_refused(back("s", "b", more), 2, "BV0001", more.front() + " belongs to --to megatron");
  }
  expect_refused(there("m", "b", {"--accept-changed"}), 2, "BV0001", "belongs to --to hf");
  EXPECT_EQ(back("s", "b", {"--rules", "/nowhere"}).code, 5);
  EXPECT_FALSE(fs::exists(at("b")));
}

TEST_F(Trust, ClosedStreamsDoNotReachTheShards) {
  copy_golden("llama", "m");
  const std::string line =
      fmt::format("'{}' convert --to megatron --model '{}' --out '{}' --progress always", BV_BINARY,
                  at("m"), at("s"));
  const auto exit_of = [](const std::string& words) {
    const int status = std::system(words.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
  };
  // Nothing but the way back looks at the shards of the first: they are not read back.
  EXPECT_EQ(exit_of(line + " --no-verify >/dev/null 2>&-"), 3);
  EXPECT_EQ(back("s", "b").code, 0);
  fs::remove_all(at("s"));
  EXPECT_EQ(exit_of(line + " <&- >&- 2>&-"), 5) << "nobody saw the green line";
  EXPECT_EQ(back("s", "c").code, 0);
}

}  // namespace
}  // namespace bv::e2e
