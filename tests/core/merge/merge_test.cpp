// Whole models with adapters that PEFT wrote, merged into checkpoints.

#include "core/merge/merge.hpp"
#include "core/merge/merge_ties.hpp"

#include <unistd.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <set>

#include "core/merge/merge_tensor.hpp"
#include "tests/core/lora/golden.hpp"
#include "tests/support/files.hpp"

namespace bv::lora {
namespace {

namespace fs = std::filesystem;
const fs::path kPeftCases = golden::kGolden / "peft";

using support::TempFolder;

Adapter adapter_of(const fs::path& folder, const checkpoint::HfModel& base) {
  auto out = open_adapter(folder, base, golden::kinds_of_build());
  EXPECT_TRUE(out) << (out ? "" : out.error().message);
  return std::move(*out);
}

std::vector<std::byte> bytes_of(const io::Checkpoint& file, const std::string& name) {
  const auto at = file.tensors().find(name);
  if (at == file.tensors().end()) {
    return {};
  }
  const auto all = file.bytes(at->second);
  return {all.begin(), all.end()};
}

nlohmann::json config_of(const fs::path& folder) {
  return golden::json_of(folder / "config.json");
}

TEST(Merge, EveryAdapterOfPeftGivesItsMergedModel) {
  const TempFolder temp;
  std::int64_t cases = 0;
  std::int64_t equal = 0;
  for (const auto& entry : fs::directory_iterator(kPeftCases)) {
    const fs::path folder = entry.path();
    const std::string name = folder.filename().string();
    if (!fs::exists(folder / "adapter") || name == "gpt2_conv1d") {
      continue;  // no family has GPT-2: its tensors are merged below
    }
    SCOPED_TRACE(name);
    const auto base = golden::open_base(folder / "base");
    const Adapter adapter = adapter_of(folder / "adapter", base);
    MergeOptions options;
    options.untie = true;
    const auto report = merge_model(base, adapter, temp.path() / name, options);
    ASSERT_TRUE(report) << report.error().message;
    ++cases;
    const auto merged = io::Checkpoint::open(temp.path() / name);
    ASSERT_TRUE(merged);
    const auto exact = golden::merged(adapter, base);
    const auto edits = edits_of(adapter);
    for (const auto& [tensor, stored] : base.checkpoint->tensors()) {
      if (!edits.contains(tensor)) {
        EXPECT_EQ(bytes_of(*merged, tensor), bytes_of(*base.checkpoint, tensor)) << tensor;
      }
    }
    for (const auto& [tensor, values] : exact) {
      const auto& stored = merged->tensors().find(tensor)->second;
      const auto found = golden::values_of(stored.spec, merged->bytes(stored));
      ASSERT_EQ(found.size(), values.size());
      for (std::size_t i = 0; i < values.size(); ++i) {
        EXPECT_NEAR(found[i], values[i], std::abs(values[i]) * 0x1.02p-8 + 0x1p-20) << tensor;
      }
    }
    if (const fs::path file = folder / "merged_bf16.safetensors"; fs::exists(file)) {
      const auto theirs = io::Checkpoint::open(file);
      for (const auto& [tensor, stored] : theirs->tensors()) {
        // Packed experts, parameters and embeddings are rounded twice there.
        const bool once = tensor.find("experts") == std::string::npos &&
                          tensor.find("mlp.gate.") == std::string::npos &&
                          tensor.find("embed_tokens") == std::string::npos;
        const auto edit = edits.find(tensor);
        ASSERT_NE(edit, edits.end()) << tensor;
        if (once || edit->second.replacement != nullptr) {
          EXPECT_EQ(bytes_of(*merged, tensor), bytes_of(*theirs, tensor)) << tensor;
          ++equal;
        }
      }
    }
  }
  EXPECT_GE(cases, 18);
  EXPECT_GE(equal, 120);
}

TEST(Merge, ConvolutionsThatStoreInputsFirstAreMergedTransposed) {
  const fs::path folder = kPeftCases / "gpt2_conv1d";
  const auto base = golden::open_base(folder / "base");
  const Adapter adapter = adapter_of(folder / "adapter", base);
  const auto theirs = io::Checkpoint::open(folder / "merged_bf16.safetensors");
  ASSERT_TRUE(theirs);
  for (const auto& [tensor, edits] : edits_of(adapter)) {
    const auto& stored = base.checkpoint->tensors().find(tensor)->second;
    auto merge =
        TensorMerge::make(stored.spec, edits, best_merge_isa(), base.checkpoint->bytes(stored));
    ASSERT_TRUE(merge);
    std::vector<std::byte> out(tensor_bytes(stored.spec));
    ASSERT_TRUE(merge->apply(0, base.checkpoint->bytes(stored), out));
    EXPECT_EQ(out, bytes_of(*theirs, tensor)) << tensor;
  }
}

TEST(Merge, BytesDoNotDependOnThreadsOrWindows) {
  const TempFolder temp;
  for (const char* name : {"qwen35_moe", "gptoss_transposed", "lora_bias_true"}) {
    const auto base = golden::open_base(kPeftCases / name / "base");
    const Adapter adapter = adapter_of(kPeftCases / name / "adapter", base);
    MergeOptions one;
    one.jobs = 1;
    MergeOptions many;
    many.jobs = 4;
    many.windows = {512, 256, 1024};
    ASSERT_TRUE(merge_model(base, adapter, temp.path() / (std::string(name) + "-one"), one));
    ASSERT_TRUE(merge_model(base, adapter, temp.path() / (std::string(name) + "-many"), many));
    const auto first = io::Checkpoint::open(temp.path() / (std::string(name) + "-one"));
    const auto second = io::Checkpoint::open(temp.path() / (std::string(name) + "-many"));
    ASSERT_TRUE(first && second);
    for (const auto& [tensor, stored] : first->tensors()) {
      EXPECT_EQ(bytes_of(*first, tensor), bytes_of(*second, tensor)) << name << " " << tensor;
    }
  }
}

TEST(Merge, ATiedEmbeddingIsMergedOnlyWhenItIsUntied) {
  const TempFolder temp;
  const auto base = golden::open_base(kPeftCases / "tied_embed/base");
  const Adapter adapter = adapter_of(kPeftCases / "tied_embed/adapter", base);
  const auto refused = merge_model(base, adapter, temp.path() / "out", {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::MergeTied);
  EXPECT_EQ(refused.error().message,
            "the adapter changes model.embed_tokens.weight, and lm_head.weight is the same tensor");
  EXPECT_FALSE(fs::exists(temp.path() / "out"));

  MergeOptions untie;
  untie.untie = true;
  ASSERT_TRUE(merge_model(base, adapter, temp.path() / "out", untie));
  const auto merged = io::Checkpoint::open(temp.path() / "out");
  ASSERT_TRUE(merged);
  const auto embedding = bytes_of(*base.checkpoint, "model.embed_tokens.weight");
  EXPECT_EQ(bytes_of(*merged, "lm_head.weight"), embedding);
  EXPECT_NE(bytes_of(*merged, "model.embed_tokens.weight"), embedding);
  EXPECT_EQ(config_of(temp.path() / "out").at("tie_word_embeddings"), false);
}

/// No family says what is tied to what: a change of the vocabulary is refused.
TEST(Merge, ATensorOfTheVocabularyOfAnUnknownFamilyIsMergedOnlyWhenNothingIsTied) {
  auto base = golden::open_base(kPeftCases / "gpt2_conv1d/base");
  ASSERT_EQ(base.model.family, nullptr);
  base.config_text = R"({"vocab_size": 131})";
  base.headers["transformer.wte.weight"].shape = {131, 8};
  const auto change = [&](const char* tensor) {
    return check_unknown_ties(base, {{tensor, TensorEdits{}}});
  };
  ASSERT_FALSE(change("transformer.wte.weight"));
  EXPECT_EQ(change("transformer.wte.weight").error().code, Code::MergeTied);
  EXPECT_TRUE(change("transformer.h.0.attn.c_attn.weight"));
  base.config_text = R"({"vocab_size": 131, "tie_word_embeddings": false})";
  EXPECT_TRUE(change("transformer.wte.weight"));
  base.config_text = "{}";  // nobody says how many rows the vocabulary has
  EXPECT_FALSE(change("transformer.h.0.attn.c_attn.weight"));
}

TEST(Merge, NothingIsWrittenWhenAnElementDoesNotFit) {
  const TempFolder temp;
  const auto base = golden::open_base(kPeftCases / "partial_qv/base");
  Adapter adapter = adapter_of(kPeftCases / "partial_qv/adapter", base);
  ASSERT_FALSE(adapter.pairs.empty());
  AdapterPair& pair = adapter.pairs.front();
  std::vector<float> a(static_cast<std::size_t>(pair.a.rows * pair.a.columns), 1);
  a[3] = NAN;
  pair.a.first = reinterpret_cast<const std::byte*>(a.data());
  pair.a.dtype = DType::F32;
  pair.a.row_stride = pair.a.columns;
  pair.a.column_stride = 1;
  const auto refused = merge_model(base, adapter, temp.path() / "out", {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::MergeNotFinite);
  EXPECT_EQ(refused.error().message, pair.base + "[0, 3] would become infinite or NaN");
  EXPECT_FALSE(fs::exists(temp.path() / "out"));
}

TEST(Merge, AnOutputThatIsThereIsNotReplacedUnasked) {
  const TempFolder temp;
  const auto base = golden::open_base(kPeftCases / "partial_qv/base");
  const Adapter adapter = adapter_of(kPeftCases / "partial_qv/adapter", base);
  ASSERT_TRUE(merge_model(base, adapter, temp.path() / "out", {}));
  const auto again = merge_model(base, adapter, temp.path() / "out", {});
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, Code::OutputExists);
  MergeOptions overwrite;
  overwrite.overwrite = true;
  EXPECT_TRUE(merge_model(base, adapter, temp.path() / "out", overwrite));
  std::ofstream(temp.path() / "out/mine.txt") << "mine";
  const auto strange = merge_model(base, adapter, temp.path() / "out", overwrite);
  ASSERT_FALSE(strange);
  EXPECT_EQ(strange.error().code, Code::NotOurs);
  EXPECT_TRUE(fs::exists(temp.path() / "out/config.json"));
}

TEST(Merge, FactorsOfOtherDTypesAreRefused) {
  const TempFolder temp;
  const auto base = golden::open_base(kPeftCases / "partial_qv/base");
  Adapter adapter = adapter_of(kPeftCases / "partial_qv/adapter", base);
  adapter.pairs.front().a.dtype = DType::F64;
  const auto refused = merge_model(base, adapter, temp.path() / "out", {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::MergeDType);
}

}  // namespace
}  // namespace bv::lora
