// What the real Megatron-Bridge merged, judged: tensors that it gets wrong are refuted one by one,
// the truth is held.

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <set>

#include "properties/claims/merged.hpp"
#include "tests/core/lora/megatron_case.hpp"
#include "tests/support/checkpoint_edit.hpp"
#include "tests/support/files.hpp"

namespace bv::lora {
namespace {

namespace fs = std::filesystem;
using support::EditedCheckpoint;
using support::EditedTensor;
using Names = std::set<std::string>;

EditedTensor in_dtype(const EditedTensor& from, DType dtype) {
  EditedTensor out{dtype, from.shape, {}};
  const std::int64_t count = element_count(from.shape).value();
  out.bytes.resize(static_cast<std::size_t>(count * bytes(dtype)));
  kinds::cast(from.bytes.data(), from.dtype, out.bytes.data(), dtype, count);
  return out;
}

/// A case of the goldens: its base in the dtype of the run, and the merge that is right.
class UpstreamMerge {
 public:
  explicit UpstreamMerge(const std::string& name) : folder_(golden::kGolden / "lora" / name) {
    const auto run = golden::json_of(folder_ / "run.json");
    const DType dtype = run["params_dtype"] == "BF16" ? DType::BF16 : DType::F32;
    EditedCheckpoint base = EditedCheckpoint::golden(run["case"]);
    const auto truth = support::read_tensors(folder_ / "truth.safetensors");
    if (const fs::path file = folder_ / "upstream_merged_wrong.safetensors"; fs::exists(file)) {
      for (const auto& [tensor, values] : support::read_tensors(file)) {
        wrong[tensor] = in_dtype(values, dtype);
      }
    }
    for (auto& [tensor, values] : base.tensors) {
      if (truth.contains(tensor) || wrong.contains(tensor)) {
        values = in_dtype(values, dtype);
      }
    }
    base.write(temp_.path() / "base");
    right = base;
    for (const auto& [tensor, values] : truth) {
      right.tensors.at(tensor) = in_dtype(values, dtype);
    }
    case_.emplace(name, temp_.path() / "base");
    files_ = plan_to_hf(*case_->megatron, *case_->sites, *case_->class_sites, case_->base).value();
    adapter_ = adapter_in_memory(*files_, case_->base, golden::kinds_of_build()).value();
  }

  /// Tensors that are refuted in this merge, with the codes.
  [[nodiscard]] std::map<std::string, std::string> refuted(const EditedCheckpoint& merge) const {
    fs::remove_all(temp_.path() / "merged");
    merge.write(temp_.path() / "merged");
    const auto file = io::Checkpoint::open(temp_.path() / "merged").value();
    std::map<std::string, std::string> out;
    const auto judged =
        claims::judge_merged(case_->base, *adapter_, file, case_->base.model.tied, 1, nullptr)
            .value();
    for (const Verdict& verdict : judged.verdicts) {
      if (verdict.outcome != Outcome::Held) {
        out[verdict.hf.empty() ? verdict.title : verdict.hf.front()] = info(verdict.code).name;
      }
    }
    return out;
  }

  EditedCheckpoint right;
  std::map<std::string, EditedTensor> wrong;

 private:
  fs::path folder_;
  support::TempFolder temp_;
  std::optional<golden::MegatronCase> case_;
  std::optional<HfAdapterFiles> files_;
  std::optional<Adapter> adapter_;
};

Names names_of(const auto& map) {
  Names out;
  for (const auto& [name, value] : map) {
    out.insert(name);
  }
  return out;
}

TEST(UpstreamMerges, TheTruthIsHeld) {
  for (const std::string& name : golden::megatron_cases()) {
    const UpstreamMerge one(name);
    EXPECT_EQ(names_of(one.refuted(one.right)), Names{}) << name;
  }
}

/// D-02 (in_proj in bfloat16), D-03 (rows of the visual qkv), D-05 (magnitudes left out), D-06
/// (experts of another rank), D-07 (local numbers of experts), D-08 (rows of gate and up under
/// ETP), D-12 (up changed by the adapter of gate).
TEST(UpstreamMerges, EveryTensorThatIsWrongIsRefutedAndNoOther) {
  std::size_t tensors = 0;
  for (const std::string& name : golden::megatron_cases()) {
    const UpstreamMerge one(name);
    if (one.wrong.empty()) {
      continue;
    }
    EditedCheckpoint theirs = one.right;
    for (const auto& [tensor, values] : one.wrong) {
      theirs.tensors.at(tensor) = values;
    }
    EXPECT_EQ(names_of(one.refuted(theirs)), names_of(one.wrong)) << name;
    tensors += one.wrong.size();
  }
  EXPECT_EQ(tensors, 19u);
}

/// D-37: rows that tensor parallelism padded are not rows of the vocabulary.
TEST(UpstreamMerges, APaddedVocabularyIsRefuted) {
  const UpstreamMerge one("qwen2__tp2");
  EditedCheckpoint padded = one.right;
  EditedTensor& embedding = padded.tensors.at("model.embed_tokens.weight");
  ASSERT_EQ(embedding.shape[0], 131);
  embedding.bytes.resize(embedding.bytes.size() / 131 * 136);
  embedding.shape[0] = 136;
  EXPECT_EQ(one.refuted(padded),
            (std::map<std::string, std::string>{{"model.embed_tokens.weight", "ShapeMismatch"}}));
}

/// D-35: a wrapped model that was exported without merging it.
TEST(UpstreamMerges, NamesOfWrappersAreRefuted) {
  const UpstreamMerge one("qwen2__tp2");
  EditedCheckpoint wrapped = one.right;
  auto node = wrapped.tensors.extract("model.layers.0.mlp.down_proj.weight");
  node.key() = "model.layers.0.mlp.down_proj.base_layer.weight";
  wrapped.tensors.insert(std::move(node));
  EXPECT_EQ(one.refuted(wrapped),
            (std::map<std::string, std::string>{
                {"model.layers.0.mlp.down_proj.weight", "HfTensorMissing"},
                {"model.layers.0.mlp.down_proj.base_layer.weight", "HfTensorUnused"}}));
}

}  // namespace
}  // namespace bv::lora
