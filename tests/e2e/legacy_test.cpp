// Legacy Megatron checkpoints (mp_rank_XX/model_optim_rng.pt), made of shards that convert wrote.

#include <fmt/format.h>

#include "tests/e2e/process.hpp"
#include "tests/e2e/torch_file.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using pickle::pickled;

/// The file that torch.save would have written for one rank; more than one model: the virtual
/// stages.
std::string megatron_file(const std::vector<Tensors>& models, int stages = 2, int experts = 1,
                          Kept kept = Kept::RowByRow) {
  const std::string arguments = "cargparse\nNamespace\n)\x81}(" +
                                pickled("pipeline_model_parallel_size") + pickled(stages) +
                                pickled("expert_model_parallel_size") + pickled(experts) + "ub";
  return torch_file(
      "model_optim_rng", models,
      [&](const std::vector<std::string>& weights) {
        std::string out = "}(" + pickled("args") + arguments;
        for (std::size_t i = 0; i < weights.size(); ++i) {
          out += pickled(weights.size() == 1 ? "model" : fmt::format("model{}", i)) + weights[i];
        }
        return out + "u";
      },
      kept);
}

/// qwen3 on TP 2 and PP 2.
class Legacy : public ::testing::Test {
 protected:
  void SetUp() override {
    const Ended ended =
        run({"convert", "--to", "megatron", "--model", golden_hf("qwen3").string(), "--tp", "2",
             "--pp", "2", "--make-vocab-size-divisible-by", "4", "--out", folder / "shards"});
    ASSERT_EQ(ended.code, 0) << ended.all();
    for (int pp = 0; pp < 2; ++pp) {
      for (int tp = 0; tp < 2; ++tp) {
        const std::string shard = fmt::format("shards/pp{}_tp{}_ep0_etp0.safetensors", pp, tp);
        const fs::path file = file_of(tp, pp);
        fs::create_directories(file.parent_path());
        write_text(file, megatron_file({read_tensors(folder / shard)}));
      }
    }
    write_text(folder.path() / "legacy/latest_checkpointed_iteration.txt", "5");
  }
  [[nodiscard]] fs::path file_of(int tp, int pp) const {
    return folder.path() /
           fmt::format("legacy/iter_0000005/mp_rank_{:02}_{:03}/model_optim_rng.pt", tp, pp);
  }
  [[nodiscard]] Ended check() const {
    return run({"check", "--model", golden_hf("qwen3").string(), "--megatron", folder / "legacy"});
  }
  TempFolder folder;
};

TEST_F(Legacy, EqualsItsModel) {
  const Ended ended = check();
  EXPECT_EQ(ended.code, 0) << ended.all();
  EXPECT_EQ(ended.word(), "PASS") << ended.all();
}

/// A parameter that was transposed before it was saved; in the second rank another number.
TEST_F(Legacy, TensorsStoredByColumnsAreRead) {
  const Tensors right = read_tensors(folder / "shards/pp0_tp1_ep0_etp0.safetensors");
  write_text(file_of(1, 0), megatron_file({right}, 2, 1, Kept::Turned));
  EXPECT_EQ(check().code, 0) << check().all();
  Tensors wrong = right;
  wrong.at("decoder.layers.0.mlp.linear_fc2.weight").bytes[3] ^= std::byte{1};
  write_text(file_of(1, 0), megatron_file({wrong}, 2, 1, Kept::Turned));
  const Ended ended = check();
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_NE(ended.flat().find("decoder.layers.0.mlp.linear_fc2.weight"), std::string::npos)
      << ended.all();
}

TEST_F(Legacy, ExchangedRanksAreRefuted) {
  fs::rename(file_of(0, 1), folder.path() / "x");
  fs::rename(file_of(1, 1), file_of(0, 1));
  fs::rename(folder.path() / "x", file_of(1, 1));
  const Ended ended = check();
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_EQ(ended.word(), "FAIL") << ended.all();
}

