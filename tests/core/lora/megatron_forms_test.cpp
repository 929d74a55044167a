// Forms of Megatron adapters that no golden has: shared outer factors, magnitudes that differ,
// canonical queries without their gate, plain layers, sizes that do not divide.

#include <cstring>

#include "core/io/writer.hpp"
#include "core/lora/factor_boxes.hpp"
#include "core/lora/megatron_adapter.hpp"
#include "core/lora/to_hf.hpp"
#include "core/lora/to_megatron.hpp"
#include "core/plan/layout_set.hpp"
#include "tests/core/lora/golden.hpp"
#include "tests/support/files.hpp"

namespace bv::lora {
namespace {

namespace fs = std::filesystem;

using Values = std::map<std::string, std::pair<Shape, std::vector<float>>>;

void write_file(const fs::path& file, const Values& tensors) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : tensors) {
    specs.push_back({name, DType::F32, tensor.first});
  }
  const auto plan = io::plan_safetensors(specs, {{"format", "pt"}}).value();
  auto out = io::PendingFile::create(file, plan.file_size, io::IfExists::Replace).value();
  ASSERT_TRUE(out.write_at(0, std::as_bytes(std::span(plan.header))));
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
    const auto& values = tensors.at(plan.tensors[i].name).second;
    ASSERT_TRUE(out.write_at(plan.offsets[i], std::as_bytes(std::span(values))));
  }
  ASSERT_TRUE(out.commit());
}

/// Values that tell their place.
std::vector<float> numbers(const Shape& shape, float first) {
  std::vector<float> out(static_cast<std::size_t>(element_count(shape).value()));
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = first + static_cast<float>(i % 97) / 64;
  }
  return out;
}

class MegatronForms : public ::testing::Test {
 protected:
  void open(const std::string& name, parallel::Layout layout) {
    base_ =
        checkpoint::open_hf(golden::kGolden / "hf" / name, family::builtin_families().value(), {})
            .value();
    layout_ = plan::with_padding(base_.model, layout);
    plan_ = plan::Plan::make(base_.model, golden::kinds_of_build(), layout_).value();
    sites_ = SitePlan::make(*plan_, golden::kinds_of_build()).value();
    class_ = class_model(base_).value();
    class_plan_ = plan::Plan::make(class_, golden::kinds_of_build(), layout_).value();
    class_sites_ = SitePlan::make(*class_plan_, golden::kinds_of_build()).value();
  }
  void add(std::size_t file, const std::string& name, Shape shape, float first) {
    auto values = numbers(shape, first);
    files_[file][name] = {std::move(shape), std::move(values)};
  }
  Result<MegatronAdapter> read() {
    for (std::size_t f = 0; f < plan_->files().size(); ++f) {
      write_file(folder_ / plan_->files()[f].name, files_[f]);
    }
    return open_megatron_adapter(folder_, *sites_, {}, {layout_, 8.0});
  }
  /// "code: message" of the only fault, "" without one.
  std::string fault() {
    const auto adapter = read();
    if (!adapter) {
      return adapter.error().message;
    }
    std::string out;
    for (const AdapterFault& one : adapter->faults) {
      out += std::string(info(one.code).name) + " ";
    }
    return out;
  }

  support::TempFolder temp_;
  fs::path folder_ = temp_.path();
  checkpoint::HfModel base_;
  parallel::Layout layout_;
  std::optional<plan::Plan> plan_;
  std::optional<SitePlan> sites_;
  model::Model class_;
  std::optional<plan::Plan> class_plan_;
  std::optional<SitePlan> class_sites_;
  std::map<std::size_t, Values> files_;
};

