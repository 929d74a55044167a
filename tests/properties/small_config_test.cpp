// The small config keeps the structure of a published model.
#include "properties/claims/small_config.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "core/family/expression.hpp"
#include "core/family/family.hpp"
#include "core/kinds/catalogue.hpp"
#include "properties/claims/compared_sizes.hpp"
#include "properties/claims/size_roles.hpp"

namespace bv::claims {
namespace {

using nlohmann::json;
using Sizes = std::vector<std::int64_t>;

family::FamilyPtr family_of(const json& config) {
  return model::choose_family(config, family::builtin_families().value()).value();
}

model::Model resolved(const json& config) {
  model::ResolveOptions options;
  options.config_only = true;
  return model::resolve(family_of(config), config, {}, options).value();
}

json llama() {
  return json::parse(R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
      "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
      "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
      "head_dim": 128, "tie_word_embeddings": false})");
}

json hybrid() {
  return json::parse(R"({"architectures": ["Qwen3_5MoeForCausalLM"],
      "model_type": "qwen3_5_moe_text", "hidden_size": 4096, "head_dim": 256,
      "num_hidden_layers": 60, "num_attention_heads": 32, "num_key_value_heads": 2,
      "full_attention_interval": 4, "linear_num_key_heads": 16, "linear_num_value_heads": 64,
      "linear_key_head_dim": 128, "linear_value_head_dim": 128, "num_experts": 512,
      "num_experts_per_tok": 10, "moe_intermediate_size": 1024,
      "shared_expert_intermediate_size": 1024, "vocab_size": 248320,
      "mtp_num_hidden_layers": 1})");
}

/// A tower whose sizes are those of the headers here, and of the config there.
TEST(ComparedSizes, ANumberBesideASymbolIsMadeSmallToo) {
  const model::Model model = resolved(llama());
  const kinds::Catalogue kinds = kinds::load_catalogue().value();
  family::Rule rule;
  rule.kind = "replicated";
  rule.hf = {{"x", "tower.mlp.weight"}};
  for (const auto& [rest, wanted] : std::vector<std::pair<std::vector<std::string>, Sizes>>{
           {{"500000", "hidden_size"}, {64, 63}},
           {{"hidden_size", "500000"}, {64, 63}},
           {{"500000", "3", "3"}, {64, 3, 3}},
           {{"500000"}, {64}}}) {
    rule.rest = rest;
    const plan::Rebinding small = reduced(model, rule, kinds, {});
    ASSERT_TRUE(small.rest.has_value()) << rest.front();
    EXPECT_EQ(*small.rest, wanted) << rest.front();
    EXPECT_TRUE(plan::binding_of(model.geometry, rule, {}, small).has_value());
  }
  rule.rest = {"hidden_size", "3"};
  EXPECT_FALSE(reduced(model, rule, kinds, {}).rest.has_value()) << "its symbol makes it small";
}

TEST(SmallConfig, DividesEveryWidthByOneNumberAndKeepsTheHeads) {
  const model::Model model = resolved(llama());
  const json small = shrunk_config(llama(), {&model, {}}, 2, {32, 1});
  EXPECT_EQ(small["hidden_size"], 128);
  EXPECT_EQ(small["intermediate_size"], 448);
  EXPECT_EQ(small["head_dim"], 4);  // 32 x 4 is the hidden size again
  EXPECT_EQ(small["num_attention_heads"], 32);
  EXPECT_EQ(small["num_key_value_heads"], 8);
  EXPECT_EQ(small["num_hidden_layers"], 2);
  EXPECT_LT(small["vocab_size"], 128);
}

TEST(SmallConfig, KeepsALayerOfEachKindAndFillsThePipeline) {
  const model::Model model = resolved(hybrid());
  EXPECT_EQ(least_layers({&model, {}}), 4);
  EXPECT_EQ(least_layers({&model, {.pp = 3}}), 6);
  EXPECT_EQ(least_layers({&model, {.pp = 2, .vpp = 3}}), 6);
  EXPECT_EQ(least_layers({&model, {.pp = 4, .first_stage_layers = 9}}), 12);
  EXPECT_EQ(least_layers({&model, {.pp = 128}}), std::nullopt);
}

