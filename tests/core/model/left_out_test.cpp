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

json gemma(std::int64_t shared) {
  const json types = {"sliding_attention", "sliding_attention", "full_attention",
                      "sliding_attention", "sliding_attention", "full_attention"};
  return {{"architectures", {"Gemma4ForCausalLM"}},
          {"model_type", "gemma4_text"},
          {"num_hidden_layers", 6},
          {"num_kv_shared_layers", shared},
          {"layer_types", types}};
}

TEST(LeftOut, KeysAndValuesOfLayersThatShareThoseOfOthersMayBeThere) {
  const Headers without = wanted_headers(from_config(gemma(2)));
  EXPECT_THAT(must(resolve_with(gemma(2), without)).ignored, IsEmpty());
  Headers published = without;
  for (const std::string layer : {"4", "5"}) {
    for (const char* name : {"k_proj", "v_proj", "k_norm"}) {
      add(published, "model.layers." + layer + ".self_attn." + name + ".weight");
    }
  }
  const Model model = must(resolve_with(gemma(2), published));
  EXPECT_TRUE(model.faults.empty()) << all_faults(model);
  EXPECT_THAT(model.ignored, SizeIs(6));
  EXPECT_THAT(reason(model, "ignored"), HasSubstr("num_kv_shared_layers"));
  EXPECT_THAT(model.why_unused("model.layers.5.self_attn.k_norm.weight"),
              HasSubstr("num_kv_shared_layers"));
  EXPECT_EQ(model.why_unused("model.layers.3.self_attn.k_norm.weight"), "");
}

/// The row speaks of layers that share, not of a name.
TEST(LeftOut, KeysThatALayerReadsMustBeThere) {
  Headers headers = wanted_headers(from_config(gemma(2)));
  headers.erase("model.layers.3.self_attn.k_proj.weight");
  EXPECT_THAT(all_faults(must(resolve_with(gemma(2), headers))),
              HasSubstr("model.layers.3.self_attn.k_proj.weight"));
  Headers other = wanted_headers(from_config(gemma(2)));
  add(other, "model.layers.6.self_attn.k_proj.weight");  // no such layer
  EXPECT_THAT(must(resolve_with(gemma(2), other)).faults, SizeIs(1));
}

json ernie(std::int64_t mtp) {
  return {{"architectures", {"Ernie4_5_MoeForCausalLM"}},
          {"model_type", "ernie4_5_moe"},
          {"num_hidden_layers", 2},
          {"moe_num_experts", 2},
          {"num_nextn_predict_layers", mtp}};
}

Headers with_mtp(Headers headers, const std::string& prefix) {
  for (const char* name :
       {"mtp_block.0.self_attn.q_proj.weight", "mtp_block.0.input_layernorm.weight",
        "mtp_emb_norm.0.weight", "mtp_hidden_norm.0.weight", "mtp_linear_proj.0.weight"}) {
    add(headers, prefix + name);
  }
  return headers;
}

TEST(LeftOut, MtpLayersThatMegatronCannotHoldAreSaidToBe) {
  const Headers headers = with_mtp(wanted_headers(from_config(ernie(1))), "model.");
  const Model model = must(resolve_with(ernie(1), headers));
  EXPECT_TRUE(model.faults.empty()) << all_faults(model);
  EXPECT_EQ(detected(model, "ignored"), "5");
  EXPECT_THAT(reason(model, "ignored"), HasSubstr("MTP layers"));
  EXPECT_THAT(model.dropped, IsEmpty());
}

TEST(LeftOut, DropMtpIsAboutThemAndTheConfigCountsNoneAnyMore) {
  ResolveOptions options;
  options.drop_mtp = true;
  const Headers headers = with_mtp(wanted_headers(from_config(ernie(1))), "model.");
  const Model model = must(resolve_with(ernie(1), headers, options));
  EXPECT_TRUE(model.faults.empty()) << all_faults(model);
  EXPECT_THAT(model.dropped, SizeIs(5));
  EXPECT_THAT(model.ignored, IsEmpty());
  EXPECT_EQ(detected(model, "mtp"), "dropped");
  EXPECT_EQ(model.geometry.at("mtp_num_layers"), 0);
  EXPECT_EQ(model.geometry.origin.at("mtp_num_layers"), "--drop-mtp");
  const Model none = must(resolve_with(ernie(0), wanted_headers(from_config(ernie(0))), options));
  EXPECT_EQ(detected(none, "mtp"), "");
}

