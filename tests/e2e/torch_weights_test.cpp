// HF folders whose weights torch.save wrote (pytorch_model*.bin): read as data, judged and
// converted as their safetensors twins, and written as safetensors.

#include "tests/e2e/process.hpp"
#include "tests/e2e/torch_file.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;

std::string text_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// A golden model whose every model*.safetensors became pytorch_model*.bin.
struct TorchModel {
  explicit TorchModel(const std::string& name, Kept kept = Kept::RowByRow)
      : golden(golden_hf(name)), model(temp / "m") {
    fs::create_directories(model);
    for (const auto& entry : fs::directory_iterator(golden)) {
      const std::string file = entry.path().filename().string();
      if (file == "model.safetensors.index.json") {
        write_text(model / "pytorch_model.bin.index.json", index_of_torch(text_of(entry.path())));
      } else if (file.starts_with("model") && file.ends_with(".safetensors")) {
        const std::string stem = "pytorch_" + entry.path().stem().string();
        write_text(model / (stem + ".bin"), torch_file(stem, read_tensors(entry.path()), kept));
      } else if (file == "config.json") {
        fs::copy(entry.path(), model / file);
      }
    }
  }
  static std::string index_of_torch(std::string text) {
    nlohmann::ordered_json index = nlohmann::ordered_json::parse(text);
    for (auto& file : index.at("weight_map")) {
      const std::string old = file.get<std::string>();
      file = "pytorch_" + old.substr(0, old.size() - std::string(".safetensors").size()) + ".bin";
    }
    return index.dump(2) + "\n";
  }
  [[nodiscard]] Ended check(const fs::path& which) const {
    return run({"check", "--model", which.string(), "--json"});
  }

  TempFolder temp;
  fs::path golden;
  fs::path model;
};

class TorchWeights : public ::testing::TestWithParam<const char*> {};

TEST_P(TorchWeights, AreJudgedAsTheirSafetensorsAre) {
  const TorchModel one(GetParam());
  const Ended ended = one.check(one.model);
  EXPECT_EQ(ended.code, 0) << ended.all();
  const auto counts = [](const Ended& of) {
    return nlohmann::json::parse(of.out).at("claims").dump();
  };
  EXPECT_EQ(counts(ended), counts(one.check(one.golden)));
}

TEST_P(TorchWeights, ComeBackAsSafetensors) {
  const TorchModel one(GetParam());
  const std::string shards = one.temp / "shards";
  const std::string back = one.temp / "back";
  const Ended there =
      run({"convert", "--model", one.model.string(), "--to", "megatron", "--out", shards});
  ASSERT_EQ(there.code, 0) << there.all();
  const Ended home = run({"convert", "--model", shards, "--to", "hf", "--out", back});
  ASSERT_EQ(home.code, 0) << home.all();
  for (const auto& entry : fs::directory_iterator(one.golden)) {
    const std::string file = entry.path().filename().string();
    if (file.starts_with("model") && file.ends_with(".safetensors")) {
      EXPECT_EQ(read_tensors(fs::path(back) / file), read_tensors(entry.path())) << file;
    } else if (file == "model.safetensors.index.json") {
      EXPECT_EQ(nlohmann::json::parse(text_of(fs::path(back) / file)).at("weight_map"),
                nlohmann::json::parse(text_of(entry.path())).at("weight_map"));
    }
  }
  for (const auto& entry : fs::directory_iterator(back)) {
    EXPECT_NE(entry.path().extension(), ".bin");
    EXPECT_FALSE(entry.path().filename().string().starts_with("pytorch_")) << entry.path();
  }
}

INSTANTIATE_TEST_SUITE_P(OneFileAndShards, TorchWeights, ::testing::Values("qwen3", "llama"));

/// Every matrix stored column by column: other bytes, the same tensors, for every command.
TEST(TorchWeightsByColumns, AreTheSameModel) {
  const TorchModel turned("llama", Kept::Turned);
  const std::string right = turned.golden.string();
  const std::string model = turned.model.string();
  const Ended check = turned.check(model);
  ASSERT_EQ(check.code, 0) << check.all();
  EXPECT_EQ(nlohmann::json::parse(check.out).at("claims"),
            nlohmann::json::parse(turned.check(right).out).at("claims"));
  const Ended same = run({"diff", right, model});
  EXPECT_EQ(same.code, 0) << same.all();
  for (const auto& [name, words] : std::vector<std::pair<std::string, Words>>{
           {"m", {"--to", "megatron", "--tp", "2"}}, {"d", {"--to", "torch_dist"}}}) {
    const std::string one = turned.temp / (name + "1");
    const std::string two = turned.temp / (name + "2");
    ASSERT_EQ(run(Words{"convert", "--model", right, "--out", one} + words).code, 0);
    const Ended ended = run(Words{"convert", "--model", model, "--out", two} + words);
    ASSERT_EQ(ended.code, 0) << ended.all();
    for (const std::string& file : files_below(one)) {
      if (file.ends_with(".safetensors") || file.ends_with(".distcp")) {
        EXPECT_EQ(file_text(fs::path(two) / file), file_text(fs::path(one) / file)) << file;
      }
    }
  }
  const Ended trip = run({"roundtrip", "--model", model});
  EXPECT_EQ(trip.code, 0) << trip.all();
}

