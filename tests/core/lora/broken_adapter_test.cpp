// Adapters of PEFT with something wrong in them, and what is said of it.

#include <cmath>
#include <set>

#include "core/lora/adapter_keys.hpp"
#include "tests/core/lora/golden.hpp"

namespace bv::lora {
namespace {

/// What an edited copy of a golden is refused with.
class BrokenAdapter : public ::testing::Test {
 protected:
  BrokenAdapter()
      : base_(golden::open_base(golden::kGolden / "peft/llama_all/base")),
        file_(golden::adapter_file("llama_all")) {
    std::ifstream in(golden::kGolden / "peft/llama_all/adapter/adapter_config.json");
    const std::string text((std::istreambuf_iterator<char>(in)), {});
    config_ = parse_adapter_config(text, "adapter_config.json").value();
    for (const auto& [key, stored] : file_.tensors()) {
      tensors_.push_back({stored, file_.bytes(stored)});
    }
  }
  AdapterTensor& tensor(const std::string& key) {
    return *std::find_if(tensors_.begin(), tensors_.end(), [&](const AdapterTensor& one) {
      return one.stored.spec.name == std::string(kPeftPrefix) + "model.layers." + key;
    });
  }
  Result<Adapter> fit() {
    return fit_adapter(config_, tensors_, base_, golden::kinds_of_build(), "adapter");
  }
  /// "code found" of the only fault.
  std::string fault() {
    const auto adapter = fit();
    if (!adapter || adapter->faults.size() != 1) {
      return adapter ? std::to_string(adapter->faults.size()) + " faults" : adapter.error().message;
    }
    return std::string(info(adapter->faults[0].code).name) + ": " + adapter->faults[0].message;
  }

