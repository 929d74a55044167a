// Names, patterns, config and packing: small cases that can be checked by hand.

#include <gtest/gtest.h>

#include "core/base/path_pattern.hpp"
#include "core/lora/adapter_config.hpp"
#include "core/lora/adapter_keys.hpp"
#include "core/lora/class_names.hpp"
#include "core/lora/hf_config.hpp"
#include "core/lora/packing.hpp"

namespace bv::lora {
namespace {

TEST(AdapterKeys, ABaseNameAndItsKeysAreInverse) {
  for (const char* base :
       {"model.layers.3.self_attn.q_proj.weight", "model.layers.3.mlp.experts.gate_up_proj"}) {
    for (const KeyKind kind : {KeyKind::A, KeyKind::B}) {
      std::string why;
      const auto parsed = parse_adapter_key(adapter_key(base, kind), why);
      ASSERT_TRUE(parsed) << why;
      EXPECT_EQ(parsed->kind, kind);
      EXPECT_EQ(parsed->path, module_of(base));
      EXPECT_EQ(parsed->depth, 0);
    }
  }
  EXPECT_EQ(adapter_key("model.layers.3.mlp.experts.gate_up_proj", KeyKind::A),
            "base_model.model.model.layers.3.mlp.experts.gate_up_proj.lora_A.weight");
}

TEST(AdapterKeys, AnUnknownEndingIsRefused) {
  std::string why;
  EXPECT_FALSE(parse_adapter_key("base_model.model.x.q_proj.lora_C.weight", why));
  EXPECT_EQ(why, "\".lora_C.weight\" is not an ending that PEFT writes");
  EXPECT_FALSE(parse_adapter_key("model.x.q_proj.lora_A.weight", why));
  EXPECT_EQ(why, "it does not begin with base_model.model.");
  EXPECT_FALSE(parse_adapter_key("base_model.model.x.q_proj", why));
}

TEST(AdapterKeys, WrappersAreCounted) {
  std::string why;
  const auto key = parse_adapter_key("base_model.model.m.experts.base_layer.lora_B.weight", why);
  ASSERT_TRUE(key);
  EXPECT_EQ(key->path, "m.experts");
  EXPECT_EQ(key->depth, 1);
}

TEST(AdapterKeys, TheExpertIsTheNumberBehindExperts) {
  EXPECT_EQ(expert_of("model.layers.3.mlp.experts.17.gate_proj.weight"), 17);
  EXPECT_EQ(expert_of("model.layers.3.mlp.experts.gate_up_proj"), std::nullopt);
  EXPECT_EQ(expert_of("experts.mlp.experts.4.w1"), 4);
  EXPECT_EQ(expert_of("model.layers.3.mlp.shared_experts.1.up_proj"), std::nullopt);
  EXPECT_EQ(without_expert("model.mlp.experts.17.gate_proj"), "model.mlp.experts.gate_proj");
  EXPECT_EQ(place_text("model.layers.3.mlp.experts.17.gate_proj"), "layer 3, expert 17");
}

std::string nested(const std::vector<std::string>& registered,
                   const std::vector<std::string>& targeted) {
  std::string out;
  for (const NestedParameter& one : nesting_of(registered, targeted)) {
    out += one.name + std::to_string(one.depth) + " ";
  }
  return out;
}

TEST(AdapterKeys, TheLastRegisteredTargetIsTheOutermostWrapper) {
  EXPECT_EQ(nested({"gate_up", "down"}, {"down", "gate_up"}), "gate_up1 down0 ");
  EXPECT_EQ(nested({"down", "gate_up"}, {"down", "gate_up"}), "down1 gate_up0 ");
  EXPECT_EQ(nested({"gate_up", "gate_up_bias", "down"}, {"gate_up"}), "gate_up0 ");
}

bool suffix(const std::string& pattern, const std::string& path) {
  return PathPattern::compile(pattern, PathPattern::Extent::Suffix).value().matches(path);
}
bool whole(const std::string& pattern, const std::string& path) {
  return PathPattern::compile(pattern, PathPattern::Extent::Whole).value().matches(path);
}

TEST(PathPattern, ASuffixBeginsAtAComponent) {
  EXPECT_TRUE(suffix("q_proj", "model.layers.0.self_attn.q_proj"));
  EXPECT_TRUE(suffix("q_proj", "q_proj"));
  EXPECT_FALSE(suffix("q_proj", "model.layers.0.self_attn.eq_proj"));
  EXPECT_TRUE(suffix("layers.1.self_attn.q_proj", "model.layers.1.self_attn.q_proj"));
  EXPECT_TRUE(suffix("layers.1", "model.layersX1"));  // "." is any character
  EXPECT_FALSE(suffix("layers.1.q_proj", "model.layers.11.q_proj"));
}

TEST(PathPattern, ExpressionsAreThoseOfPython) {
  EXPECT_TRUE(suffix(".*\\.gate_up_proj", "model.layers.0.mlp.experts.gate_up_proj"));
  EXPECT_FALSE(suffix(".*\\.gate_up_proj", "gate_up_proj"));
  EXPECT_TRUE(whole("model\\.layers\\.(0|[2-3])\\..*_proj", "model.layers.3.mlp.up_proj"));
  EXPECT_FALSE(whole("model\\.layers\\.(0|[2-3])\\..*_proj", "model.layers.1.mlp.up_proj"));
  EXPECT_TRUE(whole("a{2,3}b?c+", "aaacc"));
  EXPECT_FALSE(whole("a{2,3}b?c+", "ac"));
  EXPECT_TRUE(whole("(?:x|yy)*z", "xyyxz"));
  EXPECT_TRUE(whole("^[^.]+\\.\\d+$", "layers.12"));
  EXPECT_TRUE(whole("", ""));
}

TEST(PathPattern, AStartIsFollowedByAnything) {
  const auto start = [](const std::string& pattern, const std::string& path) {
    return PathPattern::compile(pattern, PathPattern::Extent::Start).value().matches(path);
  };
  EXPECT_TRUE(start("model.layers", "model.layers.0.mlp"));
  EXPECT_TRUE(start(".*mlp", "model.layers.0.mlp.up_proj"));
  EXPECT_TRUE(start("", "anything"));
  EXPECT_FALSE(start("layers", "model.layers.0"));
  EXPECT_FALSE(start(".*mlp$", "model.layers.0.mlp.up_proj"));
  EXPECT_TRUE(start("^.*(mlp|attn)$", "model.layers.0.attn"));
  EXPECT_FALSE(PathPattern::compile("a|b$", PathPattern::Extent::Start));  // "a..." or "b" whole
}

TEST(PathPattern, WhatIsNotUnderstoodIsRefusedAndNothingHangs) {
  for (const char* bad : {"(?=x)", "a**", "(", "[a", "a{200}", "\\", "x)", "(a)\\1", "{2}"}) {
    EXPECT_FALSE(PathPattern::compile(bad, PathPattern::Extent::Whole)) << bad;
  }
  EXPECT_FALSE(whole("(a|a)*b", std::string(5000, 'a')));
  EXPECT_FALSE(PathPattern::compile(std::string(3000, '('), PathPattern::Extent::Whole));
  EXPECT_FALSE(PathPattern::compile("((((a{99}){99}){99}){99})", PathPattern::Extent::Whole));
}

std::string config_error(const std::string& members) {
  const auto config = parse_adapter_config(
      "{\"peft_type\": \"LORA\", \"r\": 8, \"lora_alpha\": 16, \"target_modules\": [\"q_proj\"]" +
          members + "}",
      "adapter_config.json");
  return config ? "" : std::string(info(config.error().code).name) + ": " + config.error().message;
}

TEST(AdapterConfig, WhatChangesAWeightIsUnderstoodOrRefused) {
  EXPECT_EQ(config_error(""), "");
  EXPECT_EQ(config_error(", \"eva_config\": {\"rho\": 2}, \"alora_invocation_tokens\": null"), "");
  EXPECT_EQ(config_error(", \"use_qalora\": true"),
            "AdapterInvalid: use_qalora of adapter_config.json cannot be used");
  EXPECT_EQ(config_error(", \"layer_replication\": [[0, 2]]"),
            "AdapterInvalid: layer_replication of adapter_config.json cannot be used");
  EXPECT_EQ(config_error(", \"something_new\": 3"),
            "AdapterInvalid: something_new of adapter_config.json cannot be used");
  EXPECT_EQ(config_error(", \"init_lora_weights\": \"pissa_niter_4\""),
            "AdapterInvalid: init_lora_weights of adapter_config.json cannot be used");
  EXPECT_EQ(config_error(", \"rank_pattern\": {\"q_proj\": 0}"),
            "AdapterInvalid: rank_pattern of adapter_config.json cannot be used");
  EXPECT_EQ(config_error(", \"r\": 4"),
            "DuplicateKey: \"r\" appears twice in one object of adapter_config.json");
  EXPECT_EQ(config_error(", \"bias\": \"some\""),
            "AdapterInvalid: bias of adapter_config.json cannot be used");
  EXPECT_EQ(config_error(", \"alpha_pattern\": {\"(\": 2}"),
            "AdapterInvalid: the pattern \"(\" cannot be used: a group is not closed");
}

TEST(AdapterConfig, AScaleThatFloat32DoesNotHoldIsRefused) {
  for (const char* alpha : {"1e300", "-1e39", "1e400"}) {
    EXPECT_FALSE(parse_adapter_config(std::string("{\"peft_type\": \"LORA\", \"r\": 8, "
                                                  "\"target_modules\": [\"q\"], "
                                                  "\"lora_alpha\": ") +
                                          alpha + "}",
                                      "c.json"))
        << alpha;
  }
  EXPECT_EQ(config_error(", \"alpha_pattern\": {\"q\": 1e39}"),
            "AdapterInvalid: alpha_pattern of adapter_config.json cannot be used");
}

TEST(AdapterConfig, RankAndAlphaAreNeverMadeUp) {
  for (const char* text :
       {"{\"peft_type\": \"LORA\", \"r\": 8}", "{\"peft_type\": \"LORA\", \"lora_alpha\": 8}",
        "{\"peft_type\": \"LORA\", \"r\": null, \"lora_alpha\": 8}", "[]", "{"}) {
    const auto config = parse_adapter_config(text, "c.json");
    ASSERT_FALSE(config) << text;
    EXPECT_EQ(config.error().code, Code::AdapterInvalid);
  }
}

TEST(AdapterConfig, WhatIsWrittenIsReadAgain) {
  AdapterConfig config;
  config.r = 6;
  config.lora_alpha = 2.5;
  config.rank_pattern = {{"model.layers.0.mlp.experts.down_proj", 3}, {"q_proj", 12}};
  config.alpha_pattern = {{"k_proj", 7}};
  config.scale = ScaleKind::RsLora;
  config.target_modules.names = {"k_proj", "q_proj"};
  config.target_parameters = {"model.layers.0.mlp.experts.down_proj"};
  config.base_model = "tiny";
  config.peft_version = "0.21.2";
  EXPECT_EQ(parse_adapter_config(adapter_config_text(config), "c").value(), config);
}

TEST(AdapterConfig, TheScaleIsRoundedOnce) {
  EXPECT_EQ(scale32(ScaleKind::Lora, 32, 24), 1.3333333730697632f);
  EXPECT_EQ(scale32(ScaleKind::Lora, 32, 24) * 3.0f, 4.0f);
  EXPECT_EQ(scale64(ScaleKind::RsLora, 12, 9), 4.0);
}

TEST(HfConfig, ABareNameIsWrittenWhereItTakesNoOtherModule) {
  EXPECT_EQ(target_names({"a.q_proj", "b.q_proj", "a.proj"},
                         {"a.q_proj", "b.q_proj", "a.proj", "patch.proj"}),
            (std::vector<std::string>{"a.proj", "q_proj"}));
}

TEST(HfConfig, RanksAndAlphasThatDifferBecomePatternsOfFullPaths) {
  const AdapterConfig config = config_for({{"m.0.q", false, 6, 12},
                                           {"m.1.q", false, 6, 12},
                                           {"m.0.experts.down_proj", true, 3, 12},
                                           {"m.1.k", false, 6, 5}},
                                          {"m.0.q", "m.1.q", "m.0.k", "m.1.k"});
  EXPECT_EQ(config.r, 6);
  EXPECT_EQ(config.lora_alpha, 12);
  EXPECT_EQ(config.rank_pattern,
            (std::vector<std::pair<std::string, std::int64_t>>{{"m.0.experts.down_proj", 3}}));
  EXPECT_EQ(config.alpha_pattern, (std::vector<std::pair<std::string, double>>{{"m.1.k", 5.0}}));
  EXPECT_EQ(config.target_modules.names, (std::vector<std::string>{"m.1.k", "q"}));
  EXPECT_EQ(config.target_parameters, std::vector<std::string>{"m.0.experts.down_proj"});
}

/// Stacks [E, in, out] have the mark, unless `unmarked`.
std::string roles(const PackedShapes& shapes, std::int64_t rows, std::int64_t columns,
                  std::optional<bool> columns_first, std::optional<std::string> version,
                  bool unmarked = false) {
  const bool marked = columns_first.value_or(false) && !unmarked;
  const auto out = packed_roles(shapes, {2, rows, columns, columns_first, marked}, version);
  return out ? std::to_string(out->rank) + (out->exchanged ? " exchanged" : "") +
                   (out->columns_first ? " columns first" : "")
             : std::string(info(out.error().code).name);
}

TEST(Packing, ShapesTellTheRolesOfTheFactors) {
  // 2 experts of [3, 2], rank 2.
  EXPECT_EQ(roles({{4, 2}, {3, 4}}, 3, 2, false, {}), "2");
  EXPECT_EQ(roles({{4, 3}, {2, 4}}, 3, 2, false, {}), "2 exchanged");  // PEFT 0.18 and older
  EXPECT_EQ(roles({{4, 2}, {3, 4}}, 3, 2, true, {}), "2 columns first");
  EXPECT_EQ(roles({{4, 3}, {2, 4}}, 3, 2, true, {}), "AdapterShape");  // 0.19.0 alone wrote that
  EXPECT_EQ(roles({{4, 3}, {2, 4}}, 3, 2, true, "0.19.0"), "2 exchanged columns first");
  EXPECT_EQ(roles({{4, 3}, {2, 4}}, 3, 2, false, "0.21.2"), "AdapterShape");
  EXPECT_EQ(roles({{4, 3}, {2, 4}}, 3, 2, false, "0.19.0"), "2 exchanged");  // as 0.18 did
  EXPECT_EQ(roles({{4, 2}, {5, 4}}, 3, 2, false, {}), "AdapterShape");
  EXPECT_EQ(roles({{3, 2}, {3, 4}}, 3, 2, false, {}), "AdapterShape");
  EXPECT_EQ(roles({{4, 2}, {3, 2}}, 3, 2, false, {}), "AdapterPairBroken");
}

/// Llama 4: [E, in, out] without is_transposed. 2 experts of [2, 3], rank 2.
TEST(Packing, AnUnmarkedStackIsTakenAsItIsStored) {
  const auto unmarked = [](const PackedShapes& shapes, std::optional<std::string> version) {
    return roles(shapes, 3, 2, true, std::move(version), true);
  };
  EXPECT_EQ(unmarked({{4, 3}, {2, 4}}, "0.21.2"), "2 exchanged columns first");
  EXPECT_EQ(unmarked({{4, 3}, {2, 4}}, "0.19.1"), "2 exchanged columns first");
  EXPECT_EQ(unmarked({{4, 2}, {3, 4}}, "0.19.0"), "2 columns first");
  EXPECT_EQ(unmarked({{4, 2}, {3, 4}}, "0.18.1"), "2 columns first");
  EXPECT_EQ(unmarked({{4, 2}, {3, 4}}, "0.21.2"), "AdapterShape");  // the roles of a marked class
  EXPECT_EQ(unmarked({{4, 3}, {2, 4}}, "0.19.0"), "AdapterShape");
  EXPECT_EQ(unmarked({{4, 3}, {2, 4}}, "0.18.1"), "AdapterShape");
  EXPECT_EQ(unmarked({{4, 3}, {2, 4}}, {}), "2 exchanged columns first");
  EXPECT_EQ(unmarked({{4, 2}, {3, 4}}, {}), "2 columns first");
  const PackedStack stack{2, 3, 2, true, false};
  const Error error = packed_roles({{4, 2}, {3, 4}}, stack, "0.21.2").error();
  EXPECT_EQ(error.wanted, "lora_A [2*r, 3], lora_B [2, r*2]");
}

TEST(Packing, TheVersionTellsThemForSquareExperts) {
  const PackedShapes square{{4, 3}, {3, 4}};
  EXPECT_EQ(roles(square, 3, 3, false, "0.21.2"), "2");
  EXPECT_EQ(roles(square, 3, 3, false, "0.18.1"), "2 exchanged");
  EXPECT_EQ(roles(square, 3, 3, true, "0.18.1"), "2 columns first");
  EXPECT_EQ(roles(square, 3, 3, true, "0.19.0"), "2 exchanged columns first");
  EXPECT_EQ(roles(square, 3, 3, false, "0.19.0"), "2 exchanged");
  EXPECT_EQ(roles(square, 3, 3, true, "0.21.2", true), "2 exchanged columns first");
  EXPECT_EQ(roles(square, 3, 3, true, "0.19.0", true), "2 columns first");
  EXPECT_EQ(roles(square, 3, 3, true, "0.18.1", true), "2 columns first");
  EXPECT_EQ(roles(square, 3, 3, true, "0.21.2"), "2 columns first");
  EXPECT_EQ(roles(square, 3, 3, false, {}), "PackingUnknown");
  EXPECT_EQ(roles(square, 3, 3, {}, "0.21.2"), "PackingUnknown");
}

/// TV-12, TV-12b: both layouts of one adapter give the deltas of both experts.
TEST(Packing, BothLayoutsGiveTheSameDeltas) {
  const std::vector<std::vector<float>> wanted = {{1, 2, 3, 4, 5, 6}, {14, 31, 18, 39, 22, 47}};
  const auto factor = [](const io::StoredTensor& tensor, const std::vector<float>& numbers) {
    Factor out;
    out.tensor = &tensor;
    out.first = reinterpret_cast<const std::byte*>(numbers.data());
    out.rows = tensor.spec.shape[0];
    out.columns = tensor.spec.shape[1];
    out.row_stride = out.columns;
    out.column_stride = 1;
    return out;
  };
  const auto value = [](const Factor& one, std::int64_t row, std::int64_t column) {
    return *reinterpret_cast<const float*>(one.at(row, column));
  };
  const std::vector<float> new_a = {1, 0, 0, 1, 2, 1, 0, 3};
  const std::vector<float> new_b = {1, 7, 2, 8, 3, 9, 4, 10, 5, 11, 6, 12};
  const std::vector<float> old_a = {1, 3, 5, 2, 4, 6, 7, 9, 11, 8, 10, 12};
  const std::vector<float> old_b = {1, 2, 0, 0, 0, 1, 1, 3};
  const io::StoredTensor a{{"A", DType::F32, {4, 2}}, 0, 0, 32};
  const io::StoredTensor b{{"B", DType::F32, {3, 4}}, 0, 0, 48};
  const io::StoredTensor a18{{"A", DType::F32, {4, 3}}, 0, 0, 48};
  const io::StoredTensor b18{{"B", DType::F32, {2, 4}}, 0, 0, 32};
  for (std::int64_t e = 0; e < 2; ++e) {
    const Factor right = expert_rows(factor(a, new_a), e, 2);
    const Factor left = expert_columns(factor(b, new_b), e, 2);
    const Factor over_outputs = expert_rows(factor(a18, old_a), e, 2);
    const Factor over_inputs = expert_columns(factor(b18, old_b), e, 2);
    for (std::int64_t o = 0; o < 3; ++o) {
      for (std::int64_t i = 0; i < 2; ++i) {
        float now = 0;
        float before = 0;
        for (std::int64_t k = 0; k < 2; ++k) {
          now += value(left, o, k) * value(right, k, i);
          before += value(over_outputs, k, o) * value(over_inputs, i, k);
        }
        EXPECT_EQ(now, wanted[static_cast<std::size_t>(e)][static_cast<std::size_t>(o * 2 + i)]);
        EXPECT_EQ(before, now);
      }
    }
  }
}

TEST(Packing, AHasTheExpertSlowAndBHasItFast) {
  const io::StoredTensor a{{"A", DType::F32, {4, 2}}, 0, 0, 32};
  const std::vector<float> numbers = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  Factor factor{
      &a, nullptr, reinterpret_cast<const std::byte*>(numbers.data()), DType::F32, 4, 2, 0, 2, 1};
  const auto value = [&](const Factor& one, std::int64_t row, std::int64_t column) {
    return *reinterpret_cast<const float*>(one.at(row, column));
  };
  const Factor second = expert_rows(factor, 1, 2);
  EXPECT_EQ(second.rows, 2);
  EXPECT_EQ(value(second, 1, 0), 6);
  Factor wide{&a, nullptr, reinterpret_cast<const std::byte*>(numbers.data()), DType::F32, 3, 4, 0,
              4,  1};
  const Factor odd = expert_columns(wide, 1, 2);
  EXPECT_EQ(odd.columns, 2);
  EXPECT_EQ(value(odd, 2, 0), 9);
  EXPECT_EQ(value(odd, 2, 1), 11);
}

TEST(ClassNames, ReplaceWholeComponentsEitherWay) {
  family::Family family;
  family.class_modules = {{"mlp.router.gate", "mlp.gate"}, {"moe", "mlp"}};
  EXPECT_EQ(class_name(&family, "layers.0.moe.gate.weight"), "layers.0.mlp.gate.weight");
  EXPECT_EQ(class_name(&family, "layers.0.mlp.router.gate.weight"), "layers.0.mlp.gate.weight");
  EXPECT_EQ(class_name(&family, "layers.0.moe_norm.weight"), "layers.0.moe_norm.weight");
  EXPECT_EQ(class_name(&family, "a_moe.weight"), "a_moe.weight");
  EXPECT_EQ(class_name(nullptr, "moe.weight"), "moe.weight");
  EXPECT_EQ(file_names(&family, "layers.0.mlp.up.weight"),
            std::vector<std::string>{"layers.0.moe.up.weight"});
  EXPECT_TRUE(file_names(&family, "layers.0.attn.weight").empty());
}

TEST(ClassNames, ReplaceBeginningsWhereNoLongerOneStandsAlready) {
  family::Family qwen;  // as transformers renames Qwen2-VL
  qwen.class_modules = {{"^visual", "model.visual"}, {"^model", "model.language_model"}};
  EXPECT_EQ(class_name(&qwen, "model.layers.0.q"), "model.language_model.layers.0.q");
  EXPECT_EQ(class_name(&qwen, "visual.blocks.0"), "model.visual.blocks.0");
  EXPECT_EQ(class_name(&qwen, "model.visual.blocks.0"), "model.visual.blocks.0");
  EXPECT_EQ(class_name(&qwen, "model.language_model.norm"), "model.language_model.norm");
  EXPECT_EQ(class_name(&qwen, "models.norm"), "models.norm");
  EXPECT_EQ(class_name(&qwen, "a.model.norm"), "a.model.norm");
  family::Family text;  // a text model in a checkpoint of its multimodal sibling
  text.class_modules = {{"^model.language_model", "model"}, {"moe", "mlp"}};
  EXPECT_EQ(class_name(&text, "model.language_model.layers.0.moe.up"), "model.layers.0.mlp.up");
  EXPECT_EQ(class_name(&text, "model.layers.0.moe.up"), "model.layers.0.mlp.up");
  EXPECT_EQ(
      file_names(&text, "model.layers.0.mlp.up"),
      (std::vector<std::string>{"model.language_model.layers.0.moe.up",
                                "model.language_model.layers.0.mlp.up", "model.layers.0.moe.up"}));
}

}  // namespace
}  // namespace bv::lora
