// Every kind of the catalogue at every small size against the oracle's independent statement of a
// parameter that the kind makes.

#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "core/base/arith.hpp"
#include "core/kinds/catalogue.hpp"
#include "oracles/oracle.hpp"
#include "properties/attacks/lines/plain.hpp"
#include "tests/properties/small_sizes.hpp"

namespace bv::lines {
namespace {

constexpr std::int64_t kTensorTag = std::int64_t{1} << 40;

using Sizes = std::map<std::string, std::int64_t, std::less<>>;

/// A parameter that a kind makes. "#" in its name is the expert.
struct Statement {
  std::string parameter;
  std::vector<std::string> hf;  // in the order of the line's sources
  std::function<Sizes(const Sizes&)> numbers = [](const Sizes&) { return Sizes{}; };
  std::function<bool(const Sizes&)> holds_for = [](const Sizes&) { return true; };
  std::string model_type = {};
  bool in_out = false;
};

constexpr std::int64_t kCarried = 2;  // the one dimension of "..."

Sizes heads_of(const Sizes& s, std::int64_t gate = -1) {
  const std::int64_t groups = s.at("g");
  const auto n = s.find("n");
  Sizes out = {{"num_query_groups", groups},
               {"num_attention_heads", groups * (n == s.end() ? 1 : n->second)}};
  if (gate >= 0) {
    out["attn_output_gate"] = gate;
  }
  return out;
}

Sizes expert_sizes(std::int64_t hidden, std::int64_t ffn) {
  return {{"hidden_size", hidden}, {"moe_intermediate_size", ffn}};
}

const std::map<std::string, Statement>& statements() {
  static const std::string attention = "decoder.layers.0.self_attention.";
  static const std::string experts = "decoder.layers.0.mlp.experts.";
  const std::vector<std::string> qkv = {"self_attn.q_proj.weight", "self_attn.k_proj.weight",
                                        "self_attn.v_proj.weight"};
  const std::vector<std::string> qkvg = {qkv[0], qkv[1], qkv[2], "self_attn.g_proj.weight"};
  static const std::map<std::string, Statement> all = {
      {"column", {attention + "linear_q_proj.weight", {"any.x"}}},
      {"heads_repeated",
       {attention + "k_layernorm.weight",
        {"self_attn.k_norm.weight"},
        [](const Sizes& s) { return heads_of(s); },
        [](const Sizes& s) {
          const std::int64_t t = s.at("t"), g = s.at("g");
          return t <= g ? g % t == 0 && s.at("r") == 1 : t == g * s.at("r");
        },
        "minimax_m2"}},
      {"row", {attention + "linear_proj.weight", {"attn.proj.weight"}}},
      {"replicated", {"decoder.layers.0.mlp.router.weight", {"mlp.gate.weight"}}},
      {"vocabulary", {"embedding.word_embeddings.weight", {"model.embed_tokens.weight"}}},
      {"qkv", {attention + "linear_qkv.weight", qkv, [](const Sizes& s) { return heads_of(s); }}},
      {"qkv_gated",
       {attention + "linear_qkv.weight", qkv, [](const Sizes& s) { return heads_of(s); }}},
      {"qkv_concat",
       {"vision_model.decoder.layers.0.self_attention.linear_qkv.weight",
        {"model.visual.blocks.0.attn.qkv.weight"},
        [](const Sizes& s) {
          return Sizes{{"vision_num_heads", s.at("g")}};
        },
        [](const Sizes& s) { return s.at("n") == 1; }}},
      {"kv",
       {"decoder.layers.0.cross_attention.linear_kv.weight",
        {"k_proj.weight", "v_proj.weight"},
        [](const Sizes& s) { return heads_of(s); }}},
      {"qkv_gate_tail",
       {attention + "linear_qkv.weight", qkvg, [](const Sizes& s) { return heads_of(s, 0); }}},
      {"qkv_gate_rows",
       {attention + "linear_qkv.weight", qkvg, [](const Sizes& s) { return heads_of(s, 1); }}},
      {"qkv_value_size",
       {attention + "linear_qkv.weight", qkv, [](const Sizes& s) { return heads_of(s); }}},
      {"qkv_keys_twice",
       {attention + "linear_qkv.weight",
        {qkv[0], qkv[1]},
        [](const Sizes& s) { return heads_of(s); },
        [](const Sizes& s) { return s.at("c") == 2; }}},
      {"qkv_queries",
       {attention + "linear_qkv.weight",
        {qkv[0]},
        [](const Sizes& s) { return heads_of(s); },
        [](const Sizes& s) { return s.at("p") == 2 * s.at("d"); }}},
      {"gated_mlp",
       {"decoder.layers.0.mlp.linear_fc1.weight", {"mlp.gate_proj.weight", "mlp.up_proj.weight"}}},
      {"gated_mlp_concat",
       {"decoder.layers.0.mlp.linear_fc1.weight",
        {"mlp.gate_up_proj.weight"},
        [](const Sizes& s) {
          return Sizes{{"intermediate_size", s.at("t") * s.at("f")}};
        }}},
      {"gdn4",
       {attention + "in_proj.weight",
        {"linear_attn.in_proj_qkv.weight", "linear_attn.in_proj_z.weight",
         "linear_attn.in_proj_b.weight", "linear_attn.in_proj_a.weight"}}},
      {"gdn2",
       {attention + "in_proj.weight",
        {"linear_attn.in_proj_qkvz.weight", "linear_attn.in_proj_ba.weight"},
        [](const Sizes& s) {
          return Sizes{{"linear_num_key_heads", s.at("t") * s.at("a")},
                       {"linear_num_value_heads", s.at("t") * s.at("a") * s.at("r")},
                       {"linear_key_head_dim", s.at("c")},
                       {"linear_value_head_dim", s.at("e")}};
        }}},
      {"gdn_conv",
       {attention + "conv1d.weight",
        {"linear_attn.conv1d.weight"},
        [](const Sizes& s) {
          return Sizes{{"linear_num_key_heads", s.at("t") * s.at("a")},
                       {"linear_num_value_heads", s.at("t") * s.at("b")},
                       {"linear_key_head_dim", s.at("c")},
                       {"linear_value_head_dim", s.at("e")}};
        }}},
      {"mamba_in",
       {"decoder.layers.0.mixer.in_proj.weight",
        {"mixer.in_proj.weight"},
        [](const Sizes& s) {
          return Sizes{{"mamba_num_heads", s.at("t") * s.at("m")},
                       {"mamba_head_dim", s.at("i") / s.at("m")},
                       {"mamba_num_groups", s.at("t")},
                       {"mamba_state_dim", s.at("s")}};
        },
        [](const Sizes& s) { return s.at("i") % s.at("m") == 0; }}},
      {"mamba_conv",
       {"decoder.layers.0.mixer.conv1d.weight",
        {"mixer.conv1d.weight"},
        [](const Sizes& s) {
          return Sizes{{"mamba_num_heads", s.at("t") * s.at("i")},
                       {"mamba_head_dim", 1},
                       {"mamba_num_groups", s.at("t")},
                       {"mamba_state_dim", s.at("s")}};
        }}},
      {"packed_fc1",
       {experts + "linear_fc1.weight#",
        {"mlp.experts.gate_up_proj"},
        [](const Sizes& s) { return expert_sizes(kCarried, s.at("t") * s.at("f")); }}},
      {"packed_column", {experts + "linear_fc1.weight#", {"mixer.experts.up_proj"}}},
      {"packed_column_in_out",
       {experts + "linear_fc1.weight#",
        {"mixer.experts.up_proj"},
        [](const Sizes& s) { return expert_sizes(s.at("h"), s.at("t") * s.at("o")); },
        [](const Sizes&) { return true; },
        "",
        true}},
      {"packed_fc2",
       {experts + "linear_fc2.weight#",
        {"mlp.experts.down_proj"},
        [](const Sizes& s) { return expert_sizes(s.at("o"), s.at("t") * s.at("i")); }}},
      {"packed_fc1_in_out",
       {experts + "linear_fc1.weight#",
        {"mlp.experts.gate_up_proj"},
        [](const Sizes& s) { return expert_sizes(s.at("h"), s.at("t") * s.at("f")); },
        [](const Sizes&) { return true; },
        "",
        true}},
      {"packed_fc2_in_out",
       {experts + "linear_fc2.weight#",
        {"mlp.experts.down_proj"},
        [](const Sizes& s) { return expert_sizes(s.at("o"), s.at("t") * s.at("i")); },
        [](const Sizes&) { return true; },
        "",
        true}},
      {"packed_fc1_pair",
       {experts + "linear_fc1.weight#",
        {"mlp.experts.gate_up_proj"},
        [](const Sizes& s) { return expert_sizes(kCarried, s.at("t") * s.at("f")); }}},
      {"gpt_oss_fc1",
       {experts + "linear_fc1.weight#",
        {"mlp.experts.gate_up_proj"},
        [](const Sizes& s) { return expert_sizes(s.at("h"), s.at("t") * s.at("f")); },
        [](const Sizes&) { return true; },
        "gpt_oss"}},
      {"gpt_oss_fc1_bias",
       {experts + "linear_fc1.bias#",
        {"mlp.experts.gate_up_proj_bias"},
        [](const Sizes& s) { return expert_sizes(kCarried, s.at("t") * s.at("f")); },
        [](const Sizes&) { return true; },
        "gpt_oss"}},
      {"stacked_fc1",
       {experts + "linear_fc1.weight#", {"moe.gate_proj.weight", "moe.up_proj.weight"}}},
      {"column_exchanged_halves",
       {"mtp.layers.0.eh_proj.weight", {"model.mtp_layers.0.input_proj.weight"}}},
      {"squeezed",
       {"decoder.layers.0.mlp.router.expert_bias",
        {"mlp.moe_statics.e_score_correction_bias"},
        [](const Sizes&) { return Sizes{}; },
        [](const Sizes& s) { return s.at("one") == 1; }}},
      {"transposed", {"decoder.layers.0.mlp.text_moe_layer.router.weight", {"mlp.gate.weight"}}},
      {"column_transposed",
       {"multi_modal_projector.proj.weight", {"multi_modal_projector.mm_input_projection_weight"}}},
      {"packed_bias", {experts + "linear_fc2.bias#", {"mlp.experts.down_proj_bias"}}},
  };
  return all;
}

oracle::Question question_about(const Statement& statement, const layout::BoundRule& bound,
                                const layout::Binding& binding, const GridPlace& place,
                                std::int64_t rank) {
  oracle::Question out;
  out.parameter = statement.parameter;
  if (const std::size_t mark = out.parameter.find('#'); mark != std::string::npos) {
    out.expert = place.grid.at("E");
    out.parameter.replace(mark, 1, std::to_string(out.expert));
  }
  out.numbers = statement.numbers(binding.axes);
  out.hf_names = statement.hf;
  for (std::size_t i = 0; i < bound.source_shapes().size(); ++i) {
    oracle::TaggedTensor tensor{bound.source_shapes()[i], {}};
    const std::int64_t elements = element_count(tensor.shape).value();
    for (std::int64_t at = 0; at < elements; ++at) {
      tensor.tags.push_back(static_cast<std::int64_t>(i) * kTensorTag + at);
    }
    out.hf.push_back(std::move(tensor));
  }
  out.shard_size = binding.axes.at("t");
  out.shard_rank = rank;
  if (bound.rule().name == "vocabulary") {
    out.padded_vocab = binding.axes.at("v") + binding.axes.at("p");
  }
  out.in_out_stack = statement.in_out;
  out.model_type = statement.model_type;
  return out;
}

std::vector<std::int64_t> tags_of(const layout::Shard& shard) {
  std::vector<std::int64_t> out;
  for (const From& from : shard_of_boxes(shard)) {
    out.push_back(from.source < 0 ? -1 : from.source * kTensorTag + from.element);
  }
  return out;
}

/// Cases on which a line and the oracle disagree, and how many there were.
struct Compared {
  int cases = 0;
  int different = 0;
  std::string first;
};

Compared compare(const layout::Rule& rule, const Statement& statement) {
  Compared out;
  for_each_size(rule, [&](const layout::BoundRule& bound, const layout::Binding& binding) {
    const bool carries = layout::print(rule).find("...") != std::string::npos;
    if (!statement.holds_for(binding.axes) || binding.rest.empty() == carries) {
      return;  // the statement is about weights: "..." is their input features
    }
    for (const GridPlace& place : grid_places(bound)) {
      const auto t = place.grid.find("t");
      const std::int64_t first = t == place.grid.end() ? 0 : t->second;
      const std::int64_t last = t == place.grid.end() ? binding.axes.at("t") - 1 : first;
      for (std::int64_t rank = first; rank <= last; ++rank) {  // all ranks of a replica
        const auto question = question_about(statement, bound, binding, place, rank);
        const auto wanted = oracle::wanted_shard(question);
        const layout::Shard shard = bound.shard(place.target, place.grid);
        const bool same = wanted && wanted->shape == shard.shape && wanted->tags == tags_of(shard);
        ++out.cases;
        if (!same && out.different++ == 0) {
          out.first = oracle::why_unanswered(question);
          for (const auto& [axis, size] : binding.axes) {
            out.first += " " + axis + "=" + std::to_string(size);
          }
        }
      }
    }
  });
  return out;
}

TEST(KindsAndOracle, AgreeOnEverySmallSize) {
  const auto catalogue = kinds::load_catalogue().value();
  int cases = 0;
  for (const layout::Rule& rule : catalogue.rules()) {
    const auto statement = statements().find(rule.name);
    ASSERT_NE(statement, statements().end()) << "no statement about " << rule.name;
    const Compared found = compare(rule, statement->second);
    EXPECT_EQ(found.different, 0) << rule.name << ": " << found.first;
    EXPECT_GT(found.cases, 8) << rule.name;
    cases += found.cases;
  }
  EXPECT_GT(cases, 3000);
}

TEST(KindsAndOracle, DisagreeOnEveryLineWithTwoPartsExchanged) {
  const std::map<std::string, std::string> wrong = {
      {"gated_mlp", "gate[(t f) ...], up[(t f) ...] -> y{t}[(up: f | gate: f) ...]"},
      {"gated_mlp_concat", "x[(gate: t f | up: t f) ...] -> y{t}[(up: f | gate: f) ...]"},
      {"qkv",
       "q[(g n d) ...], k[(g d) ...], v[(g d) ...] -> y[(g (q: n d | v: d | k: d)) ...] cut 0 by "
       "t"},
      {"qkv_value_size",
       "q[(g n d) ...], k[(g d) ...], v[(g e) ...] -> y[(g (q: n d | v: e | k: d)) ...] cut 0 by "
       "t"},
      {"qkv_keys_twice",
       "q[(g n d) ...], k[(g d) ...] -> y[(g (k: *c d | q: n d)) ...] cut 0 by t"},
      {"qkv_queries", "q[(g n d) ...] -> y[(g (pad: p | q: n d)) ...] cut 0 by t"},
      {"packed_fc1", "x[E (gate: t f | up: t f) ...] -> y{E t}[(up: f | gate: f) ...]"},
      {"stacked_fc1", "gate[E (t f) ...], up[E (t f) ...] -> y{E t}[(up: f | gate: f) ...]"},
      {"column_exchanged_halves",
       "x[(t o) (hidden: h | embedding: h)] -> y{t}[o (hidden: h | embedding: h)]"},
      {"gpt_oss_fc1", "x[E h (t f (gate: 1 | up: 1))] -> y{E t}[(up: f | gate: f) h]"}};
  for (const auto& [kind, line] : wrong) {
    const auto rule = layout::parse_rule(kind + " " + line).value();
    ASSERT_TRUE(layout::prove_bijection(rule)) << line;
    const Compared found = compare(rule, statements().at(kind));
    // A rank of a cut may hold rows of the first part alone.
    EXPECT_GT(found.different * 4, found.cases * 3) << kind;
    EXPECT_GT(found.cases, 8) << kind;
  }
}

TEST(KindsAndOracle, DisagreeOnCopiesOfAllHeadsBehindEachOther) {
  const auto rule =
      layout::parse_rule("heads_repeated x[(g d) ...] -> x[(*r g d) ...] cut 0 by t").value();
  Statement several = statements().at("heads_repeated");
  // Where a head has several ranks, and there are several heads: the ranks between the first and
  // the last have another head.
  several.holds_for = [](const Sizes& s) {
    return s.at("r") > 1 && s.at("g") > 1 && s.at("t") == s.at("g") * s.at("r");
  };
  const Compared found = compare(rule, several);
  EXPECT_GT(found.cases, 8);
  EXPECT_GE(found.different * 2, found.cases);
  Statement one = several;
  one.holds_for = [](const Sizes& s) { return s.at("g") == 1 && s.at("t") == s.at("r"); };
  EXPECT_EQ(compare(rule, one).different, 0) << compare(rule, one).first;
}

}  // namespace
}  // namespace bv::lines
