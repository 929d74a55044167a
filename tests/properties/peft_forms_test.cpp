// Adapters that PEFT writes and loads, and that need more than pairs on linear layers: the output
// layer of a tied base, biases for layers without one, DoRA on an embedding.

#include <gtest/gtest.h>

#include <numeric>

#include "core/lora/idle_entries.hpp"
#include "core/lora/to_megatron.hpp"
#include "core/lora/wrapped.hpp"
#include "core/merge/merge.hpp"
#include "core/merge/merge_plan.hpp"
#include "properties/claims/merged.hpp"
#include "tests/properties/edited_adapter.hpp"
#include "tests/support/files.hpp"

namespace bv::lora {
namespace {

namespace fs = std::filesystem;
using support::TempFolder;

const std::string kEmbedding = "model.embed_tokens.weight";
const std::string kHead = "lm_head.weight";

/// Small numbers, none of them zero.
EditedAdapter::Stored small(Shape shape) {
  EditedAdapter::Stored out{std::move(shape), {}, DType::F32};
  const std::int64_t count = element_count(out.shape).value();
  out.bytes.resize(static_cast<std::size_t>(count) * sizeof(float));
  auto* values = reinterpret_cast<float*>(out.bytes.data());
  for (std::int64_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(i % 7 - 3 + (i % 7 == 3 ? 1 : 0)) * 0.03125F;
  }
  return out;
}

EditedAdapter::Stored of_base(const EditedAdapter& edited, const std::string& tensor) {
  const auto& stored = edited.base.checkpoint->tensors().find(tensor)->second;
  const auto bytes = edited.base.checkpoint->bytes(stored);
  return {stored.spec.shape, {bytes.begin(), bytes.end()}, stored.spec.dtype};
}

/// Only keys with `part`.
void keep(EditedAdapter& edited, const std::string& part) {
  std::erase_if(edited.tensors,
                [&](const auto& one) { return one.first.find(part) == std::string::npos; });
}

/// An adapter on the output layer of a base that has none of its own, as PEFT 0.21.2 writes it.
EditedAdapter on_tied_head() {
  EditedAdapter out("tied_embed");
  keep(out, "self_attn");
  const auto& embedding = out.base.headers.at(kEmbedding).shape;
  out.tensors["lm_head.base_layer.weight"] = of_base(out, kEmbedding);
  out.tensors["lm_head.lora_A.weight"] = small({out.config.r, embedding[1]});
  out.tensors["lm_head.lora_B.weight"] = small({embedding[0], out.config.r});
  std::erase(out.config.target_modules.names, "embed_tokens");
  out.config.target_modules.names.push_back("lm_head");
  return out;
}

Result<MergeReport> merge(const EditedAdapter& edited, Adapter& adapter, const fs::path& out,
                          bool untie) {
  adapter.folder = golden::kGolden / "peft";
  MergeOptions options;
  options.untie = untie;
  return merge_model(edited.base, adapter, out, options);
}

std::vector<double> values(const io::Checkpoint& file, const std::string& tensor) {
  const auto at = file.tensors().find(tensor);
  EXPECT_NE(at, file.tensors().end()) << tensor;
  return at == file.tensors().end() ? std::vector<double>()
                                    : golden::values_of(at->second.spec, file.bytes(at->second));
}

/// One rounding to BF16 apart.
void expect_near(const std::vector<double>& found, const std::vector<double>& wanted) {
  ASSERT_EQ(found.size(), wanted.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_NEAR(found[i], wanted[i], std::abs(wanted[i]) * 0x1p-8 + 0x1p-20) << i;
  }
}

Codes judged_merge(const EditedAdapter& edited, const Adapter& adapter, const fs::path& merged) {
  const auto file = io::Checkpoint::open(merged).value();
  return codes_of(
      claims::judge_merged(edited.base, adapter, file, edited.base.model.tied, 1, nullptr)
          .value()
          .verdicts);
}

Error to_megatron(const EditedAdapter& edited, const Adapter& adapter) {
  const auto plan = plan::Plan::make(edited.base.model, golden::kinds_of_build(),
                                     plan::with_padding(edited.base.model, parallel::Layout{}))
                        .value();
  const auto sites = SitePlan::make(plan, golden::kinds_of_build()).value();
  auto out = plan_to_megatron(adapter, sites, {});
  EXPECT_FALSE(out);
  return out ? Error{} : std::move(out).error();
}

TEST(PeftForms, TheOutputLayerOfATiedBaseIsAModuleOfItsClass) {
  const EditedAdapter edited = on_tied_head();
  Adapter adapter = edited.read();
  ASSERT_TRUE(adapter.faults.empty()) << adapter.faults.front().message;
  EXPECT_EQ(idle_entries(adapter, edited.base).value(), std::vector<std::string>());
  const auto gaps = target_gaps(adapter, edited.base).value();
  EXPECT_EQ(gaps.not_loaded, std::vector<std::string>());
  EXPECT_EQ(gaps.fresh, std::vector<std::string>());
  EXPECT_EQ(to_megatron(edited, adapter).code, Code::AdapterNoForm);

  const TempFolder temp;
  const auto refused = merge(edited, adapter, temp.path() / "no", false);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message,
            "the adapter changes lm_head.weight, and model.embed_tokens.weight is the same tensor");
  const auto done = merge(edited, adapter, temp.path() / "out", true);
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(golden::json_of(temp.path() / "out/config.json").at("tie_word_embeddings"), false);
  const auto merged = io::Checkpoint::open(temp.path() / "out").value();
  EXPECT_EQ(values(merged, kEmbedding), values(*edited.base.checkpoint, kEmbedding));
  // The formula: the pair on the embedding's values.
  Adapter moved = edited.read();
  std::erase_if(moved.pairs, [](const AdapterPair& pair) { return pair.base != kHead; });
  ASSERT_EQ(moved.pairs.size(), 1u);
  moved.pairs[0].base = kEmbedding;
  expect_near(values(merged, kHead), golden::merged(moved, edited.base).at(kEmbedding));
  EXPECT_EQ(judged_merge(edited, adapter, temp.path() / "out"), Codes{});
  // What PEFT's own merge makes: one tensor, changed for the embedding too.
  EXPECT_EQ(judged_merge(edited, adapter, golden::kGolden / "peft/tied_embed/base"),
            (Codes{"MergeOutsideBound", "MergeTied"}));
}

TEST(PeftForms, ACopyThatIsNotTheTiedEmbeddingIsRefuted) {
  EditedAdapter edited = on_tied_head();
  edited.tensors.at("lm_head.base_layer.weight").bytes[9] ^= std::byte{1};
  EXPECT_EQ(seen(edited, "tied_embed"), Codes{"AdapterShape"});
}

TEST(PeftForms, ATrainedOutputLayerOfATiedBaseIsATensorOfItsOwn) {
  EditedAdapter edited("tied_embed");
  keep(edited, "self_attn");
  std::erase(edited.config.target_modules.names, "embed_tokens");
  edited.config.modules_to_save = {"lm_head"};
  edited.tensors[kHead] = small(edited.base.headers.at(kEmbedding).shape);
  Adapter adapter = edited.read();
  ASSERT_TRUE(adapter.faults.empty()) << adapter.faults.front().message;
  EXPECT_EQ(idle_entries(adapter, edited.base).value(), std::vector<std::string>());
  const TempFolder temp;
  EXPECT_EQ(merge(edited, adapter, temp.path() / "no", false).error().code, Code::MergeTied);
  ASSERT_TRUE(merge(edited, adapter, temp.path() / "out", true));
  const auto merged = io::Checkpoint::open(temp.path() / "out").value();
  EXPECT_EQ(values(merged, kEmbedding), values(*edited.base.checkpoint, kEmbedding));
  const EditedAdapter::Stored trained = edited.tensors.at(kHead);
  expect_near(values(merged, kHead),
              golden::values_of({kHead, trained.dtype, trained.shape}, trained.bytes));
  EXPECT_EQ(judged_merge(edited, adapter, temp.path() / "out"), Codes{});

  edited.tensors.erase(kHead);  // and the config says it was trained
  EXPECT_EQ(seen(edited, "tied_embed"), Codes{"AdapterPairBroken"});
}

TEST(PeftForms, BothOfATieAreOneTensorOnlyWhenTheyAreTrainedToTheSame) {
  EditedAdapter edited("tied_embed");
  keep(edited, "self_attn");
  std::erase(edited.config.target_modules.names, "embed_tokens");
  edited.config.modules_to_save = {"embed_tokens", "lm_head"};
  edited.tensors[kHead] = small(edited.base.headers.at(kEmbedding).shape);
  edited.tensors[kEmbedding] = edited.tensors.at(kHead);
  const TempFolder temp;
  Adapter same = edited.read();
  ASSERT_TRUE(same.faults.empty()) << same.faults.front().message;
  ASSERT_TRUE(merge(edited, same, temp.path() / "same", false));
  EXPECT_FALSE(io::Checkpoint::open(temp.path() / "same").value().tensors().contains(kHead));
  EXPECT_EQ(judged_merge(edited, same, temp.path() / "same"), Codes{});

  edited.tensors.at(kHead).row(3)[1] += 1;
  Adapter other = edited.read();
  EXPECT_EQ(merge(edited, other, temp.path() / "no", false).error().code, Code::MergeTied);
  ASSERT_TRUE(merge(edited, other, temp.path() / "other", true));
  EXPECT_EQ(judged_merge(edited, other, temp.path() / "other"), Codes{});
  EXPECT_EQ(judged_merge(edited, other, temp.path() / "same"), Codes{"MergeTied"});
}

TEST(PeftForms, ABiasForALayerWithoutOneIsAnAdapterAndNoMerge) {
  EditedAdapter edited("llama_all");
  edited.config.lora_bias = true;
  const std::string layer = "model.layers.0.self_attn.k_proj";
  const std::int64_t rows = edited.base.headers.at(layer + ".weight").shape[0];
  edited.tensors[layer + ".lora_B.bias"] = small({rows});
  Adapter adapter = edited.read();
  ASSERT_TRUE(adapter.faults.empty()) << adapter.faults.front().message;
  ASSERT_EQ(adapter.biases.size(), 1u);
  EXPECT_FALSE(adapter.biases[0].of_layer);
  EXPECT_EQ(idle_entries(adapter, edited.base).value(), std::vector<std::string>());
  const Error none = to_megatron(edited, adapter);
  EXPECT_EQ(none.code, Code::AdapterNoForm);
  EXPECT_EQ(none.help.find("merge the adapter"), std::string::npos) << none.help;

  const TempFolder temp;
  const auto refused = merge(edited, adapter, temp.path() / "no", false);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::AdapterNoForm);
  EXPECT_EQ(refused.error().message,
            "the adapter adds a bias to " + layer + ", and the base has no such tensor");
  // The merge of all but the biases is not what the adapter computes.
  EditedAdapter without("llama_all");
  Adapter pairs = without.read();
  ASSERT_TRUE(merge(without, pairs, temp.path() / "pairs", false));
  EXPECT_EQ(judged_merge(edited, adapter, temp.path() / "pairs"), Codes{"AdapterNoForm"});

