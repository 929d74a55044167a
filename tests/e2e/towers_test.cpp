// Towers that go as they are: what their class builds must be there, in the sizes of the config.

#include <fmt/format.h>

#include <set>

#include "core/base/arith.hpp"
#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

/// The families whose towers are carried and whose classes are at hand, and what stands before the
/// names of one.
const std::map<std::string, Words>& towers() {
  static const std::map<std::string, Words> out = {
      {"ernie4_5_vl_moe", {"model.vision_model.", "model.resampler_model."}},
      {"gemma3_vl", {"vision_tower."}},
      {"gemma4",
       {"model.vision_tower.", "model.embed_vision.", "model.audio_tower.", "model.embed_audio."}},
      {"glm4v_moe", {"model.visual."}},
      {"llama4", {"vision_model.", "multi_modal_projector."}},
      {"minimax_m3", {"vision_tower.", "multi_modal_projector.", "patch_merge_mlp."}},
      {"mistral3", {"vision_tower.", "multi_modal_projector."}},
      {"qwen2_5_omni", {"thinker.visual.", "thinker.audio_tower."}},
      {"qwen2_5_vl", {"visual."}},
      {"qwen2_audio", {"audio_tower.", "multi_modal_projector."}},
      {"qwen2_vl", {"visual."}},
      {"qwen3_asr", {"thinker.audio_tower."}},
      {"qwen3_omni_moe", {"thinker.visual.", "thinker.audio_tower."}},
      {"step3p7", {"vision_model.", "vit_large_projector."}},
  };
  return out;
}

std::string sort_of(const std::string& name) {
  std::string out;
  for (const char c : name) {
    if (c < '0' || c > '9') {
      out += c;
    }
  }
  return out;
}

/// One tensor of each sort, the last one of its sort.
std::set<std::string> sorts_of(const EditedCheckpoint& model, const Words& prefixes) {
  std::map<std::string, std::string> last;
  for (const auto& [name, tensor] : model.tensors) {
    for (const std::string& prefix : prefixes) {
      if (name.starts_with(prefix)) {
        last[sort_of(name)] = name;
      }
    }
  }
  std::set<std::string> out;
  for (const auto& [sort, name] : last) {
    out.insert(name);
  }
  return out;
}

class Towers : public testing::TestWithParam<std::string> {
 protected:
  Ended check(const EditedCheckpoint& model) const {
    std::filesystem::remove_all(folder / "m");
    model.write(folder / "m");
    return run({"check", "--model", folder / "m", "--tp", "1", "--only", "names,shapes"});
  }
  EditedCheckpoint whole() const {
    const Ended made = run({"fixture", "make", GetParam(), "--out", folder / "f"});
    EXPECT_EQ(made.code, 0) << made.all();
    return EditedCheckpoint::read(folder / "f");
  }
  TempFolder folder;
};

TEST_P(Towers, AreRefutedWithoutATensorWithAnotherNameAndInAnotherShape) {
  const EditedCheckpoint model = whole();
  EXPECT_EQ(check(model).code, 0) << check(model).all();
  const auto sorts = sorts_of(model, towers().at(GetParam()));
  ASSERT_GT(sorts.size(), 5U);
  int fault = 0;  // each in its turn: a process takes its time
  for (const std::string& name : sorts) {
    EditedCheckpoint changed = model;
    EditedTensor& tensor = changed.tensors.at(name);
    const bool flat = tensor.shape.size() < 2 || tensor.shape[0] == 1;
    switch (fault++ % 3) {
      case 0:
        changed.tensors.erase(name);
        break;
      case 1:
        changed.tensors[name + "_old"] = tensor;
        changed.tensors.erase(name);
        break;
      case 2:
        if (flat) {
          tensor.shape.insert(tensor.shape.begin(), 1);
        } else {
          tensor.shape = {tensor.shape[0], element_count(tensor.shape).value() / tensor.shape[0],
                          1};
        }
        break;
    }
    const Ended ended = check(changed);
    EXPECT_EQ(ended.code, 1) << name << fault << ended.all();
    EXPECT_NE(ended.out.find(name), std::string::npos) << ended.out;
  }
}

/// A tower that the config announces, and of which a whole kind of tensors is gone from every
/// block.
TEST_P(Towers, AreRefutedWhereNoBlockHasATensorOrTheLastBlockIsGone) {
  const EditedCheckpoint model = whole();
  for (const std::string& prefix : towers().at(GetParam())) {
    std::string sort;
    EditedCheckpoint changed = model;
    for (const auto& [name, tensor] : model.tensors) {
      const bool block = name.starts_with(prefix) && name.find(".1.") != std::string::npos;
      if (block && sort.empty()) {
        sort = sort_of(name);
      }
      if (name.starts_with(prefix) && sort_of(name) == sort) {
        changed.tensors.erase(name);
      }
    }
    if (sort.empty()) {
      continue;  // a projector has no blocks
    }
    EXPECT_EQ(check(changed).code, 1) << check(changed).all();
    changed = model;
    std::erase_if(changed.tensors, [&](const auto& one) {
      return one.first.starts_with(prefix) && one.first.find(".1.") != std::string::npos;
    });
    EXPECT_EQ(check(changed).code, 1) << check(changed).all();
  }
}

INSTANTIATE_TEST_SUITE_P(OfAllFamilies, Towers, testing::ValuesIn([] {
                           Words out;
                           for (const auto& [family, prefixes] : towers()) {
                             out.push_back(family);
                           }
                           return out;
                         }()),
                         [](const auto& one) { return one.param; });

}  // namespace
}  // namespace bv::e2e