/// After training every value is another one, and the ranks still hold equal copies.
TEST_F(Legacy, TrainedWeightsAreJudgedByTheirShapesAndCopies) {
  const auto train = [&](int tp, int pp, unsigned by) {
    const std::string shard = fmt::format("shards/pp{}_tp{}_ep0_etp0.safetensors", pp, tp);
    auto tensors = read_tensors(folder / shard);
    for (auto& [name, tensor] : tensors) {
      for (std::byte& one : tensor.bytes) {
        one ^= std::byte(by);
      }
    }
    write_text(file_of(tp, pp), megatron_file({tensors}));
  };
  const auto judged = [&] {
    return run({"check", "--model", golden_hf("qwen3").string(), "--megatron", folder / "legacy",
                "--accept-changed"});
  };
  for (int pp = 0; pp < 2; ++pp) {
    train(0, pp, 1);
    train(1, pp, 1);
  }
  EXPECT_EQ(check().code, 1);
  const Ended trained = judged();
  EXPECT_EQ(trained.code, 0) << trained.all();
  EXPECT_NE(trained.flat().find("the values were trained and are not compared"), std::string::npos)
      << trained.all();
  train(1, 1, 2);
  const Ended diverged = judged();
  EXPECT_EQ(diverged.code, 1) << diverged.all();
  EXPECT_NE(diverged.flat().find("two ranks hold different copies"), std::string::npos)
      << diverged.all();
}

TEST_F(Legacy, AMissingRankIsRefused) {
  fs::remove(file_of(1, 1));
  const Ended ended = check();
  EXPECT_EQ(ended.code, 5) << "the input is damaged, the command line is not";
  EXPECT_NE(ended.flat().find("are not those of one layout"), std::string::npos) << ended.all();
}

/// Files of a program that names its ranks as Megatron does and writes safetensors.
TEST_F(Legacy, SafetensorsNamedAfterRanksAreJudgedAlike) {
  fs::create_directories(folder.path() / "plain");
  for (int pp = 0; pp < 2; ++pp) {
    for (int tp = 0; tp < 2; ++tp) {
      fs::copy_file(folder.path() / fmt::format("shards/pp{}_tp{}_ep0_etp0.safetensors", pp, tp),
                    folder.path() / fmt::format("plain/mp_rank_{:02}_{:03}.safetensors", tp, pp));
    }
  }
  const auto judged = [&](const std::vector<std::string>& more) {
    std::vector<std::string> line = {"check", "--model", golden_hf("qwen3").string(), "--megatron",
                                     folder / "plain"};
    line.insert(line.end(), more.begin(), more.end());
    return run(line);
  };
  const Ended right = judged({"--pp", "2"});
  EXPECT_EQ(right.code, 0) << right.all();
  EXPECT_EQ(right.word(), "PASS") << right.all();
  const Ended open = judged({});
  EXPECT_EQ(open.code, 0) << "without experts the second number is that of PP\n" << open.all();
  const Ended alone = run({"check", "--model", folder / "plain"});
  EXPECT_EQ(alone.code, 5) << alone.all();
  EXPECT_NE(alone.flat().find("--megatron " + (folder / "plain")), std::string::npos)
      << alone.all();
  const fs::path one = folder.path() / "plain/mp_rank_00_001.safetensors";
  fs::rename(one, folder.path() / "x");
  fs::rename(folder.path() / "plain/mp_rank_01_001.safetensors", one);
  EXPECT_NE(judged({"--pp", "2"}).code, 0);
  fs::rename(folder.path() / "x", folder.path() / "plain/mp_rank_01_001.safetensors");
  const Ended exchanged = judged({"--pp", "2"});
  EXPECT_EQ(exchanged.code, 1) << exchanged.all();
}

/// What wraps the model while it trains stands before every name.
TEST_F(Legacy, NamesBehindAWrapperAreTold) {
  for (const char* wrapper : {"module.", "module.module.", "model."}) {
    for (const bool without : {false, true}) {
      for (int pp = 0; pp < 2; ++pp) {
        for (int tp = 0; tp < 2; ++tp) {
          Tensors wrapped;
          for (const auto& [name, tensor] : read_tensors(
                   folder / fmt::format("shards/pp{}_tp{}_ep0_etp0.safetensors", pp, tp))) {
            const bool vocabulary = name.find("word_embeddings") != std::string::npos ||
                                    name.find("output_layer") != std::string::npos;
            if (!(without && vocabulary)) {
              wrapped[wrapper + name] = tensor;
            }
          }
          write_text(file_of(tp, pp), megatron_file({wrapped}));
        }
      }
      const Ended ended = check();
      EXPECT_EQ(ended.code, 1) << ended.all();
      EXPECT_NE(
          ended.flat().find(fmt::format("names of the checkpoint begin with \"{}\"", wrapper)),
          std::string::npos)
          << ended.all();
      EXPECT_NE(ended.flat().find("BV1004"), std::string::npos) << ended.all();
      EXPECT_EQ(ended.flat().find("BV2002"), std::string::npos) << ended.all();
    }
  }
}

