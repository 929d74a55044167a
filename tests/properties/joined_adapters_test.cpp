// Layers that are one in transformers' class and several projections in Megatron's canonical LoRA,
// or several tensors in the files: every such layer of every family, there and back.

#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "core/base/arith.hpp"
#include "core/lora/adapter_keys.hpp"
#include "core/lora/class_names.hpp"
#include "core/lora/convert_adapter.hpp"
#include "core/lora/megatron_adapter.hpp"
#include "core/lora/to_hf.hpp"
#include "properties/attacks/fuzz/adapters.hpp"
#include "tests/support/files.hpp"

namespace bv::fuzz {
namespace {

namespace fs = std::filesystem;
using Mode = std::pair<bool, bool>;  // DoRA, canonical

constexpr std::int64_t kRank = 2;

/// Numbers that tell their place; products of them are exact.
FactorValues numbers(Shape shape, int first) {
  FactorValues out{std::move(shape), {}};
  out.values.resize(static_cast<std::size_t>(element_count(out.shape).value()));
  for (std::size_t i = 0; i < out.values.size(); ++i) {
    out.values[i] = static_cast<float>(first + static_cast<int>(i % 53)) / 8;
  }
  return out;
}

/// A model with its layers on one layout, in the form of its files and of its class.
struct Layers {
  Layers(const Tools& tools, const std::string& sample, const std::string& layout_id)
      : kinds(tools.library.kinds), layout(mutants::padded_layout(layout_id).value()) {
    const auto prepared = prepare(tools, World{sample, {}, layout}).value();
    base = base_of(prepared).value();
    plan = plan::Plan::make(base.model, kinds, layout).value();
    sites = lora::SitePlan::make(*plan, kinds).value();
    of_class = lora::class_model(base).value();
    class_plan = plan::Plan::make(of_class, kinds, layout).value();
    class_sites = lora::SitePlan::make(*class_plan, kinds).value();
  }

  /// A module of the class whose rows several keys of canonical LoRA have; "" for other layers.
  std::string module_of(const lora::Site& site) const {
    const auto& hf = of_class.mappings[site.mappings.front()].hf;
    std::map<std::string, int> keys;
    for (const auto& [key, rows] : site.keys) {
      ++keys[lora::joined_module(base.model.family.get(), lora::module_of(hf[rows.hf]))];
    }
    return keys.size() == 1 && keys.begin()->second > 1 ? keys.begin()->first : "";
  }

  /// A pair on every such module, of one scale.
  DrawnAdapter draw(bool dora) const {
    DrawnAdapter out;
    out.config.r = kRank;
    out.config.lora_alpha = 2 * kRank;
    out.config.peft_version = "0.21.2";
    out.config.use_dora = dora;
    for (const lora::Site& site : class_sites->sites()) {
      const std::string module = module_of(site);
      if (module.empty()) {
        continue;
      }
      const std::string key = std::string(lora::kPeftPrefix) + module;
      out.tensors[key + ".lora_A.weight"] = numbers({kRank, site.in}, -20);
      out.tensors[key + ".lora_B.weight"] = numbers({site.out, kRank}, -13);
      if (dora) {
        out.tensors[key + ".lora_magnitude_vector"] = numbers({site.out}, 1);
      }
      out.config.target_modules.names.push_back(module);
    }
    return out;
  }

  lora::MegatronAdapter open(const fs::path& folder) const {
    auto out =
        lora::open_megatron_adapter(folder, *sites, lora::read_record(folder).value(), {layout, {}})
            .value();
    EXPECT_TRUE(out.faults.empty()) << out.faults.front().message;
    return out;
  }
  Result<lora::Adapter> to_hf(const lora::MegatronAdapter& megatron) const {
    BV_TRY(files, lora::plan_to_hf(megatron, *sites, *class_sites, base));
    return lora::adapter_in_memory(files, base, kinds);
  }

