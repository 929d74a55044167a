// lora merge, lora slice and lora check --merged on files of the repository.

#include <algorithm>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "core/io/checkpoint.hpp"
#include "core/io/writer.hpp"
#include "tests/ci/run_command.hpp"

namespace bv::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using testing::kGolden;
using testing::run_line;
using testing::TempFolder;

std::string base_of(const std::string& name) {
  return (kGolden / "peft" / name / "base").string();
}
std::string adapter_of(const std::string& name) {
  return (kGolden / "peft" / name / "adapter").string();
}

testing::Ended merge(const std::string& name, const fs::path& out,
                     const std::vector<std::string>& more = {}) {
  std::vector<std::string> line = {"lora",      "merge",          "--model", base_of(name),
                                   "--adapter", adapter_of(name), "--out",   out.string()};
  line.insert(line.end(), more.begin(), more.end());
  return run_line(line);
}

testing::Ended check(const std::string& name, const fs::path& merged,
                     const std::vector<std::string>& more = {}) {
  std::vector<std::string> line = {"lora",      "check",          "--model",  base_of(name),
                                   "--adapter", adapter_of(name), "--merged", merged.string()};
  line.insert(line.end(), more.begin(), more.end());
  return run_line(line);
}

/// Verdicts of the claim lora.
std::vector<Json> lora_verdicts(const std::string& text) {
  std::vector<Json> out;
  const Json run = Json::parse(text);
  for (const Json& verdict : run.at("verdicts")) {
    if (verdict.at("claim") == "adapter-merge") {
      out.push_back(verdict);
    }
  }
  return out;
}

bool any_has_code(const std::vector<Json>& verdicts, const std::string& code) {
  return std::any_of(verdicts.begin(), verdicts.end(), [&](const Json& verdict) {
    return verdict.at("outcome") == "Refuted" && verdict.at("code") == code;
  });
}

TEST(LoraMergeCommand, WhatItMergesIsJudgedGreen) {
  const TempFolder temp;
  for (const char* name : {"llama_all", "qwen35_moe", "gptoss_transposed", "dora", "bias_all",
                           "lora_bias_true", "modules_to_save", "rslora"}) {
    SCOPED_TRACE(name);
    const fs::path out = temp.path() / name;
    const auto merged = merge(name, out);
    EXPECT_EQ(merged.code, 0) << merged.err << merged.out;
    EXPECT_NE(merged.out.find("merged; 1 file written to "), std::string::npos) << merged.out;
    const auto judged = check(name, out, {"--json"});
    EXPECT_NE(judged.code, 1) << judged.err << judged.out;  // other claims may be undecided
    const auto verdicts = lora_verdicts(judged.out);
    EXPECT_FALSE(verdicts.empty());
    for (const Json& verdict : verdicts) {
      EXPECT_EQ(verdict.at("outcome"), "Held");
    }
  }
}

TEST(LoraMergeCommand, SaysTheWorstErrorAndTheHistogram) {
  const TempFolder temp;
  ASSERT_EQ(merge("llama_all", temp.path() / "out").code, 0);
  const auto judged = check("llama_all", temp.path() / "out");
  EXPECT_NE(judged.out.find("of its bound (model.layers."), std::string::npos) << judged.out;
  EXPECT_NE(judged.out.find("error over bound, elements: 0: "), std::string::npos) << judged.out;
  EXPECT_NE(judged.out.find("0 elements outside the allowed roundings"), std::string::npos)
      << judged.out;
}

TEST(LoraMergeCommand, RefutesTheBaseAsItsOwnMerge) {
  const auto judged = check("llama_all", base_of("llama_all"), {"--json"});
  EXPECT_EQ(judged.code, 1) << judged.err;
  const auto verdicts = lora_verdicts(judged.out);
  EXPECT_TRUE(any_has_code(verdicts, "BV4001"));
  EXPECT_NE(judged.out.find("the adapter was not merged into it"), std::string::npos);
}