/// Names without a vocabulary say nothing of its padding: it is what is missing.
TEST_F(Legacy, AMissingVocabularyIsMissingByName) {
  for (int pp = 0; pp < 2; ++pp) {
    for (int tp = 0; tp < 2; ++tp) {
      auto tensors =
          read_tensors(folder / fmt::format("shards/pp{}_tp{}_ep0_etp0.safetensors", pp, tp));
      tensors.erase("embedding.word_embeddings.weight");
      tensors.erase("output_layer.weight");
      write_text(file_of(tp, pp), megatron_file({tensors}));
    }
  }
  const Ended ended = check();
  EXPECT_EQ(ended.code, 1) << ended.all();
  EXPECT_NE(ended.flat().find("BV1004"), std::string::npos) << ended.all();
  EXPECT_NE(ended.flat().find("embedding.word_embeddings.weight"), std::string::npos)
      << ended.all();
}

/// Two ranks hold the experts of qwen3_moe on TP 2, EP 2, ETP 1, without the arguments of the run.
class ExpertRanks : public ::testing::Test {
 protected:
  void SetUp() override {
    const Ended ended =
        run({"convert", "--to", "megatron", "--model", golden_hf("qwen3_moe").string(), "--tp", "2",
             "--ep", "2", "--etp", "1", "--make-vocab-size-divisible-by", "4", "--out",
             folder / "shards"});
    ASSERT_EQ(ended.code, 0) << ended.all();
    for (const int rank : {0, 1}) {
      const fs::path file =
          folder.path() / fmt::format("legacy/mp_rank_0{}_00{}/model_optim_rng.pt", rank, rank);
      fs::create_directories(file.parent_path());
      const auto tensors =
          read_tensors(folder / fmt::format("shards/pp0_tp{}_ep{}_etp0.safetensors", rank, rank));
      write_text(file, torch_file("model_optim_rng", {tensors}, [&](const auto& weights) {
                   return "}(" + pickled("model") + weights.front() + "u";
                 }));
    }
  }
  [[nodiscard]] Ended check(const std::vector<std::string>& more) const {
    std::vector<std::string> line = {"check", "--model", golden_hf("qwen3_moe").string(),
                                     "--megatron", folder / "legacy"};
    line.insert(line.end(), more.begin(), more.end());
    return run(line);
  }
  TempFolder folder;
};

TEST_F(ExpertRanks, TellTheExpertTensorSize) {
  const Ended ended = check({"--ep", "2"});
  EXPECT_EQ(ended.code, 0) << ended.all();
  EXPECT_NE(ended.flat().find("tp2pp1ep2etp1"), std::string::npos) << ended.all();
  EXPECT_EQ(check({"--ep", "2", "--etp", "1"}).code, 0);
}

TEST_F(ExpertRanks, OfAnotherSizeThanStatedAreRefused) {
  const Ended wrong = check({"--ep", "2", "--etp", "2"});
  EXPECT_EQ(wrong.code, 2) << wrong.all();
  EXPECT_NE(wrong.flat().find("are not those of one layout"), std::string::npos) << wrong.all();
  const Ended open = check({});
  EXPECT_EQ(open.code, 2) << open.all();
  EXPECT_NE(open.flat().find("--pp N or --ep N"), std::string::npos) << open.all();
}

/// What the run says is untrusted: it neither adds ranks where the names count none, nor allocates.
TEST(LegacyArguments, OfAnotherRunDoNotMakeRanks) {
  const TempFolder folder;
  const std::string model = golden_hf("qwen3").string();
  ASSERT_EQ(run({"convert", "--to", "megatron", "--model", model, "--out", folder / "shards"}).code,
            0);
  const auto tensors = read_tensors(folder / "shards/pp0_tp0_ep0_etp0.safetensors");
  const auto judged = [&](const std::string& rank, int stages) {
    const fs::path file = folder.path() / rank / rank / "model_optim_rng.pt";
    fs::create_directories(file.parent_path());
    write_text(file, megatron_file({tensors}, stages));
    return run_hostile({"check", "--model", model, "--megatron", folder / rank});
  };
  const Ended merged = judged("mp_rank_00", 2);
  EXPECT_EQ(merged.code, 0) << merged.all();
  EXPECT_EQ(judged("mp_rank_00_000", 2).code, 5);
  for (const auto& [rank, size] :
       {std::pair("mp_rank_00_000", 1 << 30), std::pair("mp_rank_00_000_000", 1 << 20)}) {
    const fs::path file = folder.path() / "h" / rank / "model_optim_rng.pt";
    fs::create_directories(file.parent_path());
    write_text(file, megatron_file({tensors}, size, size));
    const Ended hostile = run_hostile({"check", "--model", model, "--megatron", folder / "h"});
    EXPECT_TRUE(hostile.code == 5 || hostile.code == 2) << hostile.all();
    fs::remove_all(folder.path() / "h");
  }
}