/// The twin of the test above: one number changed in a matrix that is stored by columns.
TEST(TorchWeightsByColumns, AreRefutedWhereOneNumberDiffers) {
  const TorchModel turned("llama_tied_kv2", Kept::Turned);
  Tensors tensors = read_tensors(turned.golden / "model.safetensors");
  auto& weight = tensors.at("model.layers.0.mlp.down_proj.weight");
  weight.bytes[5] ^= std::byte{4};
  write_text(turned.model / "pytorch_model.bin",
             torch_file("pytorch_model", tensors, Kept::Turned));
  const Ended ended = run({"diff", turned.golden.string(), turned.model.string()});
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_NE(ended.flat().find("model.layers.0.mlp.down_proj.weight"), std::string::npos)
      << ended.all();
}

/// An adapter merged into a base that is stored by columns, and what it merged judged from it.
TEST(TorchWeightsByColumns, AreMergedAndJudgedAsTheirTwin) {
  const TempFolder folder;
  const fs::path base = golden("peft/llama_all/base");
  const std::string adapter = golden("peft/llama_all/adapter").string();
  fs::create_directory(folder.path() / "m");
  fs::copy(base / "config.json", folder.path() / "m/config.json");
  write_text(folder / "m/pytorch_model.bin",
             torch_file("pytorch_model", read_tensors(base / "model.safetensors"), Kept::Turned));
  for (const auto& [model, out] :
       {std::pair(base.string(), folder / "one"), std::pair(folder / "m", folder / "two")}) {
    const Ended ended =
        run({"lora", "merge", "--model", model, "--adapter", adapter, "--out", out});
    ASSERT_EQ(ended.code, 0) << ended.all();
  }
  EXPECT_EQ(read_tensors(folder / "one/model.safetensors"),
            read_tensors(folder / "two/model.safetensors"));
  const Ended judged = run(
      {"lora", "check", "--model", folder / "m", "--adapter", adapter, "--merged", folder / "one"});
  EXPECT_EQ(judged.code, 0) << judged.all();
  const Ended shards = run({"convert", "--to", "megatron", "--model", folder / "m", "--adapter",
                            adapter, "--tp", "2", "--out", folder / "s"});
  ASSERT_EQ(shards.code, 0) << shards.all();
  const Ended check =
      run({"check", "--model", base.string(), "--adapter", adapter, "--megatron", folder / "s"});
  EXPECT_EQ(check.code, 0) << check.all();
}

/// llama's first shard replaced, the rest as it was.
Ended check_with(const std::string& first_shard) {
  const TorchModel one("llama");
  write_text(one.model / "pytorch_model-00001-of-00002.bin", first_shard);
  return run({"check", "--model", one.model.string()});
}

TEST(TorchWeightsThatAreNone, AreRefused) {
  const auto tensors = read_tensors(golden_hf("llama") / "model-00001-of-00002.safetensors");
  const std::string whole = torch_file("m", tensors);
  const Ended cut = check_with(whole.substr(0, whole.size() / 2));
  EXPECT_EQ(cut.code, 5) << cut.all();
  EXPECT_NE(cut.all().find("BV7046"), std::string::npos) << cut.all();
  const Ended old = check_with("\x80\x02\x8a\nl\xfc\x9c");  // torch before 1.6
  EXPECT_EQ(old.code, 5) << old.all();
  EXPECT_NE(old.all().find("BV7013"), std::string::npos) << old.all();
  const Ended runs =
      check_with(torch_file("m", {tensors}, [](const std::vector<std::string>& weights) {
        return "(cos\nsystem\n(" + pickle::pickled("echo pwned") + "tR" + weights.front() + "t";
      }));
  EXPECT_EQ(runs.code, 5) << runs.all();
  EXPECT_NE(runs.flat().find("os.system"), std::string::npos) << runs.all();
  EXPECT_EQ(runs.all().find("pwned\n"), std::string::npos);
}

TEST(TorchWeightsThatAreNone, AMissingShardAndAClimbingNameAreToldAsForSafetensors) {
  const TorchModel one("llama");
  fs::remove(one.model / "pytorch_model-00002-of-00002.bin");
  const Ended missing = run({"check", "--model", one.model.string()});
  EXPECT_NE(missing.code, 0);
  EXPECT_NE(missing.flat().find("pytorch_model-00002-of-00002.bin"), std::string::npos)
      << missing.all();
  fs::remove(one.model / "pytorch_model.bin.index.json");
  const Ended unlisted = run({"check", "--model", one.model.string()});
  EXPECT_NE(unlisted.flat().find("pytorch_model-00002-of-00002.bin"), std::string::npos)
      << unlisted.all();
  write_text(one.model / "pytorch_model.bin.index.json",
             R"({"weight_map": {"a": "../pytorch_model-00001-of-00002.bin"}})");
  const Ended climbs = run({"check", "--model", one.model.string()});
  EXPECT_EQ(climbs.code, 5) << climbs.all();
  EXPECT_NE(climbs.all().find("BV7016"), std::string::npos) << climbs.all();
}

}  // namespace
}  // namespace bv::e2e