  edited.tensors.at(layer + ".lora_B.bias") = small({rows + 1});
  EXPECT_EQ(seen(edited, "llama_all"), Codes{"AdapterShape"});
  edited.tensors.at(layer + ".lora_B.bias") = small({rows});
  edited.config.lora_bias = false;
  EXPECT_EQ(seen(edited, "llama_all"), Codes{"AdapterName"});
}

/// bias "lora_only" and lora_bias: PEFT writes both, and adds lora_B.bias to the trained bias.
TEST(PeftForms, ABiasThatWasTrainedTakesTheOneOfLoraB) {
  EditedAdapter edited("lora_bias_true");
  edited.config.bias = Bias::LoraOnly;
  std::vector<std::string> layers;
  for (const auto& [key, one] : edited.tensors) {
    if (key.ends_with(".lora_B.bias")) {
      layers.push_back(key.substr(0, key.rfind(".lora_B")));
    }
  }
  ASSERT_FALSE(layers.empty());
  for (const std::string& layer : layers) {
    edited.tensors[layer + ".base_layer.bias"] =
        small(edited.base.headers.at(layer + ".bias").shape);
  }
  Adapter adapter = edited.read();
  ASSERT_TRUE(adapter.faults.empty()) << adapter.faults.front().message;
  EXPECT_EQ(adapter.biases.size(), layers.size());
  EXPECT_EQ(adapter.replacements.size(), layers.size());
  const TempFolder temp;
  ASSERT_TRUE(merge(edited, adapter, temp.path() / "out", false));
  const auto merged = io::Checkpoint::open(temp.path() / "out").value();
  for (const BiasDelta& bias : adapter.biases) {
    const auto trained = small(edited.base.headers.at(bias.base).shape);
    auto wanted = golden::values_of({bias.base, trained.dtype, trained.shape}, trained.bytes);
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      wanted[i] += scale64(bias.scale, bias.alpha, bias.rank) *
                   golden::at(bias.delta, static_cast<std::int64_t>(i), 0);
    }
    expect_near(values(merged, bias.base), wanted);
  }
  EXPECT_EQ(judged_merge(edited, adapter, temp.path() / "out"), Codes{});
  // A merge that left lora_B.bias out.
  EditedAdapter without("lora_bias_true");
  without.config.bias = Bias::LoraOnly;
  std::erase_if(without.tensors,
                [](const auto& one) { return one.first.ends_with(".lora_B.bias"); });
  for (const std::string& layer : layers) {
    without.tensors[layer + ".base_layer.bias"] =
        small(without.base.headers.at(layer + ".bias").shape);
  }
  Adapter less = without.read();
  ASSERT_TRUE(merge(without, less, temp.path() / "less", false));
  EXPECT_EQ(judged_merge(without, adapter, temp.path() / "less"), Codes{"MergeOutsideBound"});
}