TEST(LoraMergeCommand, ShowsThatPeftRoundsPackedExpertsTwice) {
  const TempFolder temp;
  // What PEFT merged, completed with the tensors that it left as they are.
  const fs::path folder = temp.path() / "peft";
  const auto base = io::Checkpoint::open(base_of("qwen35_moe"));
  const auto theirs = io::Checkpoint::open(kGolden / "peft/qwen35_moe/merged_bf16.safetensors");
  ASSERT_TRUE(base && theirs);
  std::vector<TensorSpec> specs;
  for (const auto& [name, stored] : base->tensors()) {
    specs.push_back(stored.spec);
  }
  fs::create_directories(folder);
  const auto plan = io::plan_safetensors(specs, {{"format", "pt"}});
  ASSERT_TRUE(plan);
  auto file = io::PendingFile::create(folder / "model.safetensors", plan->file_size);
  ASSERT_TRUE(file);
  ASSERT_TRUE(file->write_at(0, std::as_bytes(std::span(plan->header))));
  for (std::size_t i = 0; i < plan->tensors.size(); ++i) {
    const std::string& name = plan->tensors[i].name;
    const auto at = theirs->tensors().find(name);
    ASSERT_TRUE(
        file->write_at(plan->offsets[i], at == theirs->tensors().end()
                                             ? base->bytes(base->tensors().find(name)->second)
                                             : theirs->bytes(at->second)));
  }
  ASSERT_TRUE(file->commit());
  const auto judged = check("qwen35_moe", folder, {"--json"});
  EXPECT_EQ(judged.code, 1) << judged.err;
  for (const Json& verdict : lora_verdicts(judged.out)) {
    const std::string tensor = verdict.at("subject").at("hf")[0];
    const bool packed = tensor.find("mlp.experts.") != std::string::npos ||
                        tensor.find("mlp.gate.weight") != std::string::npos;
    if (verdict.at("outcome") == "Refuted") {
      EXPECT_TRUE(packed) << tensor;
      EXPECT_EQ(verdict.at("code"), "BV4022") << tensor;
    } else {
      EXPECT_FALSE(packed) << tensor;
    }
  }
}

TEST(LoraMergeCommand, ATiedEmbeddingNeedsUntie) {
  const TempFolder temp;
  const auto refused = merge("tied_embed", temp.path() / "out");
  EXPECT_EQ(refused.code, 5);
  EXPECT_NE(refused.err.find("error[BV4021]: the adapter changes model.embed_tokens.weight"),
            std::string::npos)
      << refused.err;
  EXPECT_FALSE(fs::exists(temp.path() / "out"));
  EXPECT_EQ(merge("tied_embed", temp.path() / "out", {"--untie"}).code, 0);
  EXPECT_NE(check("tied_embed", temp.path() / "out").code, 1);
}

/// GPT-2: no rules say how Megatron holds it, and a merge needs none.
TEST(LoraMergeCommand, MergesIntoABaseThatNoFamilyKnows) {
  const TempFolder temp;
  const auto merged = merge("gpt2_conv1d", temp.path() / "out");
  ASSERT_EQ(merged.code, 0) << merged.err << merged.out;
  EXPECT_NE(merged.out.find("no family knows GPT2LMHeadModel"), std::string::npos) << merged.out;
  const auto ours = io::Checkpoint::open(temp.path() / "out").value();
  const auto peft =
      io::Checkpoint::open(kGolden / "peft/gpt2_conv1d/merged_bf16.safetensors").value();
  for (const auto& [tensor, stored] : peft.tensors()) {  // PEFT rounds once here
    const auto wanted = peft.bytes(stored);
    const auto found = ours.bytes(ours.tensors().at(tensor));
    EXPECT_TRUE(std::equal(found.begin(), found.end(), wanted.begin(), wanted.end())) << tensor;
  }
  const auto judged = check("gpt2_conv1d", temp.path() / "out", {"--json"});
  EXPECT_EQ(judged.code, 0) << judged.err;  // nothing is known of ranks, and nothing is asked
  for (const Json& verdict : lora_verdicts(judged.out)) {
    EXPECT_EQ(verdict.at("outcome"), "Held");
  }
  const auto named = merge("gpt2_conv1d", temp.path() / "named", {"--family", "gpt2"});
  EXPECT_EQ(named.code, 5);
  EXPECT_NE(named.err.find("error[BV7010]: no family is named gpt2"), std::string::npos);
}