/// D-09: upstream raises, or writes E tensors of one name.
TEST_F(MegatronForms, AFactorThatAllExpertsShareIsRepeatedInThePackedPair) {
  parallel::Layout layout;
  layout.ep = 2;
  open("qwen3_5_moe_packed", layout);
  const std::int64_t hidden = base_.model.geometry.at("hidden_size");
  const std::int64_t ffn = base_.model.geometry.at("moe_intermediate_size");
  const std::string fc1 = "decoder.layers.0.mlp.experts.linear_fc1.adapter.";
  for (std::size_t f = 0; f < 2; ++f) {
    add(f, fc1 + "linear_in.weight", {2, hidden}, 1);  // shared
    add(f, fc1 + "linear_out.weight", {4, 2 * ffn, 2}, 10 + static_cast<float>(f));
  }
  const auto megatron = read().value();
  EXPECT_TRUE(megatron.faults.empty());
  const auto files = plan_to_hf(megatron, *sites_, *class_sites_, base_).value();
  const auto adapter = adapter_in_memory(files, base_, golden::kinds_of_build()).value();
  EXPECT_TRUE(adapter.faults.empty());
  ASSERT_EQ(adapter.pairs.size(), 8u);
  for (const AdapterPair& pair : adapter.pairs) {
    EXPECT_EQ(golden::at(pair.a, 1, 0), 1 + static_cast<double>(hidden % 97) / 64);
    const double second_rank = pair.expert < 4 ? 10 : 11;
    const std::int64_t place = (pair.expert % 4) * 2 * ffn * 2;  // of element [0, 0]: gate row 0
    EXPECT_EQ(golden::at(pair.b, 0, 0), second_rank + static_cast<double>(place % 97) / 64);
  }
  EXPECT_EQ(files.weights.tensors.size(), 2u);
  EXPECT_EQ(files.config.target_parameters,
            std::vector<std::string>{"model.layers.0.mlp.experts.gate_up_proj"});
}

TEST_F(MegatronForms, ASharedFactorUnderEtpIsRefused) {
  parallel::Layout layout;
  layout.tp = 2;
  layout.etp = 2;
  open("qwen3_5_moe_packed", layout);
  const std::string fc1 = "decoder.layers.0.mlp.experts.linear_fc1.adapter.";
  for (std::size_t f = 0; f < 2; ++f) {
    add(f, fc1 + "linear_in.weight", {1, 24}, 1);
    add(f, fc1 + "linear_out.weight", {8, 32, 2}, 10);
  }
  EXPECT_EQ(fault(), "AdapterNoForm ");
}

/// D-13, TV-16: the released library builds H * d rows.
TEST_F(MegatronForms, ACanonicalQueryNeedsTheRowsOfItsGate) {
  open("qwen3_5_dense", {});
  const auto site = std::find_if(sites_->sites().begin(), sites_->sites().end(),
                                 [](const Site& one) { return one.keys.contains("adapter_q"); });
  ASSERT_NE(site, sites_->sites().end());
  const std::int64_t rows = site->rows_of(0);
  const std::string name = site->module + ".adapter.adapter_q.";
  add(0, name + "linear_in.weight", {2, site->in}, 1);
  add(0, name + "linear_out.weight", {rows / 2, 2}, 1);
  EXPECT_EQ(fault(), "AdapterShape ");
  add(0, name + "linear_out.weight", {rows, 2}, 1);
  EXPECT_EQ(fault(), "");
}

/// D-12, TV-15: the released library merges the adapter of gate into up, too.
TEST_F(MegatronForms, AKeyThatIsAbsentIsADeltaOfZero) {
  open("llama", {});
  const std::int64_t hidden = base_.model.geometry.at("hidden_size");
  const std::int64_t ffn = base_.model.geometry.at("intermediate_size");
  const std::string gate = "decoder.layers.0.mlp.linear_fc1.adapter.adapter_gate.";
  add(0, gate + "linear_in.weight", {1, hidden}, 1);
  add(0, gate + "linear_out.weight", {ffn, 1}, 2);
  const auto megatron = read().value();
  ASSERT_TRUE(megatron.faults.empty()) << megatron.faults[0].message;
  const auto files = plan_to_hf(megatron, *sites_, *class_sites_, base_).value();
  const auto adapter = adapter_in_memory(files, base_, golden::kinds_of_build()).value();
  ASSERT_EQ(adapter.pairs.size(), 1u);
  EXPECT_EQ(adapter.pairs[0].base, "model.layers.0.mlp.gate_proj.weight");
  EXPECT_EQ(adapter.pairs[0].b.rows, ffn);
  EXPECT_EQ(files.config.target_modules.names,
            std::vector<std::string>{"model.layers.0.mlp.gate_proj"});
}