  const kinds::Catalogue& kinds;
  parallel::Layout layout;
  checkpoint::HfModel base;
  std::optional<plan::Plan> plan;
  std::optional<lora::SitePlan> sites;
  model::Model of_class;
  std::optional<plan::Plan> class_plan;
  std::optional<lora::SitePlan> class_sites;
};

const Tools& all_tools() {
  static const Tools tools{mutants::load_library().value(), mutants::builtin_samples().value(), {}};
  return tools;
}

std::set<std::string> joined_samples() {
  std::set<std::string> out;
  for (const auto& sample : all_tools().samples) {
    const Layers layers(all_tools(), sample.name, "tp1pp1ep1etp1");
    if (!layers.draw(false).tensors.empty()) {
      out.insert(sample.name);
    }
  }
  return out;
}

/// The bytes of every tensor are those that were drawn, and nothing else came back.
void expect_same(const lora::Adapter& back, const DrawnAdapter& drawn) {
  EXPECT_EQ(back.tensors.size(), drawn.tensors.size());
  for (const auto& tensor : back.tensors) {
    const auto found = drawn.tensors.find(tensor->stored.spec.name);
    ASSERT_NE(found, drawn.tensors.end()) << tensor->stored.spec.name;
    EXPECT_EQ(tensor->stored.spec.shape, found->second.shape) << found->first;
    EXPECT_TRUE(std::ranges::equal(tensor->bytes, std::as_bytes(std::span(found->second.values))))
        << found->first;
  }
}

TEST(JoinedAdapters, PairsAndMagnitudesComeBackFromFusedAndFromCanonicalLayers) {
  const support::TempFolder temp;
  int folders = 0;
  const std::set<std::string> samples = joined_samples();
  for (const char* known : {"minimax_m3", "phi3", "glm4"}) {
    EXPECT_TRUE(samples.contains(known)) << known;
  }
  for (const std::string& sample : samples) {
    for (const char* layout : {"tp1pp1ep1etp1", "tp2pp1ep1etp1"}) {
      const Layers layers(all_tools(), sample, layout);
      for (const auto& [dora, canonical] :
           {Mode{false, false}, Mode{true, false}, Mode{false, true}, Mode{true, true}}) {
        SCOPED_TRACE(fmt::format("{} {} dora {} canonical {}", sample, layout, dora, canonical));
        const DrawnAdapter drawn = layers.draw(dora);
        const auto adapter = fitted(drawn, layers.base, layers.kinds).value();
        ASSERT_TRUE(adapter.faults.empty()) << adapter.faults.front().message;
        EXPECT_EQ(judge_adapter(adapter, layers.base, layers.kinds, layers.layout), "");
        const fs::path folder = temp.path() / std::to_string(folders++);
        lora::ConvertAdapterOptions options;
        options.canonical = canonical;
        const auto written = lora::adapter_to_megatron(adapter, *layers.sites, folder, options);
        ASSERT_TRUE(written) << written.error().message;
        const auto megatron = layers.open(folder);
        EXPECT_EQ(megatron.modules.front().key.empty(), !canonical);
        const auto back = layers.to_hf(megatron);
        ASSERT_TRUE(back) << back.error().message;
        expect_same(*back, drawn);
      }
    }
  }
}

/// The sign of the first number of a parameter.
void change_sign(const fs::path& file, const std::string& parameter) {
  const auto opened = io::Checkpoint::open(file).value();
  const auto found = opened.tensors().find(parameter);
  ASSERT_NE(found, opened.tensors().end()) << parameter;
  std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
  const auto at = static_cast<std::streamoff>(found->second.begin) + 3;
  bytes.seekg(at);
  const int old = bytes.get();
  bytes.seekp(at);
  bytes.put(static_cast<char>(old ^ 0x80));
  EXPECT_TRUE(bytes.good());
}

/// One layer of a sample, canonical on two ranks, and what its pairs make of its class module.
class CanonicalLayer {
 public:
  CanonicalLayer(const std::string& sample, bool dora) : layers_(all_tools(), sample, kLayout) {
    drawn_ = layers_.draw(dora);
    const auto adapter = fitted(drawn_, layers_.base, layers_.kinds).value();
    lora::ConvertAdapterOptions options;
    options.canonical = true;
    EXPECT_TRUE(lora::adapter_to_megatron(adapter, *layers_.sites, folder(), options));
    for (const lora::Site& site : layers_.class_sites->sites()) {
      if (layer_ == nullptr && !layers_.module_of(site).empty()) {
        layer_ = &site;
      }
    }
    key_ = layer_->keys.rbegin()->first;
  }
  fs::path folder() const { return temp_.path() / "ranks"; }
  std::string a_of_last_key() const { return lora::megatron_names(layer_->module, key_).a; }
  std::string name_of_last_key() const { return layer_->module + "." + key_; }
  std::string module() const { return layers_.module_of(*layer_); }
  lora::MegatronAdapter open() const { return layers_.open(folder()); }
  Result<lora::Adapter> to_hf(const lora::MegatronAdapter& megatron) const {
    return layers_.to_hf(megatron);
  }
  bool is_last_key(const lora::AdapterModule& module) const {
    return layers_.sites->sites()[module.site].module == layer_->module && module.key == key_;
  }
  /// Its scale is then so many times that of the others.
  lora::MegatronAdapter with_alpha_of_last_key(double times) const {
    lora::MegatronAdapter out = open();
    for (lora::AdapterModule& one : out.modules) {
      one.alpha *= is_last_key(one) ? times : 1;
    }
    return out;
  }
  bool is_row_of_last_key(std::int64_t row) const {
    std::int64_t first = 0;
    const lora::KeyRows& rows = layer_->keys.at(key_);
    for (std::size_t hf = 0; hf < rows.hf; ++hf) {
      first += layer_->rows_of(hf);
    }
    return row >= first + rows.first && row < first + rows.first + rows.rows;
  }
  const FactorValues& drawn(const std::string& factor) const {
    return drawn_.tensors.at(std::string(lora::kPeftPrefix) + module() + factor);
  }