/// The magnitudes of an embedding are those of its columns: [hidden].
TEST(PeftForms, DoraOnAnEmbeddingScalesItsColumns) {
  EditedAdapter edited("tied_embed");
  keep(edited, "embed_tokens");
  edited.config.use_dora = true;
  edited.config.target_modules.names = {"embed_tokens"};
  const Shape shape = edited.base.headers.at(kEmbedding).shape;
  edited.tensors["model.embed_tokens.lora_magnitude_vector"] = small({shape[1]});
  Adapter adapter = edited.read();
  ASSERT_TRUE(adapter.faults.empty()) << adapter.faults.front().message;
  ASSERT_EQ(adapter.pairs.size(), 1u);
  ASSERT_TRUE(adapter.pairs[0].magnitude);
  EXPECT_EQ(to_megatron(edited, adapter).code, Code::AdapterNoForm);
  const TempFolder temp;
  const auto done = merge(edited, adapter, temp.path() / "out", true);
  ASSERT_TRUE(done) << done.error().message;
  const auto merged = io::Checkpoint::open(temp.path() / "out").value();
  expect_near(values(merged, kEmbedding), golden::merged(adapter, edited.base).at(kEmbedding));
  EXPECT_EQ(judged_merge(edited, adapter, temp.path() / "out"), Codes{});
  // Without the magnitudes, it is another merge.
  EditedAdapter plain("tied_embed");
  keep(plain, "embed_tokens");
  plain.config.target_modules.names = {"embed_tokens"};
  Adapter pairs = plain.read();
  ASSERT_TRUE(merge(plain, pairs, temp.path() / "plain", true));
  EXPECT_EQ(judged_merge(edited, adapter, temp.path() / "plain"), Codes{"MergeOutsideBound"});

  edited.tensors.erase("model.embed_tokens.lora_magnitude_vector");
  EXPECT_EQ(seen(edited, "tied_embed"), Codes{"AdapterPairBroken"});
  edited.tensors["model.embed_tokens.lora_magnitude_vector"] = small({shape[0]});
  EXPECT_EQ(seen(edited, "tied_embed"), Codes{"AdapterShape"});
}