/// q of the fused pair and q of its own would be added twice.
TEST_F(MegatronForms, AnAdapterOfTheLayerAndOneOfItsProjectionAreTwo) {
  open("llama", {});
  const std::int64_t hidden = base_.model.geometry.at("hidden_size");
  const std::int64_t ffn = base_.model.geometry.at("intermediate_size");
  const std::string fc1 = "decoder.layers.0.mlp.linear_fc1.adapter.";
  add(0, fc1 + "linear_in.weight", {2, hidden}, 1);
  add(0, fc1 + "linear_out.weight", {2 * ffn, 2}, 2);
  EXPECT_EQ(fault(), "");
  add(0, fc1 + "adapter_gate.linear_in.weight", {2, hidden}, 1);
  add(0, fc1 + "adapter_gate.linear_out.weight", {ffn, 2}, 2);
  EXPECT_EQ(fault(), "AdapterName ");
}

TEST_F(MegatronForms, FilesWithoutAParameterAreNoAdapter) {
  open("llama", {});
  const auto adapter = read();
  ASSERT_FALSE(adapter);
  EXPECT_EQ(adapter.error().code, Code::AdapterInvalid);
}

/// D-38: what was trained under ETP is not the product that the files say.
TEST_F(MegatronForms, TheForwardThatDoesNotSumOverExpertRanksIsTold) {
  const auto note = [&](std::int64_t etp, const char* layer) {
    parallel::Layout layout;
    layout.tp = 2;
    layout.etp = etp;
    files_.clear();
    open("qwen3_5_moe_packed", layout);
    const std::int64_t hidden = base_.model.geometry.at("hidden_size");
    const std::int64_t ffn = base_.model.geometry.at("moe_intermediate_size");
    const bool fc2 = std::string(layer) == "linear_fc2";
    const std::string name = fmt::format("decoder.layers.0.mlp.experts.{}.adapter.", layer);
    for (std::size_t f = 0; f < plan_->files().size(); ++f) {
      add(f, name + "linear_in.weight", fc2 ? Shape{8, 2, ffn / etp} : Shape{8, 2 / etp, hidden},
          1);
      add(f, name + "linear_out.weight", {8, (fc2 ? hidden : 2 * ffn) / etp, 2}, 10);
    }
    const auto adapter = read().value();
    EXPECT_TRUE(adapter.faults.empty()) << adapter.faults[0].message;
    return adapter.notes;
  };
  ASSERT_EQ(note(2, "linear_fc2").size(), 1u);
  EXPECT_NE(note(2, "linear_fc2")[0].find("does not sum over the ranks after A"),
            std::string::npos);
  EXPECT_TRUE(note(1, "linear_fc2").empty());
  EXPECT_TRUE(note(2, "linear_fc1").empty());
}

/// TV-09: expert 5 of 8 on two ranks is the second one of rank 1; 8 experts on 3 ranks are none.
TEST_F(MegatronForms, AnExpertHasItsRankAndItsPlaceThere) {
  parallel::Layout layout;
  layout.ep = 2;
  open("qwen3_5_moe_packed", layout);
  for (const SiteShard& shard : sites_->shards()) {
    if (sites_->sites()[shard.site].expert) {
      EXPECT_EQ(shard.first_expert, plan_->files()[shard.file].key.ep == 1 ? 4 : 0);
      EXPECT_EQ(shard.experts, 4);
    }
  }
  layout.ep = 3;
  const auto uneven = plan::Plan::make(base_.model, golden::kinds_of_build(), layout);
  ASSERT_FALSE(uneven);
  EXPECT_EQ(uneven.error().code, Code::IndivisibleDim);
}

/// D-17, TV-05: rows of gate and up that the ranks do not divide are no halves.
TEST_F(MegatronForms, RowsOfGateAndUpThatDoNotDivideAreRefused) {
  open("qwen3_5_moe_packed", {});
  parallel::Layout layout;
  layout.tp = 3;
  layout.etp = 3;
  const auto uneven = plan::Plan::make(base_.model, golden::kinds_of_build(), layout);
  ASSERT_FALSE(uneven);
  EXPECT_EQ(uneven.error().code, Code::IndivisibleDim);
}