 private:
  static constexpr const char* kLayout = "tp2pp1ep1etp1";
  support::TempFolder temp_;
  Layers layers_;
  DrawnAdapter drawn_;
  const lora::Site* layer_ = nullptr;
  std::string key_;
};

/// Values of the tensor with this key.
std::vector<float> values_of(const lora::Adapter& adapter, const std::string& key, Shape& shape) {
  for (const auto& tensor : adapter.tensors) {
    if (tensor->stored.spec.name == std::string(lora::kPeftPrefix) + key) {
      shape = tensor->stored.spec.shape;
      std::vector<float> out(tensor->bytes.size() / sizeof(float));
      std::copy(tensor->bytes.begin(), tensor->bytes.end(),
                reinterpret_cast<std::byte*>(out.data()));
      return out;
    }
  }
  ADD_FAILURE() << "no " << key;
  return {};
}

double product_at(const std::vector<float>& b, const std::vector<float>& a, std::int64_t rank,
                  std::int64_t in, std::int64_t row, std::int64_t column) {
  double out = 0;
  for (std::int64_t k = 0; k < rank; ++k) {
    out += static_cast<double>(b[static_cast<std::size_t>(row * rank + k)]) *
           static_cast<double>(a[static_cast<std::size_t>(k * in + column)]);
  }
  return out;
}

/// One pair of the sum of the ranks: each projection's rows stand beside zeros.
TEST(JoinedAdapters, ProjectionsWithAnAOfTheirOwnBecomeOnePairOfTheSumOfTheirRanks) {
  for (const char* sample : {"minimax_m3", "phi3", "glm4"}) {
    SCOPED_TRACE(sample);
    const CanonicalLayer layer(sample, false);
    change_sign(layer.folder() / "pp0_tp0_ep0_etp0.safetensors", layer.a_of_last_key());
    const auto back = layer.to_hf(layer.open());
    ASSERT_TRUE(back) << back.error().message;
    Shape shape_a;
    Shape shape_b;
    const auto a = values_of(*back, layer.module() + ".lora_A.weight", shape_a);
    const auto b = values_of(*back, layer.module() + ".lora_B.weight", shape_b);
    ASSERT_GT(shape_a[0], kRank);
    ASSERT_EQ(shape_b[1], shape_a[0]);
    const FactorValues& old_b = layer.drawn(".lora_B.weight");
    FactorValues old_a = layer.drawn(".lora_A.weight");
    FactorValues new_a = old_a;
    new_a.values.front() *= -1;
    int wrong = 0;
    for (std::int64_t row = 0; row < shape_b[0]; ++row) {
      const auto& wanted_a = layer.is_row_of_last_key(row) ? new_a.values : old_a.values;
      for (std::int64_t column = 0; column < shape_a[1]; ++column) {
        wrong += product_at(b, a, shape_a[0], shape_a[1], row, column) !=
                         product_at(old_b.values, wanted_a, kRank, shape_a[1], row, column)
                     ? 1
                     : 0;
      }
    }
    EXPECT_EQ(wrong, 0);
    for (const lora::AdapterPair& pair : back->pairs) {
      EXPECT_EQ(lora::scale64(pair.scale, pair.alpha, pair.rank()), 2.0) << pair.base;
    }
  }
}

TEST(JoinedAdapters, AProjectionWithoutAPairHasRowsOfZeros) {
  for (const char* sample : {"minimax_m3", "phi3"}) {
    SCOPED_TRACE(sample);
    const CanonicalLayer layer(sample, false);
    auto megatron = layer.open();
    std::erase_if(megatron.modules, [&](const auto& one) { return layer.is_last_key(one); });
    const auto back = layer.to_hf(megatron);
    ASSERT_TRUE(back) << back.error().message;
    Shape shape;
    const auto b = values_of(*back, layer.module() + ".lora_B.weight", shape);
    auto wanted = layer.drawn(".lora_B.weight");
    for (std::int64_t row = 0; row < wanted.shape[0]; ++row) {
      for (std::int64_t k = 0; k < kRank && layer.is_row_of_last_key(row); ++k) {
        wanted.values[static_cast<std::size_t>(row * kRank + k)] = 0;
      }
    }
    EXPECT_EQ(shape, wanted.shape);
    EXPECT_EQ(b, wanted.values);
  }
}

/// One pair has one scale: B takes in what a projection's has more, or less.
TEST(JoinedAdapters, ScalesThatDifferByAPowerOfTwoGoIntoB) {
  for (const char* sample : {"minimax_m3", "phi3", "glm4"}) {
    for (const double times : {4.0, 0.5}) {
      SCOPED_TRACE(fmt::format("{} times {}", sample, times));
      const CanonicalLayer layer(sample, false);
      const auto megatron = layer.with_alpha_of_last_key(times);
      const auto back = layer.to_hf(megatron);
      ASSERT_TRUE(back) << back.error().message;
      Shape shape;
      const auto b = values_of(*back, layer.module() + ".lora_B.weight", shape);
      auto wanted = layer.drawn(".lora_B.weight");
      for (std::int64_t row = 0; row < wanted.shape[0]; ++row) {
        for (std::int64_t k = 0; k < kRank && layer.is_row_of_last_key(row); ++k) {
          wanted.values[static_cast<std::size_t>(row * kRank + k)] *= static_cast<float>(times);
        }
      }
      EXPECT_EQ(shape, wanted.shape);
      EXPECT_EQ(b, wanted.values);
      for (const lora::AdapterPair& pair : back->pairs) {
        EXPECT_EQ(lora::scale64(pair.scale, pair.alpha, pair.rank()), 2.0) << pair.base;
      }
    }
  }
}

TEST(JoinedAdapters, WhatOnePairCannotSayIsRefusedWithItsReason) {
  for (const char* sample : {"minimax_m3", "phi3"}) {
    SCOPED_TRACE(sample);
    const CanonicalLayer with_magnitudes(sample, true);
    auto megatron = with_magnitudes.open();
    std::erase_if(megatron.modules,
                  [&](const auto& one) { return with_magnitudes.is_last_key(one); });
    const auto partly = with_magnitudes.to_hf(megatron);
    ASSERT_FALSE(partly);
    EXPECT_EQ(partly.error().code, Code::AdapterNoForm);
    EXPECT_NE(partly.error().message.find("have no magnitude"), std::string::npos);
    const CanonicalLayer scaled(sample, false);
    const auto two_scales = scaled.to_hf(scaled.with_alpha_of_last_key(3));
    ASSERT_FALSE(two_scales);
    EXPECT_NE(two_scales.error().message.find("power of two"), std::string::npos);
    EXPECT_EQ(two_scales.error().code, Code::ScaleWrong);
  }
}

}  // namespace
}  // namespace bv::fuzz
