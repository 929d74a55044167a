#include "core/checkpoint/open_model.hpp"
#include "core/plan/legality.hpp"
#include "tests/conditions/condition.hpp"
#include "tests/conditions/own_family.hpp"

namespace bv::conditions {
namespace {

/// A layout of a model whose config has these fields; the vocabulary is padded.
Provocation sized(const std::string& golden, const Words& settings, const Words& layout_words) {
  Words words = layout_words;
  for (const std::string& one : settings) {
    words.insert(words.end(), {"--set", one});
  }
  words.insert(words.end(), {"--make-vocab-size-divisible-by", "1"});
  return layout(golden, words);
}

/// A geometry or a layout that no command makes: `symbol` is set to `value`.
Provocation stated(const std::string& golden, const std::string& symbol, std::int64_t value,
                   const parallel::Layout& layout) {
  return [=]() -> std::string {
    const auto families = family::builtin_families().value();
    auto opened = checkpoint::open_hf(support::golden_hf(golden), families, {});
    if (!opened) {
      return "not opened: " + opened.error().message;
    }
    opened->model.geometry.symbols[symbol] = value;
    const auto legal = plan::check_layout(opened->model, layout);
    return legal ? "" : text_of(legal.error());
  };
}

/// E021 makes the value heads a multiple of the key heads, so E019 always comes first; only a
/// geometry that no config gives has E020 alone.
Provocation value_heads(std::int64_t heads) {
  parallel::Layout layout;
  layout.tp = 4;
  layout.vocab_divisor = 1;
  return stated("qwen3_5_dense", "linear_num_value_heads", heads, layout);
}

/// Commands pad a vocabulary that TP does not divide; only a layout from elsewhere has E023.
Provocation unpadded(std::int64_t rows) {
  parallel::Layout layout;
  layout.tp = 2;
  return stated("llama", "vocab_size", rows, layout);
}

/// A Mamba layer of a family of our own: two groups of state, four heads.
Provocation mamba(const std::string& tp) {
  return [tp]() -> std::string {
    const auto model = own_model(kMambaFamily);
    parallel::Layout layout;
    layout.tp = std::stoll(tp);
    const auto legal = plan::check_layout(model, layout);
    return legal ? "" : text_of(legal.error());
  };
}

std::vector<Row> text_rows() {
  return {
      {"E010",
       "BV2002",
       {"TP=3 does not divide the 8 query heads of self_attention.linear_qkv",
        "8 query heads, TP=3", "legal TP for this model: 1 2 4"},
       sized("llama", {}, {"--tp", "3"}),
       sized("llama", {}, {"--tp", "4"})},
      {"E011",
       "BV2002",
       {"TP=6 does not divide the 4 query groups of self_attention.linear_qkv",
        "TP that divides 4, or a multiple of it"},
       sized("llama", {"num_attention_heads=12"}, {"--tp", "6"}),
       sized("llama", {"num_attention_heads=12", "num_key_value_heads=3"}, {"--tp", "6"})},
      {"E012",
       "BV2002",
       {"num_query_groups=3 (num_key_value_heads) does not divide num_attention_heads=8",
        "a multiple of 3"},
       sized("llama", {"num_key_value_heads=3", "num_attention_heads=8"}, {}),
       sized("llama", {"num_key_value_heads=2", "num_attention_heads=8"}, {})},
      {"E013",
       "BV2002",
       {"TP=4 does not divide the 6 rows of self_attention.linear_qkv", "TP that divides 6"},
       sized("llama", {"num_attention_heads=4", "num_key_value_heads=1", "head_dim=1"},
             {"--tp", "4"}),
       sized("llama", {"num_attention_heads=4", "num_key_value_heads=1", "head_dim=2"},
             {"--tp", "4"})},
      {"E014",
       "BV2002",
       {"TP=4 does not divide the 38 ", "TP that divides 38"},
       sized("llama", {"intermediate_size=38"}, {"--tp", "4"}),
       sized("llama", {"intermediate_size=40"}, {"--tp", "4"})},
      {"E023",
       "BV2002",
       {"TP=2 does not divide the 131 vocabulary rows of embedding.word_embeddings",
        "pad the vocabulary with --make-vocab-size-divisible-by N"},
       unpadded(131),
       unpadded(132)},
      {"E024",
       "BV2001",
       {"embedding.word_embeddings.weight", "[130, 24]", "[132, 24]"},
       back({"llama",
             {"--tp", "1", "--make-vocab-size-divisible-by", "4"},
             "pp0_tp0_ep0_etp0",
             [](auto& tensors) {
               support::EditedTensor& rows = tensors.at("embedding.word_embeddings.weight");
               rows.bytes.resize(rows.bytes.size() / 132 * 130);
               rows.shape[0] = 130;
             }}),
       back({"llama", {"--tp", "1", "--make-vocab-size-divisible-by", "4"}, {}}),
       "padded rows are a ceiling of the vocabulary, never below it; a shard with fewer rows is "
       "refused"},
      {"E025",
       "BV2002",
       {"TP=4 does not divide the 22 ", "TP that divides 22"},
       sized("qwen3_5_dense_mtp", {"hidden_size=22"}, {"--tp", "4"}),
       sized("qwen3_5_dense_mtp", {"hidden_size=20"}, {"--tp", "4"})},
  };
}

std::vector<Row> expert_rows() {
  return {
      {"E015",
       "BV2002",
       {"TP=4 does not divide the 22 ", "TP that divides 22"},
       sized("qwen3_5_moe_packed", {"shared_expert_intermediate_size=22"}, {"--tp", "4"}),
       sized("qwen3_5_moe_packed", {"shared_expert_intermediate_size=24"}, {"--tp", "4"})},
      {"E016",
       "BV2002",
       {"ETP=3 does not divide the 16 expert FFN rows of mlp.experts.linear_fc1",
        "legal ETP for this model: 1 2 4 8 16"},
       sized("qwen3_moe", {}, {"--etp", "3"}),
       sized("qwen3_moe", {}, {"--etp", "4"})},
      {"E017",
       "BV2002",
       {"EP=3 does not divide the 8 experts", "legal EP for this model: 1 2 4 8"},
       sized("qwen3_moe", {}, {"--ep", "3"}),
       sized("qwen3_moe", {}, {"--ep", "4"})},
      {"E018",
       "BV0003",
       {"EP=2 on a model without experts", "EP=1"},
       sized("llama", {}, {"--ep", "2"}),
       sized("llama", {}, {"--ep", "1"})},
  };
}

std::vector<Row> delta_net_rows() {
  return {
      {"E019",
       "BV2002",
       {"TP=4 does not divide the 6 linear key heads", "that divides 6"},
       sized("qwen3_5_dense", {"linear_num_key_heads=6"}, {"--tp", "4"}),
       sized("qwen3_5_dense", {"linear_num_key_heads=4"}, {"--tp", "4"})},
      {"E019",
       "BV2002",
       {"CP*TP=8 does not divide the 4 linear key heads"},
       sized("qwen3_5_dense", {}, {"--tp", "2", "--cp", "4"}),
       sized("qwen3_5_dense", {}, {"--tp", "2", "--cp", "2"})},
      {"E020",
       "BV2002",
       {"TP=4 does not divide the 6 linear value heads", "that divides 6"},
       value_heads(6),
       value_heads(8),
       "the key heads divide the value heads, so E019 is said first for every config; the "
       "numbers of an opened model are changed"},
      {"E021",
       "BV2002",
       {"linear_num_key_heads=4 does not divide linear_num_value_heads=10", "a multiple of 4"},
       sized("qwen3_5_dense", {"linear_num_value_heads=10"}, {}),
       sized("qwen3_5_dense", {"linear_num_value_heads=8"}, {})},
      {"E026",
       "BV2002",
       {"TP=4 does not divide the 2 mamba groups", "TP that divides 2"},
       mamba("4"),
       mamba("2"),
       "no built-in family has Mamba layers; the family of the row has one"},
  };
}

std::vector<Row> vision_rows() {
  return {
      {"E022",
       "BV2002",
       {"TP=4 does not divide the 2 ", "TP that divides 2"},
       sized("qwen3_vl", {"vision_config.num_heads=2"}, {"--tp", "4"}),
       sized("qwen3_vl", {"vision_config.num_heads=4"}, {"--tp", "4"})},
      {"E022",
       "BV2002",
       {"TP=4 does not divide the 46 ", "TP that divides 46"},
       sized("qwen3_vl", {"vision_config.intermediate_size=46"}, {"--tp", "4"}),
       sized("qwen3_vl", {"vision_config.intermediate_size=48"}, {"--tp", "4"})},
  };
}

}  // namespace

std::vector<Row> size_rows() {
  std::vector<Row> out = text_rows();
  for (const auto& more : {expert_rows(), delta_net_rows(), vision_rows()}) {
    out.insert(out.end(), more.begin(), more.end());
  }
  return out;
}

}  // namespace bv::conditions