/// Megatron has no form for biases, trained modules and embeddings of adapters, and a merge needs
/// none: it is judged, and ranks are asked of only where somebody asks.
TEST(LoraMergeCommand, WhatMegatronHasNoFormForIsJudgedAsAMerge) {
  for (const char* name : {"bias_all", "bias_lora_only", "lora_bias_true", "modules_to_save",
                           "qwen35_moe", "tied_embed"}) {
    SCOPED_TRACE(name);
    const TempFolder temp;
    const fs::path out = temp.path() / "out";
    ASSERT_EQ(merge(name, out,
                    name == std::string("tied_embed") ? std::vector<std::string>{"--untie"}
                                                      : std::vector<std::string>{})
                  .code,
              0);
    const auto judged = check(name, out, {"--json"});
    EXPECT_EQ(judged.code, 0) << judged.out;
    EXPECT_FALSE(lora_verdicts(judged.out).empty());
    for (const Json& row : Json::parse(judged.out).at("claims")) {
      if (row.at("claim") == "adapter-placement") {
        EXPECT_FALSE(row.at("requested").get<bool>()) << row;
        EXPECT_NE(row.at("note").get<std::string>(), "") << row;
      }
    }
    EXPECT_EQ(check(name, base_of(name)).code, 1) << "the base is not its own merge";
    EXPECT_EQ(check(name, out, {"--tp", "2"}).code, 3) << "ranks were asked for";
    EXPECT_EQ(
        run_line({"lora", "check", "--model", base_of(name), "--adapter", adapter_of(name)}).code,
        3);
  }
}

/// An adapter of llama_all with a change to its config or its factors.
fs::path changed_adapter(const fs::path& folder,
                         const std::function<void(const fs::path&)>& change) {
  fs::copy(adapter_of("llama_all"), folder);
  for (const char* file : {"adapter_config.json", "adapter_model.safetensors"}) {
    fs::permissions(folder / file, fs::perms::owner_all);
  }
  change(folder);
  return folder;
}

TEST(LoraMergeCommand, AFactorThatIsNotFiniteIsMadeNothingOf) {
  const TempFolder temp;
  const std::string key = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight";
  const fs::path adapter = changed_adapter(temp.path() / "nan", [&](const fs::path& folder) {
    const fs::path file = folder / "adapter_model.safetensors";
    const auto at = io::Checkpoint::open(file).value().tensors().at(key).begin;
    std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekp(static_cast<std::streamoff>(at));
    bytes.write("\0\0\xc0\x7f", 4);
  });
  for (const std::vector<std::string>& line : {std::vector<std::string>{"lora", "merge"},
                                               {"lora", "convert", "--to", "megatron"},
                                               {"lora", "slice", "--tp", "2"},
                                               {"convert", "--to", "megatron"}}) {
    std::vector<std::string> words = line;
    words.insert(words.end(), {"--model", base_of("llama_all"), "--adapter", adapter.string(),
                               "--out", (temp.path() / "out").string()});
    const auto refused = run_line(words);
    EXPECT_EQ(refused.code, 5) << line[0] << refused.out;
    EXPECT_NE(refused.err.find("error[BV4014]: \"" + key + "\" holds nan at element 0"),
              std::string::npos)
        << refused.err;
    EXPECT_FALSE(fs::exists(temp.path() / "out"));
  }
}