/// The names say which spelling they are of; an option that was given decides.
TEST(LegacySpelling, IsTakenFromTheNames) {
  const TempFolder folder;
  const std::string model = golden_hf("qwen3_moe").string();
  const Ended there = run({"convert", "--to", "megatron", "--model", model, "--no-moe-grouped-gemm",
                           "--transformer-impl", "local", "--out", folder / "shards"});
  ASSERT_EQ(there.code, 0) << there.all();
  const fs::path file = folder.path() / "legacy/mp_rank_00/model_optim_rng.pt";
  fs::create_directories(file.parent_path());
  write_text(file, torch_file("model_optim_rng",
                              {read_tensors(folder / "shards/pp0_tp0_ep0_etp0.safetensors")},
                              [&](const auto& weights) {
                                return "}(" + pickled("model") + weights.front() + "u";
                              }));
  const Ended ended = run({"check", "--model", model, "--megatron", folder / "legacy"});
  EXPECT_EQ(ended.code, 0) << ended.all();
  EXPECT_NE(ended.flat().find("--no-moe-grouped-gemm"), std::string::npos) << ended.all();
  EXPECT_NE(ended.flat().find("--transformer-impl local"), std::string::npos) << ended.all();
  const Ended other = run({"check", "--model", model, "--megatron", folder / "legacy",
                           "--transformer-impl", "transformer_engine"});
  EXPECT_EQ(other.code, 1) << other.all();
}

/// qwen3 on PP 2 with two virtual stages on each rank.
class VirtualStages : public ::testing::Test {
 protected:
  void SetUp() override {
    const Ended ended = run({"convert", "--to", "megatron", "--model", golden_hf("qwen3").string(),
                             "--pp", "2", "--vpp", "2", "--out", folder / "shards"});
    ASSERT_EQ(ended.code, 0) << ended.all();
    write({0, 1}, {0, 1});
  }
  /// The stages that each of the two ranks holds, in its order.
  void write(const std::vector<int>& first, const std::vector<int>& second) {
    const auto file = [&](int pp, const std::vector<int>& stages) {
      std::vector<Tensors> models;
      for (const int vp : stages) {
        models.push_back(read_tensors(
            folder / fmt::format("shards/pp{}_tp0_ep0_etp0_vp{}.safetensors", pp, vp)));
      }
      const fs::path path =
          folder.path() / fmt::format("legacy/mp_rank_00_{:03}/model_optim_rng.pt", pp);
      fs::create_directories(path.parent_path());
      write_text(path, megatron_file(models));
    };
    file(0, first);
    file(1, second);
  }
  [[nodiscard]] Ended check() const {
    return run({"check", "--model", golden_hf("qwen3").string(), "--megatron", folder / "legacy"});
  }
  TempFolder folder;
};

TEST_F(VirtualStages, AreTheModelsOfARank) {
  const Ended ended = check();
  EXPECT_EQ(ended.code, 0) << ended.all();
  EXPECT_EQ(ended.word(), "PASS") << ended.all();
  EXPECT_NE(ended.flat().find("vpp2"), std::string::npos) << ended.all();
}

TEST_F(VirtualStages, OfAMissingRankAreAMissingFile) {
  fs::remove_all(folder.path() / "legacy/mp_rank_00_001");
  const Ended ended = check();
  EXPECT_EQ(ended.code, 5) << ended.all();
  EXPECT_NE(ended.flat().find("are not those of one layout"), std::string::npos) << ended.all();
}

TEST_F(VirtualStages, InAnotherOrderAreRefuted) {
  write({1, 0}, {0, 1});
  const Ended ended = check();
  EXPECT_EQ(ended.code, 1) << ended.all();
}

TEST_F(VirtualStages, OfDifferentNumbersAreRefused) {
  write({0, 1}, {0});
  const Ended ended = check();
  EXPECT_EQ(ended.code, 5) << ended.all();
  EXPECT_NE(ended.flat().find("different numbers of virtual stages"), std::string::npos)
      << ended.all();
}

}  // namespace
}  // namespace bv::e2e
