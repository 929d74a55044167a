// HF tensors that published files hold and that make no parameter: what nothing reads, layers that
// Megatron has no place for, heads that are not there. Each is left out with its reason.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/family/family.hpp"
#include "tests/core/model/resolved.hpp"

namespace bv::model::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

TEST(LeftOut, EveryFamilySaysWhatItLeavesOut) {
  for (const family::FamilyPtr& family : families()) {
    for (const family::Ignored& one : family->ignore_hf) {
      EXPECT_NE(one.because, "tensors that the family file leaves out") << family->name << one.glob;
      const bool weights = one.glob.starts_with("talker") || one.glob.find("2wav") != one.glob.npos;
      EXPECT_FALSE(weights && one.because == family::kComputedAgain) << family->name << one.glob;
    }
  }
}

/// A family from a folder of the user's may give no reason: then none is made up.
TEST(LeftOut, AReasonThatNobodyGaveIsNotThatOfBuffers) {
  const auto family = family::parse_family(R"({
    "schema": "bridge-family/1", "family": "small", "architectures": ["SmallForCausalLM"],
    "symbols": {"n": {"field": "n", "default": 2}}, "prefixes": {"M": "", "HF": "model."},
    "ignore_hf": ["extra.*", {"glob": "more.*", "because": "more of it"}],
    "sections": [{"stage": "decoder", "over": {"i": "n"}, "rules": [
      {"kind": "replicated", "megatron": "decoder.layers.{i}.w", "hf": "{HF}layers.{i}.w"}]}]})",
                                           "small.json")
                          .value();
  Headers headers;
  for (const char* name : {"model.layers.0.w", "model.layers.1.w", "extra.w", "more.w",
                           "model.layers.0.rotary_emb.inv_freq"}) {
    add(headers, name);
  }
  const Model model = must(resolve(family, json::object(), headers, {}));
  EXPECT_EQ(model.why_unused("extra.w"), "tensors that the family file leaves out");
  EXPECT_EQ(model.why_unused("more.w"), "more of it");
  EXPECT_EQ(model.why_unused("model.layers.0.rotary_emb.inv_freq"), family::kComputedAgain);
}

}  // namespace
}  // namespace bv::model::test
