// Adapters that PEFT 0.21.2 wrote: every key is read, and what is read means what PEFT means.

#include <cmath>
#include <set>

#include "core/lora/adapter_keys.hpp"
#include "tests/core/lora/golden.hpp"
#include "tests/support/checkpoint_edit.hpp"
#include "tests/support/files.hpp"

namespace bv::lora {
namespace {

namespace fs = std::filesystem;

struct Case {
  std::string name;
  fs::path adapter;
  fs::path base;
};

std::vector<Case> cases() {
  std::vector<Case> out;
  for (const auto& entry : fs::directory_iterator(golden::kGolden / "peft")) {
    const std::string name = entry.path().filename().string();
    if (fs::exists(entry.path() / "adapter")) {
      out.push_back({name, entry.path() / "adapter", entry.path() / "base"});
    }
    for (const char* form : {"bf16", "fp32"}) {
      const fs::path adapter = entry.path() / fmt::format("adapter_{}", form);
      if (fs::exists(adapter)) {
        out.push_back({name + "_" + form, adapter, entry.path() / fmt::format("base_{}", form)});
      }
    }
    for (const char* family : {"gpt_oss", "qwen3_moe", "qwen35_moe"}) {
      const fs::path part = entry.path() / family;
      if (fs::exists(part)) {
        out.push_back({name + "_" + family, part / "adapter", part / "base"});
      }
    }
  }
  return out;
}

Adapter read(const fs::path& folder, const checkpoint::HfModel& base) {
  auto out = open_adapter(folder, base, golden::kinds_of_build());
  EXPECT_TRUE(out) << folder << (out ? "" : " " + out.error().message);
  return out ? std::move(*out) : Adapter{};
}

TEST(ReadAdapter, EveryKeyOfEveryGoldenIsReadOnce) {
  EXPECT_EQ(cases().size(), 28u);
  for (const Case& one : cases()) {
    SCOPED_TRACE(one.name);
    const auto base = golden::open_base(one.base);
    const Adapter adapter = read(one.adapter, base);
    for (const AdapterFault& fault : adapter.faults) {
      ADD_FAILURE() << fault.message << " found " << fault.found << " wanted " << fault.wanted;
    }
    std::set<std::string> read_keys;
    for (const AdapterPair& pair : adapter.pairs) {
      read_keys.insert({pair.a.key(), pair.b.key()});
      if (pair.magnitude) {
        read_keys.insert(pair.magnitude->key());
      }
    }
    for (const BiasDelta& bias : adapter.biases) {
      EXPECT_TRUE(read_keys.insert(bias.delta.key()).second);
    }
    for (const Replacement& one_more : adapter.replacements) {
      EXPECT_TRUE(read_keys.insert(one_more.tensor->spec.name).second);
    }
    EXPECT_EQ(std::ssize(read_keys) + std::ssize(adapter.copies), adapter.keys);
  }
}

TEST(ReadAdapter, RanksAlphasAndScalesAreThoseOfTheLibrary) {
  for (const Case& one : cases()) {
    const auto meta_file = one.adapter.parent_path() / "meta.json";
    const auto meta = fs::exists(meta_file) ? golden::json_of(meta_file) : nlohmann::json();
    if (!meta.is_object() || !meta.contains("targets") || !meta["targets"].is_array() ||
        !meta["targets"].at(0).contains("keys")) {
      continue;
    }
    SCOPED_TRACE(one.name);
    const auto base = golden::open_base(one.base);
    const Adapter adapter = read(one.adapter, base);
    std::map<std::string, std::set<std::tuple<std::int64_t, double, double>>> found;
    for (const AdapterPair& pair : adapter.pairs) {
      found[pair.a.key()].insert(
          {pair.rank(), pair.alpha, scale64(pair.scale, pair.alpha, pair.rank())});
    }
    std::map<std::string, std::set<std::tuple<std::int64_t, double, double>>> wanted;
    for (const auto& target : meta["targets"]) {
      if (target.value("kind", "") == "replaced") {
        continue;  // a trained tensor has no scale
      }
      const auto& keys = target["keys"];
      const std::string a = keys.contains("lora_A.weight") ? "lora_A.weight" : "lora_embedding_A";
      wanted[keys[a].get<std::string>()].insert({target["r"].get<std::int64_t>(),
                                                 target["alpha"].get<double>(),
                                                 target["scale"].get<double>()});
    }
    EXPECT_EQ(found, wanted);
  }
}

/// The independent float64 reference holds the lowest layer.
TEST(ReadAdapter, PairsMeanWhatTheLibraryMergesInFloat64) {
  std::int64_t tensors = 0;
  for (const Case& one : cases()) {
    const auto reference = one.adapter.parent_path() / "merged_fp64.safetensors";
    if (!fs::exists(reference)) {
      continue;
    }
    SCOPED_TRACE(one.name);
    const auto base = golden::open_base(one.base);
    const Adapter adapter = read(one.adapter, base);
    const golden::Tensors ours = golden::merged(adapter, base);
    for (const auto& [name, wanted] : golden::tensors_of(io::Checkpoint::open(reference).value())) {
      const auto found = ours.find(name);
      if (found == ours.end()) {
        const bool other = std::any_of(adapter.biases.begin(), adapter.biases.end(),
                                       [&](const BiasDelta& bias) { return bias.base == name; }) ||
                           std::any_of(adapter.replacements.begin(), adapter.replacements.end(),
                                       [&](const Replacement& r) { return r.base == name; }) ||
                           name == "lm_head.weight";  // tied: the same tensor
        EXPECT_TRUE(other) << name;
        continue;
      }
      ++tensors;
      ASSERT_EQ(found->second.size(), wanted.size()) << name;
      double worst = 0;
      for (std::size_t i = 0; i < wanted.size(); ++i) {
        worst = std::max(worst, std::abs(found->second[i] - wanted[i]));
      }
      EXPECT_LT(worst, 1e-12) << name;
    }
  }
  EXPECT_GE(tensors, 40);
}

/// PEFT's own delta of factors 1, 2, 3, ... is exact: it shows where each element goes.
TEST(ReadAdapter, PackedFactorsGiveTheDeltaOfTheLibraryExactly) {
  for (const char* family : {"gpt_oss", "qwen3_moe", "qwen35_moe"}) {
    SCOPED_TRACE(family);
    const fs::path part = golden::kGolden / "peft/packing_tagged" / family;
    const auto base = golden::open_base(part / "base");
    const Adapter adapter = read(part / "adapter", base);
    const golden::Tensors with = golden::merged(adapter, base);
    const golden::Tensors without = golden::tensors_of(*base.checkpoint);
    const auto delta = golden::tensors_of(
        io::Checkpoint::open(golden::kGolden / "peft/packing_tagged" / family / "delta.safetensors")
            .value());
    EXPECT_FALSE(delta.empty());
    for (const auto& [name, wanted] : delta) {
      const auto found = with.find(name);
      if (found == with.end()) {
        continue;  // stored one by one: the next test
      }
      for (std::size_t i = 0; i < wanted.size(); ++i) {
        ASSERT_NEAR(found->second[i] - without.at(name)[i], wanted[i],
                    1e-6 * std::abs(wanted[i]) + 1e-9)
            << name;
      }
    }
  }
}

TEST(ReadAdapter, APackedAdapterIsAddedToExpertsThatAreStoredOneByOne) {
  const fs::path folder = golden::kGolden / "peft/qwen3_moe_named_targets";
  const auto base = golden::open_base(folder / "base");
  const Adapter adapter = read(folder / "adapter", base);
  std::map<std::string, std::pair<std::int64_t, double>> ranks;
  for (const AdapterPair& pair : adapter.pairs) {
    ranks[pair.base] = {pair.rank(), pair.alpha};
  }
  EXPECT_EQ(ranks.at("model.layers.0.mlp.experts.7.gate_proj.weight"),
            (std::pair{std::int64_t{6}, 14.0}));
  EXPECT_EQ(ranks.at("model.layers.0.mlp.experts.7.up_proj.weight"),
            (std::pair{std::int64_t{6}, 14.0}));
  EXPECT_EQ(ranks.at("model.layers.0.mlp.experts.0.down_proj.weight"),
            (std::pair{std::int64_t{3}, 7.0}));
}

/// D-29: one expert whose class keeps [1, in, out]: the delta is transposed as for several.
TEST(ReadAdapter, OneTransposedExpertTakesTheTransposedDelta) {
  const support::TempFolder temp;
  auto base = support::EditedCheckpoint::golden("gpt_oss");
  base.config["num_local_experts"] = 1;
  base.config["num_experts_per_tok"] = 1;
  for (auto& [name, tensor] : base.tensors) {
    if (name.find(".experts.") != std::string::npos || name.find(".router.") != std::string::npos) {
      tensor.bytes.resize(tensor.bytes.size() / static_cast<std::size_t>(tensor.shape[0]));
      tensor.shape[0] = 1;
    }
  }
  base.write(temp.path());
  const auto model = golden::open_base(temp.path());
  AdapterConfig config;
  config.r = 2;
  config.lora_alpha = 2;
  config.target_parameters = {"mlp.experts.down_proj"};
  config.peft_version = "0.21.2";
  const std::string experts = "base_model.model.model.layers.0.mlp.experts.";
  std::vector<float> a(2 * 28);
  std::vector<float> b(24 * 2);
  for (std::size_t i = 0; i < a.size(); ++i) {
    a[i] = static_cast<float>(i % 5);
  }
  for (std::size_t i = 0; i < b.size(); ++i) {
    b[i] = static_cast<float>(i % 7);
  }
  std::vector<AdapterTensor> tensors(2);
  tensors[0].stored = {{experts + "lora_A.weight", DType::F32, {2, 28}}, 0, 0, a.size() * 4};
  tensors[0].bytes = std::as_bytes(std::span(a));
  tensors[1].stored = {{experts + "lora_B.weight", DType::F32, {24, 2}}, 0, 0, b.size() * 4};
  tensors[1].bytes = std::as_bytes(std::span(b));
  const auto adapter =
      fit_adapter(config, std::move(tensors), model, golden::kinds_of_build(), "adapter").value();
  ASSERT_TRUE(adapter.faults.empty()) << adapter.faults[0].message;
  const std::string name = "model.layers.0.mlp.experts.down_proj";
  const auto merged = golden::merged(adapter, model).at(name);
  const auto before = golden::tensors_of(*model.checkpoint).at(name);
  for (std::size_t in = 0; in < 28; ++in) {
    for (std::size_t out = 0; out < 24; ++out) {
      const double delta = b[out * 2] * a[in] + b[out * 2 + 1] * a[28 + in];
      EXPECT_EQ(merged[in * 24 + out], before[in * 24 + out] + delta);
    }
  }
}

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