TEST(LoraMergeCommand, ModulesThatPeftLeavesOutAreWarnedOf) {
  const TempFolder temp;
  const fs::path adapter = changed_adapter(temp.path() / "less", [](const fs::path& folder) {
    Json config = Json::parse(support::file_text(folder / "adapter_config.json"));
    Json kept = Json::array();
    for (const Json& one : config.at("target_modules")) {
      if (one != "up_proj") {
        kept.push_back(one);
      }
    }
    config["target_modules"] = kept;
    std::ofstream(folder / "adapter_config.json") << config.dump();
  });
  for (const std::vector<std::string>& line :
       {std::vector<std::string>{"lora", "merge"}, {"lora", "convert", "--to", "megatron"}}) {
    std::vector<std::string> words = line;
    words.insert(words.end(), {"--model", base_of("llama_all"), "--adapter", adapter.string(),
                               "--out", (temp.path() / line[1]).string()});
    const auto ended = run_line(words);
    EXPECT_EQ(ended.code, 0) << ended.err << ended.out;
    EXPECT_NE(ended.out.find("2 modules are not loaded by PEFT, though adapted"), std::string::npos)
        << ended.out;
  }
}

TEST(LoraMergeCommand, NeedsAFolderAndAnAdapter) {
  EXPECT_EQ(run_line({"lora", "merge", "--model", base_of("llama_all"), "--adapter",
                      adapter_of("llama_all")})
                .code,
            2);
  EXPECT_EQ(run_line({"lora", "merge", "--model", base_of("llama_all"), "--out", "x"}).code, 2);
}

/// Files below a folder and their bytes.
std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> out;
  for (const std::string& name : support::files_below(folder)) {
    out[name] = support::file_text(folder / name);
  }
  return out;
}

TEST(ConvertWithAnAdapter, WritesTheShardsOfTheMergedModel) {
  for (const char* name : {"llama_all", "qwen35_moe", "dora", "bias_all", "tied_embed"}) {
    SCOPED_TRACE(name);
    const TempFolder temp;
    ASSERT_EQ(merge(name, temp.path() / "merged", {"--untie"}).code, 0);
    const auto twice =
        run_line({"convert", "--to", "megatron", "--model", (temp.path() / "merged").string(),
                  "--out", (temp.path() / "twice").string(), "--tp", "2"});
    ASSERT_EQ(twice.code, 0) << twice.err << twice.out;
    const auto once = run_line({"convert", "--to", "megatron", "--model", base_of(name),
                                "--adapter", adapter_of(name), "--untie", "--out",
                                (temp.path() / "once/").string(), "--tp", "2"});
    ASSERT_EQ(once.code, 0) << once.err << once.out;
    auto files = contents(temp.path() / "once");
    auto manifest = nlohmann::ordered_json::parse(files.at("manifest.json"));
    EXPECT_EQ(manifest.erase("adapter"), 1U);  // which one: the only difference
    files["manifest.json"] = manifest.dump(2) + "\n";
    EXPECT_EQ(files, contents(temp.path() / "twice"));
    EXPECT_NE(once.out.find("merged while they are converted"), std::string::npos) << once.out;
    // Nothing of the merged model stands anywhere.
    EXPECT_EQ(std::distance(fs::directory_iterator(temp.path()), fs::directory_iterator()), 3);
  }
}

TEST(ConvertWithAnAdapter, LeavesNothingBehindWhenItCannotMerge) {
  const TempFolder temp;
  const auto refused =
      run_line({"convert", "--to", "megatron", "--model", base_of("tied_embed"), "--adapter",
                adapter_of("tied_embed"), "--out", (temp.path() / "out").string()});
  EXPECT_EQ(refused.code, 5) << refused.out;
  EXPECT_NE(refused.err.find("error[BV4021]"), std::string::npos) << refused.err;
  const auto other =
      run_line({"convert", "--to", "megatron", "--model", base_of("qwen35_dense"), "--adapter",
                adapter_of("llama_all"), "--out", (temp.path() / "out").string()});
  EXPECT_EQ(other.code, 5) << other.out;
  EXPECT_TRUE(fs::is_empty(temp.path()));
  const auto alone = run_line({"convert", "--to", "megatron", "--model", base_of("tied_embed"),
                               "--untie", "--out", (temp.path() / "out").string()});
  EXPECT_EQ(alone.code, 2) << alone.out;
}