TEST(SmallConfig, LeavesExpertsForEveryRankAndTheRouter) {
  const model::Model model = resolved(hybrid());
  const json one = shrunk_config(hybrid(), {&model, {}}, 4, {32, 1});
  EXPECT_EQ(one["num_experts"], 4);
  EXPECT_EQ(one["num_experts_per_tok"], 2);
  EXPECT_EQ(shrunk_config(hybrid(), {&model, {.ep = 8}}, 4, {32, 1})["num_experts"], 16);
}

TEST(SmallConfig, AVocabularyThatNeedsPaddingStillDoes) {
  const model::Model model = resolved(llama());
  const parallel::Layout padded{.tp = 2, .vocab_divisor = 128};
  json odd = llama();
  odd["vocab_size"] = 128257;
  const auto rows = [&](const json& config) {
    return shrunk_config(config, {&model, padded}, 2, {32, 1})["vocab_size"].get<std::int64_t>();
  };
  EXPECT_EQ(rows(llama()) % 256, 0);
  EXPECT_NE(rows(odd) % 256, 0);
}

/// A new family that calls a size by a new name would have no small model.
TEST(SmallConfig, EveryNumberThatARuleStandsOnHasARole) {
  const auto families = family::builtin_families().value();
  for (const family::FamilyPtr& family : families) {
    std::set<std::string> seen;
    const std::function<void(const std::string&)> look = [&](const std::string& expression) {
      for (const std::string& word : family::identifiers(expression)) {
        const family::SymbolRule* symbol = family->symbol(word);
        if (symbol == nullptr || symbol->flag || !symbol->equals.empty() ||
            !seen.insert(word).second) {
          continue;
        }
        if (symbol->value) {
          look(*symbol->value);
        } else {
          EXPECT_TRUE(role_of(word)) << family->name << ": " << word;
        }
      }
    };
    for (const family::Section& section : family->sections) {
      if (section.stage == family::Stage::Vision) {
        continue;  // towers shrink by fields of their own, or take no part
      }
      look(section.over);
      for (std::size_t i = section.first_rule; i < section.end_rule; ++i) {
        for (const auto& axis : family->rules[i].axes) {
          look(axis.second);
        }
        for (const std::string& rest : family->rules[i].rest) {
          look(rest);
        }
        look(family->rules[i].experts);
      }
    }
  }
}

TEST(SmallConfig, FindsSizesWhereverTheFamilyReadsThem) {
  json wrapped = llama();
  wrapped.erase("architectures");
  wrapped["model_type"] = "qwen2";
  const json omni = {{"architectures", {"Qwen2_5OmniForConditionalGeneration"}},
                     {"model_type", "qwen2_5_omni"},
                     {"thinker_config", {{"text_config", wrapped}}}};
  const model::Model model = resolved(omni);
  const json small = shrunk_config(omni, {&model, {}}, 2, {32, 1});
  const json& text = small["thinker_config"]["text_config"];
  EXPECT_EQ(text["hidden_size"], 128);
  EXPECT_EQ(text["num_hidden_layers"], 2);
  EXPECT_LT(text["vocab_size"], 128);
}

TEST(SmallConfig, LeavesAsManyExpertsAsATokenTakes) {
  json config = hybrid();
  config["moe_topk"] = config["num_experts_per_tok"];
  config.erase("num_experts_per_tok");
  const model::Model model = resolved(config);
  const json small = shrunk_config(config, {&model, {}, "moe_topk"}, 4, {32, 1});
  EXPECT_EQ(small["num_experts"], 4);
  EXPECT_EQ(small["moe_topk"], 2);
}

TEST(SmallConfig, SmallModelsKeepTheirSizes) {
  json tiny = llama();
  tiny.update({{"hidden_size", 24},
               {"intermediate_size", 36},
               {"num_hidden_layers", 2},
               {"num_attention_heads", 4},
               {"num_key_value_heads", 2},
               {"vocab_size", 92},
               {"head_dim", 6}});
  const model::Model model = resolved(tiny);
  EXPECT_EQ(shrunk_config(tiny, {&model, {}}, 2, {1, 1}), tiny);
}

}  // namespace
}  // namespace bv::claims