  checkpoint::HfModel base_;
  io::Checkpoint file_;
  AdapterConfig config_;
  std::vector<AdapterTensor> tensors_;
};

TEST_F(BrokenAdapter, AMissingFactorNamesLayerAndKey) {
  const std::string key = "1.mlp.up_proj.lora_B.weight";
  tensors_.erase(tensors_.begin() + (&tensor(key) - tensors_.data()));
  EXPECT_EQ(
      fault(),
      "AdapterPairBroken: \"base_model.model.model.layers.1.mlp.up_proj.lora_A.weight\" (layer "
      "1) stands without its lora_B");
}

TEST_F(BrokenAdapter, AnEmptyFactorIsAnError) {
  AdapterTensor& b = tensor("0.self_attn.q_proj.lora_B.weight");
  b.stored.spec.shape = {0, 6};
  b.bytes = {};
  EXPECT_EQ(fault(),
            "AdapterPairBroken: \"base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight\" "
            "(layer 0) has no elements");
}

TEST_F(BrokenAdapter, AKeyWithAnAdapterNameIsNotLoadedByPeftAndNotReadHere) {
  tensor("0.self_attn.q_proj.lora_B.weight").stored.spec.name =
      "base_model.model.model.layers.0.self_attn.q_proj.lora_B.default.weight";
  const auto adapter = fit().value();
  ASSERT_EQ(adapter.faults.size(), 2u);  // and the lora_A that is alone now
  EXPECT_EQ(adapter.faults[0].code, Code::AdapterName);
  EXPECT_NE(adapter.faults[0].message.find("lora_B.default.weight"), std::string::npos);
}

TEST_F(BrokenAdapter, AModuleThatTheBaseDoesNotHaveIsNamed) {
  for (const char* factor : {"lora_A", "lora_B"}) {
    tensor(std::string("0.self_attn.q_proj.") + factor + ".weight").stored.spec.name =
        std::string("base_model.model.model.layers.9.self_attn.q_proj.") + factor + ".weight";
  }
  EXPECT_EQ(
      fault(),
      "AdapterName: \"base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight\" (layer "
      "9) belongs to no tensor of the base: the base has no module "
      "\"model.layers.9.self_attn.q_proj\"");
}

TEST_F(BrokenAdapter, AFactorOfAnotherModuleDoesNotFit) {
  const AdapterTensor k = tensor("0.self_attn.k_proj.lora_B.weight");
  AdapterTensor& q = tensor("0.self_attn.q_proj.lora_B.weight");
  q.stored.spec.shape = k.stored.spec.shape;
  q.bytes = k.bytes;
  EXPECT_EQ(fault().substr(0, 12), "AdapterShape");
}

/// D-11, TV-29: factors for every expert do not broadcast over a matrix.
TEST_F(BrokenAdapter, AStackOfFactorsIsNotAddedToAMatrix) {
  AdapterTensor& b = tensor("0.self_attn.q_proj.lora_B.weight");
  const std::int64_t rows = b.stored.spec.shape[0];
  b.stored.spec.shape = {2, rows / 2, b.stored.spec.shape[1]};
  EXPECT_EQ(fault(),
            "AdapterShape: \"base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight\" "
            "(layer 0) is not a matrix");
  b.stored.spec.shape = {rows / 2, 2 * b.stored.spec.shape[2]};
  EXPECT_EQ(fault().substr(0, 17), "AdapterPairBroken");
}

/// D-27: PEFT takes the first pattern of the file that matches; it sorts them when it saves.
TEST_F(BrokenAdapter, TheFirstPatternOfTheFileCounts) {
  const auto alphas = [&](std::vector<std::pair<std::string, double>> patterns) {
    config_.alpha_pattern = std::move(patterns);
    const auto adapter = fit().value();
    std::vector<double> out;
    for (const AdapterPair& pair : adapter.pairs) {
      if (pair.base.ends_with("q_proj.weight")) {
        out.push_back(pair.alpha);
      }
    }
    return out;
  };
  EXPECT_EQ(alphas({{"q_proj", 3}, {"layers.1.self_attn.q_proj", 4}}), (std::vector<double>{3, 3}));
  EXPECT_EQ(alphas({{"layers.1.self_attn.q_proj", 4}, {"q_proj", 3}}), (std::vector<double>{3, 4}));
}

TEST_F(BrokenAdapter, AnAdapterWithoutAnyPairIsNone) {
  tensors_.clear();
  const auto adapter = fit();
  ASSERT_FALSE(adapter);
  EXPECT_EQ(adapter.error().code, Code::AdapterInvalid);
  EXPECT_EQ(adapter.error().message, "the adapter changes nothing: it holds no pair of factors");
}

/// PEFT loads such a file, and merges the tensors of the base in their place.
TEST_F(BrokenAdapter, TrainedTensorsThatTheConfigNamesMustBeThere) {
  config_.modules_to_save = {"lm_head"};
  EXPECT_EQ(fault(),
            "AdapterPairBroken: \"lm_head\" is a module to save, and nothing of it was saved");
  config_.modules_to_save = {"score", "classifier"};  // not modules of this base
  EXPECT_EQ(fault(), "0 faults");
  config_.modules_to_save = {};
  config_.bias = Bias::All;  // this base has no bias
  EXPECT_EQ(fault(), "0 faults");
}

/// PEFT's own comparison, written anew: "norm" saves every module whose path ends in these letters.
TEST_F(BrokenAdapter, ModulesToSaveAreNamedByTheLettersOfTheirEnds) {
  const auto& stored =
      base_.checkpoint->tensors().find("model.layers.0.input_layernorm.weight")->second;
  AdapterTensor trained{stored, base_.checkpoint->bytes(stored)};
  trained.stored.spec.name = "base_model.model.model.layers.0.input_layernorm.weight";
  tensors_.push_back(trained);
  for (const char* saved : {"norm", "input_layernorm", "layers.0.input_layernorm", "layers.0"}) {
    config_.modules_to_save = {saved};
    EXPECT_EQ(fault(), "0 faults") << saved;
  }
  for (const char* saved : {"input", "norms", "layers.1"}) {
    config_.modules_to_save = {saved};
    EXPECT_NE(fault(), "0 faults") << saved;
  }
}

/// With bias "all" PEFT saves the biases of a module to save three times.
TEST(ReadAdapter, ATrainedBiasThatIsSavedThreeTimesIsOne) {
  const auto base = golden::open_base(golden::kGolden / "peft/bias_all/base");
  const auto file = golden::adapter_file("bias_all");
  std::ifstream in(golden::kGolden / "peft/bias_all/adapter/adapter_config.json");
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  const AdapterConfig config = parse_adapter_config(text, "adapter_config.json").value();
  std::vector<AdapterTensor> tensors;
  for (const auto& [key, stored] : file.tensors()) {
    tensors.push_back({stored, file.bytes(stored)});
  }
  const auto first = std::find_if(tensors.begin(), tensors.end(), [](const AdapterTensor& one) {
    const std::string& key = one.stored.spec.name;
    return key.ends_with(".bias") && key.find("layer.bias") == std::string::npos;
  });
  ASSERT_NE(first, tensors.end());
  const std::string key = first->stored.spec.name;
  const std::string module = key.substr(0, key.rfind('.'));
  const std::string name = key.substr(kPeftPrefix.size());
  AdapterTensor again = *first;
  again.stored.spec.name = module + ".modules_to_save.bias";
  const auto& own = base.checkpoint->tensors().find(name)->second;
  AdapterTensor original{own, base.checkpoint->bytes(own)};
  original.stored.spec.name = module + ".original_module.bias";
  const std::size_t count = tensors.size();
  const auto faults = [&] {
    return fit_adapter(config, tensors, base, golden::kinds_of_build(), "bias_all").value().faults;
  };
  tensors.push_back(again);
  tensors.push_back(original);
  EXPECT_TRUE(faults().empty()) << faults()[0].message;
  std::vector<std::byte> other(again.bytes.begin(), again.bytes.end());
  other[0] ^= std::byte{1};
  tensors[count].bytes = other;
  ASSERT_EQ(faults().size(), 1u);
  EXPECT_NE(faults()[0].message.find("the same parameter as"), std::string::npos);
  tensors[count] = again;
  tensors[count + 1].bytes = other;
  ASSERT_EQ(faults().size(), 1u);
  EXPECT_NE(faults()[0].message.find("is not the base's own"), std::string::npos);
}

TEST(ReadAdapter, BiasesThatWereTrainedMustBeThere) {
  for (const auto& [name, bias] :
       {std::pair{"bias_all", Bias::All}, std::pair{"bias_lora_only", Bias::LoraOnly}}) {
    const auto base = golden::open_base(golden::kGolden / "peft" / name / "base");
    const auto file = golden::adapter_file(name);
    std::ifstream in(golden::kGolden / "peft" / name / "adapter/adapter_config.json");
    const std::string text((std::istreambuf_iterator<char>(in)), {});
    AdapterConfig config = parse_adapter_config(text, "adapter_config.json").value();
    EXPECT_EQ(config.bias, bias);
    std::vector<AdapterTensor> pairs;
    for (const auto& [key, stored] : file.tensors()) {
      if (key.find("lora_") != std::string::npos) {
        pairs.push_back({stored, file.bytes(stored)});
      }
    }
    const auto without = fit_adapter(config, pairs, base, golden::kinds_of_build(), name).value();
    ASSERT_EQ(without.faults.size(), 1u) << name;
    EXPECT_EQ(without.faults[0].code, Code::AdapterPairBroken);
    config.bias = Bias::None;
    EXPECT_TRUE(
        fit_adapter(config, pairs, base, golden::kinds_of_build(), name).value().faults.empty());
  }
}

/// One of the two would be lost without a word.
TEST_F(BrokenAdapter, ATrainedTensorTakesNoDelta) {
  config_.modules_to_save = {"q_proj"};
  const std::string name = "model.layers.0.self_attn.q_proj.weight";
  const auto& stored = base_.checkpoint->tensors().find(name)->second;
  AdapterTensor trained{stored, base_.checkpoint->bytes(stored)};
  trained.stored.spec.name = "base_model.model." + name;
  tensors_.push_back(trained);
  EXPECT_EQ(fault(),
            "AdapterName: \"base_model.model.model.layers.0.self_attn.q_proj.weight\" (layer 0) "
            "replaces a tensor that "
            "\"base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight\" is added to");
}

/// A packed pair and one of a single expert's up, whose rows begin in the middle of it.
TEST(ReadAdapter, PairsThatShareRowsAreRefusedWhereverTheyBegin) {
  const auto base = golden::open_base(golden::kGolden / "peft/qwen35_moe/base");
  const auto file = golden::adapter_file("qwen35_moe");
  std::ifstream in(golden::kGolden / "peft/qwen35_moe/adapter/adapter_config.json");
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  const AdapterConfig config = parse_adapter_config(text, "adapter_config.json").value();
  const Shape stack = base.headers.find("model.layers.0.mlp.experts.gate_up_proj")->second.shape;
  for (const char* projection : {"gate_proj", "up_proj"}) {
    std::vector<AdapterTensor> tensors;
    for (const auto& [key, stored] : file.tensors()) {
      tensors.push_back({stored, file.bytes(stored)});
    }
    const std::vector<std::byte> zeros(4096 * 4);
    for (const auto& [factor, shape] : {std::pair{"lora_A", Shape{config.r, stack[2]}},
                                        std::pair{"lora_B", Shape{stack[1] / 2, config.r}}}) {
      AdapterTensor one;
      one.stored.spec = {fmt::format("base_model.model.model.layers.0.mlp.experts.3.{}.{}.weight",
                                     projection, factor),
                         DType::F32, shape};
      one.bytes =
          std::span(zeros).first(static_cast<std::size_t>(element_count(shape).value() * 4));
      tensors.push_back(one);
    }
    const auto adapter =
        fit_adapter(config, tensors, base, golden::kinds_of_build(), "adapter").value();
    ASSERT_EQ(adapter.faults.size(), 1u) << projection;
    EXPECT_EQ(adapter.faults[0].code, Code::AdapterName) << adapter.faults[0].message;
  }
}

TEST_F(BrokenAdapter, MagnitudesAndUseDoraGoTogether) {
  config_.use_dora = true;
  const auto adapter = fit().value();
  EXPECT_EQ(adapter.faults.size(), 14u);  // every pair lacks its magnitudes
  EXPECT_EQ(adapter.faults[0].code, Code::AdapterPairBroken);
}

TEST_F(BrokenAdapter, ARankThatTheConfigDoesNotSayIsOneErrorWithCounts) {
  config_.r = 16;
  const auto adapter = fit();
  ASSERT_FALSE(adapter);
  EXPECT_EQ(adapter.error().code, Code::AdapterInvalid);
  EXPECT_EQ(adapter.error().message,
            "adapter_config.json says r=16, "
            "\"base_model.model.model.layers.0.mlp.down_proj.lora_A.weight\" has rank 6");
  EXPECT_EQ(adapter.error().facts,
            (std::vector<std::string>{"14 pairs of rank 6", "0 of 14 agree with the config"}));
}

TEST_F(BrokenAdapter, TheFirstFaultStopsAConversionAndCountsTheOthers) {
  config_.use_dora = true;
  const auto usable = check_usable(fit().value());
  ASSERT_FALSE(usable);
  EXPECT_EQ(usable.error().code, Code::AdapterPairBroken);
  EXPECT_EQ(usable.error().facts, std::vector<std::string>{"13 more keys are wrong"});
}

}  // namespace
}  // namespace bv::lora
