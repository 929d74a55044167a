// Ranks, stages and acceptance (P9, P10, P11), each with a planted fault.

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/plan/legality.hpp"
#include "properties/attacks/generators/layouts.hpp"
#include "properties/attacks/generators/simplest_first.hpp"

namespace bv::generators {
inline void showValue(const Layout& draw, std::ostream& out) {
  print(layout_fields(), draw, out);
}
}  // namespace bv::generators

namespace bv::parallel {
namespace {

using Draw = generators::Layout;

Draw drawn(std::uint64_t seed) {
  generators::Random random(seed);
  return generators::draw(generators::layout_fields(), random);
}

/// "" when coordinates name their rank again, and each names one rank; `change` plants a fault.
std::string rank_fault(const Layout& layout, std::int64_t world,
                       const std::function<void(Coordinates&)>& change) {
  const auto table = rank_table(layout, world);
  if (!table) {
    return table.error().message;
  }
  std::set<std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t>> dense;
  for (std::size_t rank = 0; rank < table->size(); ++rank) {
    Coordinates at = (*table)[rank];
    dense.insert({at.tp, at.cp, at.dp, at.pp});
    if (change) {
      change(at);
    }
    const auto back = rank_of(layout, world, at);
    if (!back || *back != static_cast<std::int64_t>(rank)) {
      return "rank " + std::to_string(rank) + " has coordinates of another one";
    }
  }
  return dense.size() == table->size() ? "" : "two ranks have the same coordinates";
}

/// Every size of 1, 2, 3 in every place, both orders, the smallest world and twice that.
int rank_faults(const std::function<void(Coordinates&)>& change) {
  int faults = 0;
  for (int code = 0; code < 3 * 3 * 3 * 3 * 3 * 2 * 2; ++code) {
    int left = code;
    const auto take = [&left](int ways) {
      const int out = left % ways;
      left /= ways;
      return out;
    };
    Layout layout;
    layout.tp = 1 + take(3);
    layout.pp = 1 + take(3);
    layout.ep = 1 + take(3);
    layout.etp = 1 + take(3);
    layout.cp = 1 + take(3);
    layout.pp_before_dp = take(2) == 1;
    const std::int64_t world = minimum_world(layout) * (1 + take(2));
    const bool unequal = layout.tp * layout.cp != layout.etp * layout.ep;
    if (layout.pp_before_dp && layout.pp > 1 && unequal) {
      EXPECT_EQ(rank_table(layout, world).error().code, Code::Conflict);  // E042
      continue;
    }
    faults += rank_fault(layout, world, change).empty() ? 0 : 1;
  }
  return faults;
}

// P9
TEST(Ranks, AreTheirCoordinatesInBothOrders) {
  EXPECT_EQ(rank_faults({}), 0);
}

TEST(Ranks, SwappedCoordinatesAreSeen) {
  EXPECT_GT(rank_faults([](Coordinates& at) { std::swap(at.tp, at.dp); }), 100);
  EXPECT_GT(rank_faults([](Coordinates& at) { std::swap(at.ep, at.etp); }), 50);
}

/// "" when the stages are prefix sums over all layers and hold the ends once.
std::string stage_fault(const std::vector<StageContents>& stages, const Layout& layout,
                        std::int64_t layers, std::int64_t mtp_layers) {
  std::int64_t next = 0;
  std::int64_t next_mtp = 0;
  int embeddings = 0;
  int outputs = 0;
  int norms = 0;
  std::set<std::pair<std::int64_t, std::int64_t>> places;
  for (const StageContents& stage : stages) {
    if (stage.first_layer != next || stage.layers < 0 || stage.first_mtp != next_mtp) {
      return "a stage does not begin where the one before it ends";
    }
    next += stage.layers;
    next_mtp += stage.mtp_layers;
    embeddings += stage.embedding ? 1 : 0;
    outputs += stage.output ? 1 : 0;
    norms += stage.final_norm ? 1 : 0;
    places.insert({stage.vp, stage.pp});
  }
  if (next != layers || next_mtp != mtp_layers) {
    return "a layer is on no stage, or on two";
  }
  const auto wanted = static_cast<std::size_t>(layout.pp * virtual_stages(layout));
  if (stages.size() != wanted || places.size() != wanted) {
    return "a chunk has no stage";
  }
  return embeddings == 1 && outputs == 1 && norms == 1 ? "" : "an end stands not exactly once";
}

// P10
RC_GTEST_PROP(Stages, ArePrefixSumsOverAllLayers, ()) {
  const Draw draw = *generators::described(generators::layout_fields());
  const auto mtp = *generators::simplest_first<std::int64_t>({0, 1, 2});
  const Layout layout = generators::pipeline_of(draw, mtp);
  const std::int64_t layers = generators::layers_of(draw);
  const auto stages = plan_stages(layout, layers, mtp);
  RC_ASSERT(stages.has_value());
  RC_ASSERT(stage_fault(*stages, layout, layers, mtp) == "");
}

TEST(Stages, AnOffsetThatForgetsAnUnevenStageIsSeen) {
  int seen = 0;
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    const Draw draw = drawn(seed);
    const Layout layout = generators::pipeline_of(draw, 1);
    auto stages = plan_stages(layout, generators::layers_of(draw), 1).value();
    const std::int64_t each =
        generators::layers_of(draw) / static_cast<std::int64_t>(stages.size());
    for (std::size_t i = 0; i < stages.size(); ++i) {
      stages[i].first_layer = static_cast<std::int64_t>(i) * each;
    }
    seen += stage_fault(stages, layout, generators::layers_of(draw), 1).empty() ? 0 : 1;
  }
  EXPECT_GT(seen, 50);
  EXPECT_LT(seen, 450);
}

/// What docs/reference/semantics.md#conditions says of a split, written down again. `without`
/// leaves one condition out: the planted fault.
bool accepted(const Layout& l, std::int64_t layers, const std::string& without) {
  const auto holds = [&](const char* code, bool condition) { return condition || without == code; };
  const std::int64_t first = l.first_stage_layers.value_or(0);
  const std::int64_t last = l.last_stage_layers.value_or(0);
  const bool ends = first != 0 || last != 0;
  const std::int64_t counted = (l.account_for_embedding ? 1 : 0) + (l.account_for_loss ? 1 : 0);
  if (!holds("E037", l.vpp == 1 || l.pp > 1) || !holds("E032", !ends || counted == 0)) {
    return false;
  }
  if (!ends) {
    const std::int64_t total = layers + counted;
    return holds("E030", total % l.pp == 0) && holds("E031", total / l.pp % l.vpp == 0);
  }
  const std::int64_t middle = l.pp - (first != 0 ? 1 : 0) - (last != 0 ? 1 : 0);
  const std::int64_t left = layers - first - last;
  const bool whole = middle >= 0 && left >= 0 && (middle == 0) == (left == 0) &&
                     (middle == 0 || left % middle == 0);
  const bool no_middle = l.pp == 2 && first != 0 && last != 0 && l.vpp > 1;
  if (!holds("E033", whole) || !holds("E033 vpp", !no_middle)) {
    return false;
  }
  const bool chunks =
      first % l.vpp == 0 && last % l.vpp == 0 && (middle <= 0 || left / middle % l.vpp == 0);
  return holds("E031", chunks);
}

/// Splits on which the planner and the book disagree, over all small ones.
int disagreements(const std::string& without) {
  int out = 0;
  for (std::int64_t layers = 1; layers <= 8; ++layers) {
    for (int code = 0; code < 4 * 3 * 4 * 4 * 2 * 2; ++code) {
      int left = code;
      const auto take = [&left](int ways) {
        const int value = left % ways;
        left /= ways;
        return static_cast<std::int64_t>(value);
      };
      Layout layout;
      layout.pp = 1 + take(4);
      layout.vpp = 1 + take(3);
      if (const std::int64_t first = take(4); first > 0) {
        layout.first_stage_layers = first;
      }
      if (const std::int64_t last = take(4); last > 0) {
        layout.last_stage_layers = last;
      }
      layout.account_for_embedding = take(2) == 1;
      layout.account_for_loss = take(2) == 1;
      const bool planned = plan_stages(layout, layers, 0).has_value();
      out += planned == accepted(layout, layers, without) ? 0 : 1;
    }
  }
  return out;
}

// P11, the stages: exact at the boundary.
TEST(Acceptance, OfASplitIsWhatTheBookSays) {
  EXPECT_EQ(disagreements(""), 0);
}

TEST(Acceptance, AnyConditionOfASplitThatIsLeftOutIsSeen) {
  for (const char* code : {"E030", "E031", "E032", "E033", "E033 vpp", "E037"}) {
    EXPECT_GT(disagreements(code), 0) << code;
  }
}

/// The numbers of a mixture of experts with grouped queries.
struct Numbers {
  std::int64_t heads, groups, ffn, experts, expert_ffn, vocabulary;
};

model::Model moe(const Numbers& n) {
  const nlohmann::json config = {{"architectures", {"Qwen3MoeForCausalLM"}},
                                 {"model_type", "qwen3_moe"},
                                 {"hidden_size", 24},
                                 {"head_dim", 8},
                                 {"num_attention_heads", n.heads},
                                 {"num_key_value_heads", n.groups},
                                 {"intermediate_size", n.ffn},
                                 {"moe_intermediate_size", n.expert_ffn},
                                 {"num_experts", n.experts},
                                 {"num_experts_per_tok", 1},
                                 {"num_hidden_layers", 4},
                                 {"vocab_size", n.vocabulary},
                                 {"decoder_sparse_step", 2},
                                 {"mlp_only_layers", {0}},
                                 {"attention_bias", false},
                                 {"tie_word_embeddings", false}};
  const auto families = family::builtin_families().value();
  model::ResolveOptions options;
  options.config_only = true;
  return model::resolve(model::choose_family(config, families).value(), config, {}, options)
      .value();
}

bool accepted(const Numbers& n, const Layout& l, const std::string& without) {
  const auto holds = [&](const char* code, bool condition) { return condition || without == code; };
  return holds("E010", n.heads % l.tp == 0) &&
         holds("E011", n.groups % l.tp == 0 || l.tp % n.groups == 0) &&
         holds("E014", n.ffn % l.tp == 0) && holds("E016", n.expert_ffn % l.etp == 0) &&
         holds("E017", n.experts % l.ep == 0) &&
         holds("E023", l.vocab_divisor || n.vocabulary % l.tp == 0);
}

int model_disagreements(const std::string& without) {
  int out = 0;
  for (const Numbers& n : {Numbers{12, 4, 24, 6, 8, 60}, Numbers{8, 2, 16, 8, 6, 64},
                           Numbers{6, 3, 30, 5, 9, 50}, Numbers{8, 8, 12, 4, 4, 61}}) {
    const model::Model model = moe(n);
    for (std::int64_t tp = 1; tp <= 9; ++tp) {
      for (std::int64_t ep = 1; ep <= 9; ++ep) {
        for (std::int64_t etp = 1; etp <= 9; ++etp) {
          for (const bool padded : {false, true}) {
            Layout layout;
            layout.tp = tp;
            layout.ep = ep;
            layout.etp = etp;
            if (padded) {
              layout.vocab_divisor = 4;
            }
            const bool legal = plan::check_layout(model, layout).has_value();
            out += legal == accepted(n, layout, without) ? 0 : 1;
          }
        }
      }
    }
  }
  return out;
}

// P11, the sizes of a mixture of experts.
TEST(Acceptance, OfSizesIsWhatTheBookSays) {
  EXPECT_EQ(model_disagreements(""), 0);
}

TEST(Acceptance, AnyConditionOfASizeThatIsLeftOutIsSeen) {
  for (const char* code : {"E010", "E011", "E014", "E016", "E017", "E023"}) {
    EXPECT_GT(model_disagreements(code), 0) << code;
  }
}

TEST(LayoutGenerator, GivesEveryChoiceOfEveryField) {
  std::map<std::string_view, std::map<std::int64_t, int>> seen;
  for (std::uint64_t seed = 0; seed < 4000; ++seed) {
    const Draw draw = drawn(seed);
    for (const auto& one : generators::layout_fields()) {
      ++seen[one.name][draw.*one.member];
    }
  }
  for (const auto& one : generators::layout_fields()) {
    for (const std::int64_t choice : one.choices()) {
      EXPECT_GT(seen[one.name][choice], 4000 / static_cast<int>(2 * one.count)) << one.name;
    }
  }
}

TEST(LayoutGenerator, GivesOnlyLegalLayoutsAndEveryKindOfThem) {
  const model::Model model = moe({8, 2, 24, 8, 12, 64});
  std::map<std::string, int> seen;
  for (std::uint64_t seed = 0; seed < 4000; ++seed) {
    Draw draw = drawn(seed);
    model::Model sized = model;
    sized.geometry.symbols["num_hidden_layers"] = generators::layers_of(draw);
    const auto layout = generators::layout_of(draw, sized, 24);
    ASSERT_TRUE(layout) << layout.error().message;
    ASSERT_TRUE(plan::check_layout(sized, *layout));
    ASSERT_FALSE(shard_keys(*layout).empty());
    seen["tp above groups"] += layout->tp > 2 ? 1 : 0;
    seen["etp is not tp"] += layout->etp != layout->tp ? 1 : 0;
    seen["ep 1 with tp"] += layout->ep == 1 && layout->tp > 1 ? 1 : 0;
    seen["pp 1 with ep"] += layout->pp == 1 && layout->ep > 1 ? 1 : 0;
    seen["pp 3"] += layout->pp >= 3 ? 1 : 0;
    seen["vpp 2"] += virtual_stages(*layout) >= 2 ? 1 : 0;
    seen["uneven"] += layout->first_stage_layers || layout->last_stage_layers ? 1 : 0;
    seen["counted"] += layout->account_for_embedding || layout->account_for_loss ? 1 : 0;
    seen["text"] += layout->pipeline_layout.empty() ? 0 : 1;
    seen["pp before dp"] += layout->pp_before_dp && layout->pp > 1 ? 1 : 0;
  }
  EXPECT_EQ(seen.size(), 10U);
  for (const auto& [what, count] : seen) {
    EXPECT_GT(count, 60) << what;
  }
}

TEST(LayoutGenerator, AFaultOfThreeStagesShrinksToThemAlone) {
  const auto fails = [](const Draw& draw) { return generators::pipeline_of(draw, 0).pp >= 3; };
  std::uint64_t seed = 0;
  while (!fails(drawn(seed))) {
    ++seed;
  }
  Draw wanted = generators::simplest(generators::layout_fields());
  wanted.pp = 3;
  EXPECT_EQ(generators::shrink(generators::layout_fields(), drawn(seed), fails), wanted);
}

}  // namespace
}  // namespace bv::parallel