TEST_F(MegatronForms, AKeyOfNoProjectionIsRefused) {
  open("llama", {});
  add(0, "decoder.layers.0.mlp.linear_fc1.adapter.adapter_q.linear_in.weight", {2, 24}, 1);
  EXPECT_EQ(fault(), "AdapterName ");
}

/// D-16: the norm of the local columns makes magnitudes that differ between the ranks.
TEST_F(MegatronForms, MagnitudesOfARowParallelLayerMustBeEqual) {
  parallel::Layout layout;
  layout.tp = 2;
  open("llama", layout);
  const std::int64_t hidden = base_.model.geometry.at("hidden_size");
  const std::int64_t in = base_.model.geometry.at("intermediate_size");
  const std::string fc2 = "decoder.layers.0.mlp.linear_fc2.adapter.";
  for (std::size_t f = 0; f < 2; ++f) {
    add(f, fc2 + "linear_in.weight", {2, in / 2}, 1);
    add(f, fc2 + "linear_out.weight", {hidden / 2, 2}, 1);
    add(f, fc2 + "weight_magnitude", {hidden}, 1);
  }
  EXPECT_EQ(fault(), "");
  add(1, fc2 + "weight_magnitude", {hidden}, 2);
  EXPECT_EQ(fault(), "AdapterReplicas ");
}

TEST_F(MegatronForms, AParameterOfTheBaseIsNoAdapter) {
  open("llama", {});
  add(0, "decoder.layers.0.mlp.linear_fc1.to_wrap.weight", {72, 24}, 1);
  EXPECT_EQ(fault(), "AdapterName ");
}

TEST_F(MegatronForms, OneOfTwoFactorsIsNotEnough) {
  open("llama", {});
  add(0, "decoder.layers.0.mlp.linear_fc1.adapter.linear_in.weight", {2, 24}, 1);
  EXPECT_EQ(fault(), "AdapterPairBroken ");
}

/// A replicated base whose adapter is a plain nn.Linear: nothing is cut.
TEST_F(MegatronForms, APlainLinearLayerIsWholeOnEveryRank) {
  parallel::Layout layout;
  layout.tp = 2;
  open("qwen3_moe", layout);
  const std::int64_t hidden = base_.model.geometry.at("hidden_size");
  const std::int64_t experts = base_.model.geometry.at("num_experts");
  const std::string router = "decoder.layers.0.mlp.router.adapter.";
  for (std::size_t f = 0; f < plan_->files().size(); ++f) {
    add(f, router + "linear_in.weight", {4, hidden}, 1);
    add(f, router + "linear_out.weight", {experts, 4}, 5);
  }
  const auto megatron = read().value();
  ASSERT_TRUE(megatron.faults.empty()) << megatron.faults[0].message;
  EXPECT_TRUE(megatron.modules.at(0).whole);
  const auto files = plan_to_hf(megatron, *sites_, *class_sites_, base_).value();
  const auto adapter = adapter_in_memory(files, base_, golden::kinds_of_build()).value();
  ASSERT_EQ(adapter.pairs.size(), 1u);
  EXPECT_EQ(adapter.pairs[0].base, "model.layers.0.mlp.gate.weight");
  EXPECT_EQ(golden::at(adapter.pairs[0].b, 1, 0), 5 + 4.0 / 64);
  EXPECT_EQ(files.config.target_parameters,
            std::vector<std::string>{"model.layers.0.mlp.gate.weight"});
}

/// L1 to L3: r % T, out % T.
TEST_F(MegatronForms, SizesThatDoNotDivideNameTheLayer) {
  parallel::Layout layout;
  layout.tp = 2;
  open("llama", layout);
  const auto site = std::find_if(sites_->sites().begin(), sites_->sites().end(),
                                 [](const Site& one) { return one.cut == BaseCut::Rows; });
  const auto shapes = local_shapes(*site, adapter_cut(*site, 2), 3);
  ASSERT_FALSE(shapes);
  EXPECT_EQ(shapes.error().code, Code::IndivisibleDim);
  EXPECT_EQ(
      shapes.error().message,
      fmt::format("the adapter of {} cannot be cut: rank 3 does not divide by 2", site->module));
}

}  // namespace
}  // namespace bv::lora