/// However the rows are cut, with outputs that are columns: the norms are those of all rows.
TEST(PeftForms, DoraOnColumnsDoesNotDependOnTheCut) {
  EditedAdapter edited("tied_embed");
  keep(edited, "embed_tokens");
  edited.config.use_dora = true;
  edited.tensors["model.embed_tokens.lora_magnitude_vector"] =
      small({edited.base.headers.at(kEmbedding).shape[1]});
  const Adapter adapter = edited.read();
  const Edits edits = edits_of(adapter);
  const auto& stored = edited.base.checkpoint->tensors().find(kEmbedding)->second;
  const auto base = edited.base.checkpoint->bytes(stored);
  const auto made = [&](std::int64_t rows_at_once) {
    auto merge =
        TensorMerge::make(stored.spec, edits.at(kEmbedding), best_merge_isa(), base).value();
    std::vector<std::byte> out(base.size());
    const auto step = static_cast<std::size_t>(rows_at_once * merge.granule() * 2);
    for (std::size_t at = 0; at < out.size(); at += step) {
      const std::size_t size = std::min(step, out.size() - at);
      EXPECT_TRUE(merge.apply(static_cast<std::int64_t>(at / 2), base.subspan(at, size),
                              std::span(out).subspan(at, size)));
    }
    return out;
  };
  const auto whole = made(stored.spec.shape[0]);
  for (const std::int64_t rows : {1, 5, 64, 100}) {
    EXPECT_EQ(made(rows), whole) << rows;
  }
}

/// PEFT writes names of parameters that the files hold in parts.
TEST(PeftForms, NoEntryOfAConfigThatPeftWroteIsCalledIdle) {
  int adapters = 0;
  for (const auto& entry : fs::directory_iterator(golden::kGolden / "peft")) {
    const std::string name = entry.path().filename().string();
    if (!fs::exists(entry.path() / "adapter") || name == "gpt2_conv1d") {  // no family has GPT-2
      continue;
    }
    const EditedAdapter edited(name);
    EXPECT_EQ(idle_entries(edited.read(), edited.base).value(), std::vector<std::string>()) << name;
    ++adapters;
  }
  EXPECT_GT(adapters, 10);
  EditedAdapter wrong("qwen3_moe_named_targets");
  wrong.config.target_parameters.push_back("experts.gate_up_porj");
  EXPECT_EQ(idle_entries(wrong.read(), wrong.base).value().size(), 1u);
}

}  // namespace
}  // namespace bv::lora
