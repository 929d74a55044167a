// Classifiers and reward models of known families: the head is the output_layer, whole on every
// rank, as the released bridge of Qwen3.5 for token classification has it.

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

EditedTensor pattern(Shape shape) {
  EditedTensor out{DType::BF16, shape, {}};
  const std::int64_t elements =
      std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
  for (std::int64_t i = 0; i < elements; ++i) {
    out.bytes.push_back(static_cast<std::byte>(i * 7 + 3));
    out.bytes.push_back(std::byte{0x3f});
  }
  return out;
}

/// A language model whose class is another and whose head is `score`.
EditedCheckpoint classifier(const std::string& golden, const std::string& suffix,
                            std::int64_t labels) {
  EditedCheckpoint out = EditedCheckpoint::golden(golden);
  const std::string name = out.config["architectures"][0];
  out.config["architectures"] = {name.substr(0, name.find("For")) + suffix};
  nlohmann::ordered_json names;
  for (std::int64_t i = 0; i < labels; ++i) {
    names[std::to_string(i)] = "LABEL_" + std::to_string(i);
  }
  out.config["id2label"] = names;
  out.tensors.erase("lm_head.weight");
  const std::int64_t hidden = out.tensors.at("model.norm.weight").shape[0];
  out.tensors["score.weight"] = pattern({labels, hidden});
  if (suffix == "ForTokenClassification") {
    out.tensors["score.bias"] = pattern({labels});
  }
  return out;
}

struct ClassHeads : testing::Test {
  Ended check(const EditedCheckpoint& model, const Words& options = {}) const {
    model.write(folder.path() / "m");
    return run(Words{"check", "--model", folder / "m"} + options);
  }
  TempFolder folder;
};

TEST_F(ClassHeads, OfEveryKindOfFamilyAreProvedAndComputed) {
  for (const char* golden : {"llama", "qwen2", "qwen3", "qwen3_moe", "gemma2", "olmo2", "phi3",
                             "deepseek_v3", "gpt_oss", "qwen3_next"}) {
    for (const auto& [suffix, labels] :
         {std::pair{"ForSequenceClassification", 1}, std::pair{"ForTokenClassification", 3}}) {
      EditedCheckpoint model = classifier(golden, suffix, labels);
      if (labels == 1) {
        model.config["tie_word_embeddings"] = true;  // nothing is left to tie
      }
      std::erase_if(model.tensors, [](const auto& one) { return one.first.starts_with("mtp."); });
      const Ended ended = check(model, {"--level", "full", "--tp", "1,2"});
      EXPECT_EQ(ended.code, 0) << golden << suffix << ended.all();
      EXPECT_TRUE(std::regex_search(ended.out, std::regex("forward +[0-9]+  ok"))) << ended.out;
      EXPECT_NE(ended.all().find("output_layer score"), std::string::npos) << ended.all();
    }
  }
}

TEST_F(ClassHeads, ThatAreNotWhatTheConfigSaysAreRefuted) {
  EditedCheckpoint model = classifier("llama", "ForSequenceClassification", 3);
  model.config["id2label"] = {{"0", "LABEL_0"}};
  Ended ended = check(model);
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_NE(ended.all().find("score.weight"), std::string::npos) << ended.all();
  EXPECT_NE(ended.all().find("id2label"), std::string::npos) << ended.all();
  model.tensors.erase("score.weight");
  ended = check(model);
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_NE(ended.all().find("score.weight"), std::string::npos) << ended.all();
}

TEST_F(ClassHeads, GoThereAndBack) {
  for (const char* suffix : {"ForSequenceClassification", "ForTokenClassification"}) {
    const EditedCheckpoint model = classifier("qwen3_moe", suffix, 3);
    model.write(folder.path() / "m");
    for (const char* to : {"megatron", "torch_dist"}) {
      const Words ranks =
          std::string(to) == "megatron" ? Words{"--tp", "2", "--pp", "2", "--ep", "2"} : Words{};
      Ended ended = run(Words{"convert", "--to", to, "--model", folder / "m", "--out", folder / "s",
                              "--overwrite"} +
                        ranks);
      ASSERT_EQ(ended.code, 0) << ended.all();
      const Words like = std::string(to) == "megatron" ? Words{} : Words{"--like", folder / "m"};
      ended = run(Words{"convert", "--to", "hf", "--model", folder / "s", "--out",
                        folder / (std::string(suffix) + to)} +
                  like);
      ASSERT_EQ(ended.code, 0) << ended.all();
      EXPECT_TRUE(read_tensors(folder / (std::string(suffix) + to)) == model.tensors)
          << suffix << to;
      std::filesystem::remove_all(folder / "s");
    }
  }
}

/// Qwen2ForRewardModel: two linear layers.
TEST_F(ClassHeads, OfRewardModelsGoAsTheyAre) {
  EditedCheckpoint model = classifier("qwen2", "ForRewardModel", 1);
  const std::int64_t hidden = model.tensors.at("model.norm.weight").shape[0];
  model.tensors.erase("score.weight");
  model.tensors["score.0.weight"] = pattern({hidden, hidden});
  model.tensors["score.0.bias"] = pattern({hidden});
  model.tensors["score.2.weight"] = pattern({1, hidden});
  model.tensors["score.2.bias"] = pattern({1});
  Ended ended = check(model, {"--tp", "1,2", "--pp", "1,2"});
  EXPECT_EQ(ended.code, 0) << ended.all();
  ended = run({"roundtrip", "--model", folder / "m", "--tp", "2", "--pp", "2"});
  EXPECT_EQ(ended.code, 0) << ended.all();
}

}  // namespace
}  // namespace bv::e2e