TEST(ConvertWithAnAdapter, TheFolderOfTheAdapterIsNoOutput) {
  const TempFolder temp;
  const fs::path adapter = changed_adapter(temp.path() / "adapter", [](const fs::path&) {});
  const auto before = contents(adapter);
  for (const char* form : {"megatron", "torch_dist"}) {
    for (const fs::path& out : {adapter, temp.path()}) {
      const auto refused =
          run_line({"convert", "--to", form, "--model", base_of("llama_all"), "--adapter",
                    adapter.string(), "--out", out.string(), "--overwrite"});
      EXPECT_EQ(refused.code, 5) << refused.out;
      EXPECT_EQ(contents(adapter), before);
    }
  }
}

TEST(LoraSliceCommand, WritesWhatEachRankHolds) {
  const TempFolder temp;
  const auto sliced =
      run_line({"lora", "slice", "--model", base_of("llama_all"), "--adapter",
                adapter_of("llama_all"), "--tp", "2", "--out", (temp.path() / "out").string()});
  EXPECT_EQ(sliced.code, 0) << sliced.err << sliced.out;
  const auto adapter =
      io::Checkpoint::open(fs::path(adapter_of("llama_all")) / "adapter_model.safetensors");
  ASSERT_TRUE(adapter);
  const std::string layer = "model.layers.0.self_attn.";
  const auto& q =
      adapter->tensors().find("base_model.model." + layer + "q_proj.lora_B.weight")->second;
  const auto whole = adapter->bytes(q);
  std::vector<std::byte> together;
  for (const char* name : {"tp0.safetensors", "tp1.safetensors"}) {
    const auto rank = io::Checkpoint::open(temp.path() / "out" / name);
    ASSERT_TRUE(rank);
    const auto at = rank->tensors().find(layer + "qkv_proj.0.lora_B.weight");
    ASSERT_NE(at, rank->tensors().end());
    const auto part = rank->bytes(at->second);
    together.insert(together.end(), part.begin(), part.end());
  }
  EXPECT_TRUE(std::equal(whole.begin(), whole.end(), together.begin(), together.end()));
  std::ifstream in(temp.path() / "out/slices.json");
  const Json slices = Json::parse(in);
  EXPECT_EQ(slices.at("schema"), "bridge-lora-slices/1");
  EXPECT_EQ(slices.at("tp"), 2);
  EXPECT_EQ(slices.at("max_rank"), 6);
}

TEST(LoraSliceCommand, FullyShardedRanksHoldPartsOfA) {
  const TempFolder temp;
  const auto sliced = run_line({"lora", "slice", "--model", base_of("qwen35_dense"), "--adapter",
                                adapter_of("qwen35_dense"), "--tp", "2", "--fully-sharded", "--out",
                                (temp.path() / "out").string()});
  EXPECT_EQ(sliced.code, 0) << sliced.err << sliced.out;
  const auto rank = io::Checkpoint::open(temp.path() / "out/tp0.safetensors");
  ASSERT_TRUE(rank);
  const auto at = rank->tensors().find("model.layers.0.linear_attn.in_proj_qkvz.3.lora_A.weight");
  ASSERT_NE(at, rank->tensors().end());
  EXPECT_EQ(at->second.spec.shape[0], 3);
}

TEST(LoraSliceCommand, RefusesARankThatTheBuffersDoNotHold) {
  const TempFolder temp;
  const auto refused = run_line({"lora", "slice", "--model", base_of("llama_all"), "--adapter",
                                 adapter_of("llama_all"), "--tp", "2", "--max-rank", "4", "--out",
                                 (temp.path() / "out").string()});
  EXPECT_EQ(refused.code, 5) << refused.out;
  EXPECT_NE(refused.err.find("rank 6 of member 1 of model.layers.0.mlp."), std::string::npos)
      << refused.err;
  EXPECT_FALSE(fs::exists(temp.path() / "out"));
}

}  // namespace
}  // namespace bv::cli
