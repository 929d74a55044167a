// Exports of real bridges with one fault each, as the exporter writes it: none may pass without a
// word, and the export itself stays green.

#include <algorithm>
#include <functional>

#include "tests/e2e/process.hpp"

namespace bv::e2e {
namespace {

using nlohmann::json;

std::string registry(const std::string& name) {
  return fixture("registries/" + name);
}

/// The export `name` of fixtures/registries after `edit`, checked on the checkpoint that it is for.
Ended checked(const std::string& name, const std::function<void(json&)>& edit) {
  const TempFolder folder;
  json rules = json::parse(file_text(registry(name + ".rules.json")));
  edit(rules);
  write_text(folder / "r.json", rules.dump());
  return run(
      {"check", "--model", registry(name + ".headers.json.gz"), "--rules", folder / "r.json"});
}

json& rule_of(json& rules, std::string_view end) {
  for (json& rule : rules["rules"]) {
    if (rule["megatron"].get_ref<const std::string&>().ends_with(end)) {
      return rule;
    }
  }
  ADD_FAILURE() << end;
  return rules["rules"][0];
}

void set_all(json& words, const char* word) {
  for (json& one : words) {
    one = word;
  }
}

bool says(const Ended& ended, std::string_view text) {
  return ended.flat().find(text) != std::string::npos;
}

/// The oracle knows the family and the rule agrees with it; the module that was built does not.
TEST(ExportedRules, NormsThatWereSeenOtherwiseRefuteTheRule) {
  EXPECT_EQ(checked("llama", [](json&) {}).code, 0);
  const Ended offsets =
      checked("llama", [](json& rules) { set_all(rules["facts"]["norms"]["megatron"], "offset"); });
  EXPECT_EQ(offsets.code, 1) << offsets.all();
  EXPECT_TRUE(says(offsets, "error[BV3007]")) << offsets.out;
  EXPECT_TRUE(says(offsets, "facts.norms")) << offsets.out;
  const Ended weights =
      checked("gemma", [](json& rules) { set_all(rules["facts"]["norms"]["megatron"], "weight"); });
  EXPECT_EQ(weights.code, 1) << weights.all();
  EXPECT_TRUE(says(weights, "error[BV3007]")) << weights.out;
}

/// One side was looked at, or only the provider's setting is known: the oracle knows what HF keeps.
TEST(ExportedRules, WhatTheProviderSetsIsHeldAgainstWhatHfKeeps) {
  const Ended one_side = checked("llama", [](json& rules) {
    set_all(rules["facts"]["norms"]["megatron"], "offset");
    rules["facts"]["norms"]["hf"] = json::object();
  });
  EXPECT_EQ(one_side.code, 1) << one_side.all();
  EXPECT_TRUE(says(one_side, "facts.norms")) << one_side.out;
  for (const auto& [name, centered] : {std::pair("llama", true), std::pair("gemma", false)}) {
    const Ended set = checked(name, [centered = centered](json& rules) {
      rules["facts"].erase("norms");
      rules["facts"]["layernorm_zero_centered_gamma"] = centered;
    });
    EXPECT_EQ(set.code, 1) << name << set.all();
    EXPECT_TRUE(says(set, "facts.layernorm_zero_centered_gamma")) << set.out;
  }
}

/// An author's own class by the name of a stock one, with its methods replaced.
TEST(ExportedRules, AClassOfAnotherModuleIsNotTheStockClassOfItsName) {
  const auto own = [](json& rule) {
    rule["module"] = "my_bridge";
    rule["overrides"] = {"hf_to_megatron", "megatron_to_hf"};
  };
  for (const char* parameter : {"linear_qkv.weight", "linear_fc1.weight", "linear_proj.weight"}) {
    const Ended ended = checked("llama", [&](json& rules) { own(rule_of(rules, parameter)); });
    EXPECT_EQ(ended.code, 3) << parameter << ended.all();
    EXPECT_TRUE(says(ended, "unsupported[BV1016]")) << ended.out;
    EXPECT_TRUE(says(ended, "my_bridge.")) << ended.out;
  }
  const Ended judged = checked("llama", [&](json& rules) {
    own(rule_of(rules, "linear_qkv.weight"));
    rule_of(rules, "linear_qkv.weight")["kind"] = "QKVMapping";
  });
  EXPECT_EQ(judged.code, 0) << "the exporter says what it does: " << judged.all();
}

/// A fork of the library: the class is stock by name and module, and was seen to do something else.
TEST(ExportedRules, AClassThatWasSeenToDoSomethingElseIsNamed) {
  const Ended ended = checked("llama", [](json& rules) {
    rule_of(rules, "linear_qkv.weight")["differs"] = "hf_to_megatron puts v where k belongs";
  });
  EXPECT_EQ(ended.code, 3) << ended.all();
  EXPECT_TRUE(says(ended, "unsupported[BV1016]")) << ended.out;
  EXPECT_TRUE(says(ended, "hf_to_megatron puts v where k belongs")) << ended.out;
}

/// The way back is Megatron's rule and then the hook: `inverse` speaks of the rule alone.
TEST(ExportedRules, AHookThatChangesWhatRulesWroteIsNamed) {
  const auto hooked = [](const json& exports) {
    return checked("qwen3", [&](json& rules) {
      rules["hooks"]["maybe_modify_converted_hf_weight"] = "MyBridge";
      rules["hooks"]["exports"] = exports;
    });
  };
  EXPECT_EQ(hooked(json::array()).code, 0) << "it was run, and changes nothing";
  for (const json& exports : {json(nullptr), json::array({"r7"})}) {
    const Ended ended = hooked(exports);
    EXPECT_EQ(ended.code, 3) << exports << ended.all();
    EXPECT_TRUE(says(ended, "unsupported[BV1021]")) << ended.out;
    EXPECT_TRUE(says(ended, "maybe_modify_converted_hf_weight of MyBridge")) << ended.out;
  }
  const Ended nobody = hooked({"r99"});
  EXPECT_EQ(nobody.code, 5) << nobody.all();
  EXPECT_TRUE(says(nobody, "hooks.exports names r99")) << nobody.err;
}

TEST(ExportedRules, AMethodThatMovesAllTensorsIsNamedUnlessItIsKnown) {
  for (const char* method :
       {"load_weights_hf_to_megatron", "stream_weights_megatron_to_hf", "build_conversion_tasks"}) {
    const auto with = [&](const json& known) {
      return checked("llama", [&](json& rules) {
        rules["hooks"][method] = "MyBridge";
        rules["hooks"]["known"] = known;
      });
    };
    const Ended own = with(json::array());
    EXPECT_EQ(own.code, 3) << method << own.all();
    EXPECT_TRUE(says(own, method + std::string(" of MyBridge"))) << own.out;
    EXPECT_EQ(with({method}).code, 0) << method;
  }
}

/// The bridge of an author is judged as what it adds to the released library: on another one
/// nothing is known.
TEST(ExportedRules, ALibraryThatIsNotTheOneThatWasReadLeavesTheRunOpen) {
  const auto on = [](const json& base) {
    return checked("llama", [&](json& rules) { rules["hooks"]["base"] = base; });
  };
  EXPECT_EQ(on(json::array()).code, 0);
  json rows = json::array();
  for (int i = 0; i < 10; ++i) {
    rows.push_back({{"name", "MegatronModelBridge._unwrap_name"},
                    {"file", "megatron/bridge/models/conversion/model_bridge.py"},
                    {"line", 1550 + i},
                    {"what", "is not that of megatron-bridge 0.6.2"}});
  }
  const Ended changed = on(rows);
  EXPECT_EQ(changed.code, 3) << changed.all();
  EXPECT_TRUE(says(changed, "unsupported[BV1021]")) << changed.out;
  EXPECT_TRUE(says(changed, "_unwrap_name is not that of megatron-bridge 0.6.2")) << changed.out;
  EXPECT_TRUE(says(changed, "conversion/model_bridge.py:1550")) << changed.out;
  EXPECT_TRUE(says(changed, "and 4 more in hooks.base")) << changed.out;
  for (const json& base : {json("text"), json::array({"text"}), json::array({json::object()})}) {
    const Ended odd = on(base);
    EXPECT_EQ(odd.code, 5) << base << odd.all();
    EXPECT_TRUE(says(odd, "hooks.base is not a list of parts of the library")) << odd.err;
  }
}

/// The rules file of the export `name` with these facts, and lines in place of rules by the ends of
/// their names.
Ended rotated(const std::string& name, const json& facts,
              const std::vector<std::pair<std::string, json>>& lines = {}) {
  return checked(name, [&](json& rules) {
    rules["facts"].erase("rotary");
    for (const auto& [key, value] : facts.items()) {
      rules["facts"][key] = value;
    }
    for (const auto& [end, line] : lines) {
      json& rule = rule_of(rules, end);
      rule.erase("class");
      rule.update(line);
    }
  });
}

const json kTurnsNeighbours = {{"rotary", {{"hf", "halves"}, {"megatron", "neighbours"}}}};

/// `there`, `here`: the rows of a head of q or k on either side, with # for the letter.
json qkv_line(const std::string& there, const std::string& here, json axes) {
  axes.update({{"g", "num_query_groups"},
               {"n", "s0d0 / s1d0"},
               {"a", "2"},
               {"e", "s2d0 / num_query_groups"}});
  const auto of = [](const std::string& rows, char letter) {
    std::string out = rows;
    std::replace(out.begin(), out.end(), '#', letter);
    return out;
  };
  return {{"layout", "q[(g n " + of(there, 'q') + ") ...], k[(g " + of(there, 'k') +
                         ") ...], v[(g e) ...] -> linear_qkv[(g (q: n " + of(here, 'q') +
                         " | k: " + of(here, 'k') + " | v: e)) ...] cut 0 by t"},
          {"axes", axes}};
}

TEST(ExportedRules, RowsThatMegatronRotatesInOtherPairsMustChangePlaces) {
  const json exchanged = qkv_line("a b", "b a", {{"b", "head_dim / 2"}});
  for (const json& facts : {kTurnsNeighbours, json{{"rotary_interleaved", true}}}) {
    const Ended plain = rotated("llama", facts);
    EXPECT_EQ(plain.code, 1) << plain.all();
    EXPECT_TRUE(says(plain, "error[BV2006]")) << plain.out;
    EXPECT_TRUE(says(plain, "linear_qkv.weight")) << plain.out;
    EXPECT_TRUE(says(plain, "Megatron rotates neighbouring rows")) << plain.out;
    const Ended right = rotated("llama", facts, {{"linear_qkv.weight", exchanged}});
    EXPECT_EQ(right.code, 0) << right.all();
  }
  const json back = qkv_line("b a", "a b", {{"b", "head_dim / 2"}});
  EXPECT_EQ(rotated("llama", kTurnsNeighbours, {{"linear_qkv.weight", back}}).code, 1);
  const Ended needless = rotated("llama", {{"rotary", {{"hf", "halves"}, {"megatron", "halves"}}}},
                                 {{"linear_qkv.weight", exchanged}});
  EXPECT_EQ(needless.code, 1) << needless.all();
  const Ended halves = rotated("ernie45", {{"rotary_interleaved", false}});
  EXPECT_EQ(halves.code, 1) << halves.all();
  EXPECT_TRUE(says(halves, "Megatron rotates row i with row i + r/2")) << halves.out;
}

TEST(ExportedRules, RowsThatDoNotTurnStayAndNormsOverHeadsFollowTheirRows) {
  json half = kTurnsNeighbours;
  half["rotary_percent"] = 0.4;  // 4 of 10 rows
  const json parts = qkv_line("(#_turns: a b | #_stays: c)", "(#_turns: b a | #_stays: c)",
                              {{"b", "2"}, {"c", "6"}});
  EXPECT_EQ(rotated("llama", half, {{"linear_qkv.weight", parts}}).code, 0);
  EXPECT_EQ(rotated("llama", kTurnsNeighbours, {{"linear_qkv.weight", parts}}).code, 1);
  const json whole = qkv_line("a b", "b a", {{"b", "head_dim / 2"}});
  const Ended norms = rotated("qwen3", kTurnsNeighbours, {{"linear_qkv.weight", whole}});
  EXPECT_EQ(norms.code, 1) << norms.all();
  EXPECT_TRUE(says(norms, "q_layernorm.weight")) << norms.out;
  const json norm = {{"layout", "x[(a b)] -> x{*t}[(b a)]"},
                     {"axes", {{"a", "2"}, {"b", "head_dim / 2"}}}};
  const Ended right = rotated(
      "qwen3", kTurnsNeighbours,
      {{"linear_qkv.weight", whole}, {"q_layernorm.weight", norm}, {"k_layernorm.weight", norm}});
  EXPECT_EQ(right.code, 0) << right.all();
}

TEST(ExportedRules, SettingsThatReadRowsInAnotherOrderAreNamed) {
  EXPECT_EQ(rotated("llama", {{"rotary_interleaved", false}}).code, 0);
  EXPECT_EQ(rotated("ernie45", {{"rotary_interleaved", true}}).code,
            checked("ernie45", [](json&) {}).code);
  EXPECT_EQ(rotated("deepseek_v3", {{"rotary_interleaved", false}}).code, 0)
      << "MLA has rows of its own";
  const Ended wrong = rotated("llama", {{"rotary", {{"hf", "halves"}}}});
  EXPECT_EQ(wrong.code, 5) << wrong.all();
  EXPECT_TRUE(says(wrong, "facts.rotary does not say")) << wrong.err;
  EXPECT_EQ(rotated("qwen3_moe", {{"moe_mlp_glu_interleave_size", nullptr}}).code, 0);
  const Ended gate = rotated("qwen3_moe", {{"moe_mlp_glu_interleave_size", 8}});
  EXPECT_EQ(gate.code, 3) << gate.all();
  EXPECT_TRUE(says(gate, "facts.moe_mlp_glu_interleave_size is 8")) << gate.out;
}

/// Half as many heads of twice the size have tensors of the same shapes, in another order.
TEST(ExportedRules, SizesOfTheProviderThatTheCheckpointDoesNotHaveAreRefuted) {
  const auto with = [](const json& facts, bool listed) {
    return checked("llama", [&](json& rules) {
      rules["facts"].update(facts);
      if (!listed) {
        rules.erase("model");
      }
    });
  };
  for (const bool listed : {true, false}) {
    for (const char* size : {"num_attention_heads", "num_query_groups", "kv_channels",
                             "hidden_size", "num_layers", "vocab_size"}) {
      const Ended ended = with({{size, 2}}, listed);
      EXPECT_EQ(ended.code, 1) << size << ended.all();
      EXPECT_TRUE(says(ended, std::string("facts.") + size + " is 2")) << ended.out;
    }
    EXPECT_EQ(with({{"vocab_size", 1024}}, listed).code, 0) << "padded";
  }
  const Ended experts =
      checked("qwen3_moe", [](json& rules) { rules["facts"]["num_moe_experts"] = 2; });
  EXPECT_EQ(experts.code, 1) << experts.all();
  for (const int layers : {1, 2}) {
    const Ended mtp = checked("qwen35.mtp", [&](json& rules) {
      rules.erase("model");
      rules["facts"]["mtp_num_layers"] = layers;
    });
    EXPECT_EQ(mtp.code, layers == 1 ? 0 : 1) << mtp.all();
  }
}

TEST(ExportedRules, WhatTheProviderBuildsAndNoRuleFillsIsRefutedWithoutAList) {
  const auto without_list = [](const char* name, const char* fact, bool value) {
    return checked(name, [&](json& rules) {
      rules.erase("model");
      rules["facts"][fact] = value;
    });
  };
  for (const auto& [fact, value, code] :
       {std::tuple("add_qkv_bias", true, "BV1003"), std::tuple("add_bias_linear", true, "BV1003"),
        std::tuple("qk_layernorm", true, "BV1003"),
        std::tuple("share_embeddings_and_output_weights", true, "BV1008"),
        std::tuple("gated_linear_unit", false, "BV2001")}) {
    const Ended ended = without_list("llama", fact, value);
    EXPECT_EQ(ended.code, 1) << fact << ended.all();
    EXPECT_TRUE(says(ended, std::string("error[") + code + "]")) << fact << ended.out;
    EXPECT_EQ(without_list("llama", fact, !value).code, 0) << fact;
  }
  const Ended untied = without_list("llama.tied", "share_embeddings_and_output_weights", false);
  EXPECT_EQ(untied.code, 1) << untied.all();
  EXPECT_TRUE(says(untied, "error[BV1008]")) << untied.out;
}

TEST(ExportedRules, SettingsOfTheProviderAreHeldAgainstTheTensorsWithoutAList) {
  const auto with = [](const char* name, const json& facts) {
    return checked(name, [&](json& rules) {
      rules.erase("model");
      rules["facts"]["layer_spec"] = "megatron.bridge.models.gpt_provider.default_layer_spec";
      rules["facts"].update(facts);
    });
  };
  for (const auto& [name, facts, said] :
       {std::tuple("llama", json{{"normalization", "LayerNorm"}}, "normalization is LayerNorm"),
        std::tuple("llama", json{{"attention_output_gate", true}},
                   "by facts.attention_output_gate"),
        std::tuple("llama", json{{"ffn_hidden_size", 64}}, "64 by facts.ffn_hidden_size"),
        std::tuple("qwen3_moe", json{{"moe_ffn_hidden_size", 32}}, "by facts.moe_ffn_hidden_size"),
        std::tuple("qwen3_moe", json{{"moe_layer_freq", {0, 1, 1, 1}}},
                   "facts.moe_layer_freq is 0"),
        std::tuple("llama", json{{"rotary_rows", {{"hf", 10}, {"megatron", 4}}}}, "rotates 4 rows"),
        std::tuple("deepseek_v3", json{{"kv_lora_rank", 3}}, "by facts.kv_lora_rank")}) {
    EXPECT_EQ(with(name, json::object()).code, 0) << name;
    const Ended ended = with(name, facts);
    EXPECT_EQ(ended.code, 1) << said << ended.all();
    EXPECT_TRUE(says(ended, said)) << ended.out;
  }
  json norms = {{"qk_layernorm", false}, {"layer_spec", "my_provider.layers"}};
  EXPECT_EQ(with("qwen3_moe", norms).code, 3) << "its layers may build them";
  norms["layer_spec"] = "megatron.bridge.models.gpt_provider.default_layer_spec";
  EXPECT_EQ(with("qwen3_moe", norms).code, 1);
  EXPECT_EQ(with("llama", {{"rotary_rows", {{"hf", nullptr}, {"megatron", 4}}}}).code, 3);
}

TEST(ExportedRules, TroubleOfTheExportIsSaidAndWithoutAListLeavesTheRunOpen) {
  const auto troubled = [](bool listed) {
    return checked("llama", [&](json& rules) {
      rules["trouble"] = {"the Megatron model cannot be built: ValueError: no such expert bias"};
      if (!listed) {
        rules.erase("model");
      }
    });
  };
  EXPECT_EQ(checked("llama", [](json& rules) { rules.erase("model"); }).code, 0);
  const Ended unlisted = troubled(false);
  EXPECT_EQ(unlisted.code, 3) << unlisted.all();
  EXPECT_TRUE(says(unlisted, "undecided[BV1019]")) << unlisted.out;
  EXPECT_TRUE(says(unlisted, "no such expert bias")) << unlisted.out;
  const Ended listed = troubled(true);
  EXPECT_EQ(listed.code, 0) << listed.all();
  EXPECT_TRUE(says(listed, "no such expert bias")) << "said all the same: " << listed.out;
}

TEST(ExportedRules, APermutationOfAStackOfExpertsIsRefusedByName) {
  for (const auto& [name, parameter] :
       {std::pair("qwen35_moe.packed", "experts.linear_fc1.weight*"),
        std::pair("qwen35_moe.packed", "experts.linear_fc2.weight*"),
        std::pair("gpt_oss", "experts.linear_fc1.weight*"),
        std::pair("gpt_oss", "experts.linear_fc2.weight*")}) {
    const Ended ended = checked(name, [&](json& rules) {
      rule_of(rules, parameter)["parameters"]["permute_dims"] = {1, 0};
    });
    EXPECT_EQ(ended.code, 1) << name << parameter << ended.all();
    EXPECT_TRUE(says(ended, "error[BV1018]")) << ended.out;
  }
}

/// What is compared is made small first: it must stay a size that the ranks can cut.
TEST(ExportedRules, AWrongCutIsRefutedAtItsParameterWhateverItsSize) {
  for (const auto& [name, parameter, cls] :
       {std::tuple("qwen3", "self_attention.linear_proj.weight", "ReplicatedMapping"),
        std::tuple("qwen3_moe", "self_attention.linear_proj.weight", "ReplicatedMapping"),
        std::tuple("deepseek_v2", "self_attention.linear_proj.weight", "ReplicatedMapping"),
        std::tuple("qwen3", "embedding.word_embeddings.weight", "RowParallelMapping"),
        std::tuple("qwen3", "output_layer.weight", "RowParallelMapping")}) {
    const Ended ended = checked(name, [&, parameter = parameter, cls = cls](json& rules) {
      for (json& rule : rules["rules"]) {
        if (rule["megatron"].get_ref<const std::string&>().ends_with(parameter)) {
          rule["class"] = cls;
        }
      }
    });
    EXPECT_EQ(ended.code, 1) << name << parameter << ended.all();
    EXPECT_TRUE(says(ended, "error[BV2001]") && says(ended, parameter)) << ended.out;
  }
}

}  // namespace
}  // namespace bv::e2e