TEST(LeftOut, MtpLayersOfABareModelAreThoseOfTheOthers) {
  json config = ernie(1);
  config["architectures"] = {"Ernie4_5_MoeModel"};
  Headers headers;
  for (const auto& [name, spec] : with_mtp(wanted_headers(from_config(config)), "model.")) {
    add(headers, name.substr(name.find('.') + 1), spec.shape);
  }
  const Model model = must(resolve_with(config, headers));
  EXPECT_TRUE(model.faults.empty()) << all_faults(model);
  EXPECT_EQ(detected(model, "ignored"), "5");
}

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
    "symbols": {"num_hidden_layers": {"field": "num_hidden_layers", "default": 2}}, "prefixes": {"M": "", "HF": "model."},
    "ignore_hf": ["extra.*", {"glob": "more.*", "because": "more of it"}],
    "sections": [{"stage": "decoder", "over": {"i": "num_hidden_layers"}, "rules": [
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

Headers renamed_bare(const Headers& headers) {
  Headers out;
  for (const auto& [name, spec] : headers) {
    add(out, name.starts_with("model.") ? name.substr(6) : name, spec.shape);
  }
  return out;
}

json untied(const std::string& name) {
  json config = golden_config(name);
  config["tie_word_embeddings"] = false;
  return config;
}

TEST(LeftOut, AHeadThatIsNotThereAmongBareNamesIsNoFault) {
  for (const char* name : {"qwen2", "qwen3_moe", "glm4_moe"}) {
    Headers headers = renamed_bare(golden_headers(name));
    headers.erase("lm_head.weight");
    const Model model = must(resolve_with(untied(name), headers));
    EXPECT_TRUE(model.faults.empty()) << name << "\n" << all_faults(model);
    EXPECT_EQ(detected(model, "output_layer"), "none") << name;
    EXPECT_THAT(reason(model, "output_layer"), HasSubstr("names are those of a bare model"));
    EXPECT_EQ(mapping_of(model, "output_layer.weight"), nullptr) << name;
  }
}

TEST(LeftOut, AHeadThatIsThereAmongBareNamesIsTaken) {
  Headers headers = renamed_bare(golden_headers("llama"));
  add(headers, "lm_head.weight", golden_headers("llama").at("lm_head.weight").shape);
  const Model model = must(resolve_with(untied("llama"), headers));
  EXPECT_TRUE(model.faults.empty()) << all_faults(model);
  EXPECT_NE(mapping_of(model, "output_layer.weight"), nullptr);
}

TEST(LeftOut, AHeadThatIsMissingElsewhereIsAFaultWhoseHelpNamesTheBareClass) {
  Headers headers = golden_headers("llama");
  headers.erase("lm_head.weight");
  const Model model = must(resolve_with(untied("llama"), headers));
  ASSERT_EQ(model.faults.size(), 1U) << all_faults(model);
  EXPECT_EQ(model.faults[0].code, Code::HfTensorMissing);
  EXPECT_THAT(model.faults[0].help, HasSubstr("--set 'architectures=[\"LlamaModel\"]'"));
  EXPECT_THAT(model.faults[0].help, HasSubstr("--set tie_word_embeddings=true"));
  Headers wrapped;  // a prefix more, not less
  for (const auto& [name, spec] : headers) {
    add(wrapped, "module." + name, spec.shape);
  }
  EXPECT_EQ(must(resolve_with(untied("llama"), wrapped)).faults.size(), 1U);
}

/// With a tied embedding Megatron computes logits all the same.
TEST(LeftOut, BareNamesOfATiedModelKeepItsOutput) {
  json config = golden_config("qwen2");
  config["tie_word_embeddings"] = true;
  Headers headers = renamed_bare(golden_headers("qwen2"));
  headers.erase("lm_head.weight");
  const Model model = must(resolve_with(config, headers));
  EXPECT_TRUE(model.faults.empty()) << all_faults(model);
  EXPECT_EQ(detected(model, "output_layer"), "");
}

}  // namespace
}  // namespace bv::model::test
