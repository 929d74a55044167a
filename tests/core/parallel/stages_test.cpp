#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "core/parallel/stage_text.hpp"
#include "golden_runs.hpp"

namespace bv::parallel {
namespace {

using ::testing::HasSubstr;

/// Layers of each stage, or the code of the refusal.
std::string planned(const Layout& layout, std::int64_t layers, std::int64_t mtp_layers = 0) {
  const auto stages = plan_stages(layout, layers, mtp_layers);
  std::string out;
  if (!stages) {
    const Error& fault = stages.error();
    EXPECT_FALSE(fault.help.empty());
    EXPECT_FALSE(fault.found.empty());
    EXPECT_FALSE(fault.wanted.empty());
    return label(fault.code);
  }
  for (const StageContents& stage : *stages) {
    out += (out.empty() ? "" : " ") + std::to_string(stage.layers);
  }
  return out;
}

Layout pipeline(std::int64_t pp, std::int64_t vpp = 1) {
  return {.pp = pp, .vpp = vpp};
}

Layout written(std::int64_t pp, std::string text) {
  Layout layout = pipeline(pp);
  layout.pipeline_layout = std::move(text);
  return layout;
}

Layout uneven(std::int64_t pp, std::optional<std::int64_t> first, std::optional<std::int64_t> last,
              std::int64_t vpp = 1) {
  Layout layout = pipeline(pp, vpp);
  layout.first_stage_layers = first;
  layout.last_stage_layers = last;
  return layout;
}

struct Seen {
  std::set<std::int64_t> layers, mtp;
  bool embedding = false, output = false, final_norm = false;
};

/// What the parameter names of one real shard say.
Seen seen_in(const nlohmann::json& shard) {
  Seen seen;
  for (const auto& [full, spec] : shard.at("tensors").items()) {
    std::string name = full.starts_with("language_model.") ? full.substr(15) : full;
    if (name.starts_with("decoder.layers.")) {
      seen.layers.insert(std::stoll(name.substr(15)));
    } else if (name.starts_with("mtp.layers.")) {
      seen.mtp.insert(std::stoll(name.substr(11)));
    }
    seen.embedding |= name == "embedding.word_embeddings.weight";
    seen.output |= name == "output_layer.weight";
    seen.final_norm |= name == "decoder.final_layernorm.weight";
  }
  return seen;
}

std::set<std::int64_t> first_numbers(std::int64_t count) {
  std::set<std::int64_t> numbers;
  for (std::int64_t i = 0; i < count; ++i) {
    numbers.insert(i);
  }
  return numbers;
}

TEST(PlanStages, EqualsTheParameterNamesOfEveryRealShard) {
  std::int64_t shards = 0;
  for (const GoldenRun& one : golden_runs()) {
    SCOPED_TRACE(one.name);
    const std::int64_t mtp = one.config.value("mtp_num_hidden_layers", std::int64_t{0});
    const auto stages =
        plan_stages(one.layout, one.config.at("num_hidden_layers").get<std::int64_t>(), mtp);
    ASSERT_TRUE(stages);
    for (const nlohmann::json& shard : one.run.at("shards")) {
      const std::int64_t sigma =
          shard.value("vp", std::int64_t{0}) * one.layout.pp + shard.at("pp").get<std::int64_t>();
      const StageContents& stage = stages->at(static_cast<std::size_t>(sigma));
      const Seen seen = seen_in(shard);
      EXPECT_EQ(seen.layers, first_numbers(stage.layers));
      EXPECT_EQ(seen.mtp, first_numbers(stage.mtp_layers));
      EXPECT_EQ(seen.final_norm, stage.final_norm);
      EXPECT_EQ(seen.embedding, stage.embedding || stage.mtp_layers > 0);
      // A tied model on one stage has no output layer of its own
      // (docs/reference/semantics.md#what-lives-where).
      EXPECT_EQ(seen.output, stage.output && !(one.tied && stages->size() == 1));
      ++shards;
    }
  }
  EXPECT_EQ(shards, 530);
}

TEST(PlanStages, GivesEveryLayerToOneStageInOrder) {
  std::int64_t planned_cases = 0;
  for (std::int64_t layers = 1; layers <= 24; ++layers) {
    for (std::int64_t pp = 1; pp <= 6; ++pp) {
      for (std::int64_t vpp = 1; vpp <= 3; ++vpp) {
        for (std::int64_t ends = 0; ends < 36; ++ends) {
          const std::int64_t first = ends % 6;
          const std::int64_t last = ends / 6;
          const Layout layout = uneven(pp, first == 0 ? std::nullopt : std::optional(first),
                                       last == 0 ? std::nullopt : std::optional(last), vpp);
          const auto stages = plan_stages(layout, layers, 1);
          if (!stages) {
            continue;
          }
          ++planned_cases;
          ASSERT_EQ(std::ssize(*stages), pp * vpp);
          std::int64_t next = 0;
          std::int64_t embeddings = 0, outputs = 0, norms = 0, mtp = 0;
          for (const StageContents& stage : *stages) {
            ASSERT_EQ(stage.first_layer, next);
            ASSERT_GE(stage.layers, 0);
            next += stage.layers;
            embeddings += stage.embedding ? 1 : 0;
            outputs += stage.output ? 1 : 0;
            norms += stage.final_norm ? 1 : 0;
            mtp += stage.mtp_layers;
          }
          ASSERT_EQ(next, layers);
          ASSERT_EQ((std::vector{embeddings, outputs, norms, mtp}),
                    (std::vector<std::int64_t>{1, 1, 1, 1}));
        }
      }
    }
  }
  EXPECT_GT(planned_cases, 1500);
}

TEST(PlanStages, InterleavesVirtualStagesOverTheRanks) {
  const auto stages = plan_stages(pipeline(2, 2), 8, 1);
  ASSERT_TRUE(stages);
  const std::vector<StageContents> wanted = {
      {.pp = 0, .vp = 0, .first_layer = 0, .layers = 2, .embedding = true},
      {.pp = 1, .vp = 0, .first_layer = 2, .layers = 2},
      {.pp = 0, .vp = 1, .first_layer = 4, .layers = 2},
      {.pp = 1,
       .vp = 1,
       .first_layer = 6,
       .layers = 2,
       .output = true,
       .final_norm = true,
       .mtp_layers = 1}};
  EXPECT_EQ(*stages, wanted);
}

TEST(PlanStages, SplitsEvenlyOnlyWhatDivides) {
  EXPECT_EQ(planned(pipeline(3), 4), "BV2002");
  EXPECT_EQ(planned(pipeline(2), 4), "2 2");
  EXPECT_EQ(plan_stages(pipeline(3), 4, 0).error().help,
            "nearest legal PP: 2 or 4, or give --decoder-first-pipeline-num-layers");
  EXPECT_EQ(planned(pipeline(2, 2), 6), "BV2002");
  EXPECT_EQ(planned(pipeline(2, 3), 6), "1 1 1 1 1 1");
}

TEST(PlanStages, CountsEmbeddingAndLossAsLayers) {
  Layout layout = pipeline(2);
  layout.account_for_embedding = true;
  EXPECT_EQ(planned(layout, 4), "BV2002");
  EXPECT_EQ(planned(layout, 5), "2 3");
  layout.account_for_loss = true;
  EXPECT_EQ(planned(layout, 4), "2 2");
  layout.pp = 4;
  EXPECT_EQ(planned(layout, 2), "0 1 1 0");
}

TEST(PlanStages, NeverLeavesANegativeCount) {
  for (std::int64_t layers = 1; layers <= 12; ++layers) {
    for (std::int64_t pp = 1; pp <= 14; ++pp) {
      Layout layout = pipeline(pp);
      layout.account_for_embedding = true;
      layout.account_for_loss = true;
      const auto stages = plan_stages(layout, layers, 0);
      ASSERT_EQ(stages.has_value(), (layers + 2) % pp == 0);
      for (const StageContents& stage : stages ? *stages : std::vector<StageContents>{}) {
        EXPECT_GE(stage.layers, 0);
      }
    }
  }
}

TEST(PlanStages, PutsTheNormBehindTheLastDecoderLayerOnlyWithMtp) {
  const Layout layout = written(2, "Ett|mL");
  const auto with_mtp = plan_stages(layout, 2, 1);
  ASSERT_TRUE(with_mtp);
  EXPECT_TRUE(with_mtp->at(0).final_norm);
  EXPECT_FALSE(with_mtp->at(1).final_norm);
  const auto without = plan_stages(written(2, "Ett|L"), 2, 0);
  ASSERT_TRUE(without);
  EXPECT_FALSE(without->at(0).final_norm);
  EXPECT_TRUE(without->at(1).final_norm);
}

TEST(PlanStages, TakesUnevenEnds) {
  EXPECT_EQ(planned(uneven(3, 1, std::nullopt), 5), "1 2 2");
  EXPECT_EQ(planned(uneven(3, std::nullopt, 1), 5), "2 2 1");
  EXPECT_EQ(planned(uneven(4, 1, 2), 7), "1 2 2 2");
  EXPECT_EQ(planned(uneven(2, 1, 3), 4), "1 3");
  EXPECT_EQ(planned(uneven(3, 2, 4, 2), 10), "1 2 2 1 2 2");
  EXPECT_EQ(planned(uneven(1, 4, std::nullopt), 4), "4");
}

TEST(PlanStages, RefusesEndsThatLeaveAnUnevenMiddle) {
  EXPECT_EQ(planned(uneven(3, 1, std::nullopt), 4), "BV2002");  // 3 layers on 2 stages
  EXPECT_EQ(plan_stages(uneven(3, 1, std::nullopt), 4, 0).error().help,
            "nearest legal --decoder-first-pipeline-num-layers: 2");
  EXPECT_EQ(planned(uneven(3, 2, std::nullopt), 4), "2 1 1");
  EXPECT_EQ(planned(uneven(2, 1, 2), 4), "BV2002");  // a layer left, no middle stage
  EXPECT_EQ(planned(uneven(3, 2, 2), 4), "BV2002");  // a middle stage, no layer left
  EXPECT_EQ(planned(uneven(3, 2, 4), 5), "BV2002");  // more than there are
  EXPECT_EQ(planned(uneven(1, 2, 2), 4), "BV2002");  // two ends of one stage
  EXPECT_EQ(planned(uneven(2, 0, std::nullopt), 4), "BV0002");
  EXPECT_EQ(planned(uneven(2, std::nullopt, -1), 4), "BV0002");
  EXPECT_EQ(planned(uneven(2, INT64_MIN, INT64_MAX), 4), "BV0002");
}

TEST(PlanStages, RefusesVirtualStagesThatDoNotDivideAnyRank) {
  EXPECT_EQ(planned(uneven(3, 1, 2, 2), 5), "BV2002");
  EXPECT_EQ(planned(uneven(3, 2, 1, 2), 5), "BV2002");
  EXPECT_EQ(planned(uneven(3, 2, 2, 2), 5), "BV2002");
  EXPECT_EQ(planned(uneven(3, 2, 2, 2), 6), "1 1 1 1 1 1");
}

TEST(PlanStages, RefusesTwoGivenEndsWithVirtualStagesOnTwoRanks) {
  EXPECT_EQ(planned(uneven(2, 2, 2, 2), 4), "BV0003");
  EXPECT_EQ(planned(uneven(2, 2, std::nullopt, 2), 4), "1 1 1 1");
}

TEST(PlanStages, RefusesTwoWaysOfSplittingAtOnce) {
  Layout layout = uneven(2, 1, std::nullopt);
  layout.account_for_loss = true;
  EXPECT_EQ(planned(layout, 4), "BV0003");
  layout.account_for_loss = false;
  EXPECT_EQ(planned(layout, 4), "1 3");
  layout.pipeline_layout = "Et|tttL";
  EXPECT_EQ(planned(layout, 4), "BV0003");
  layout.first_stage_layers.reset();
  EXPECT_EQ(planned(layout, 4), "1 3");
  layout.account_for_embedding = true;
  EXPECT_EQ(planned(layout, 4), "BV0003");
}

TEST(PlanStages, RefusesVirtualStagesWithoutPipeline) {
  EXPECT_EQ(planned(pipeline(1, 2), 4), "BV0003");
  EXPECT_EQ(planned(pipeline(1, 1), 4), "4");
  EXPECT_EQ(planned(written(1, "Et|tL"), 2), "BV0003");
  EXPECT_EQ(planned(written(1, "EttL"), 2), "2");
}

TEST(PlanStages, RefusesNumbersThatAreNoCounts) {
  EXPECT_EQ(planned(pipeline(1), 0), "BV0002");
  EXPECT_EQ(planned(pipeline(1), INT64_MAX), "BV0002");
  EXPECT_EQ(planned(pipeline(1), 1, -1), "BV0002");
  EXPECT_EQ(planned(pipeline(0), 1), "BV0002");
  EXPECT_EQ(planned(pipeline(kMaxSize, kMaxSize), 1), "BV0002");
}

TEST(StageText, UnrollsGroupsThenLetters) {
  EXPECT_FALSE(parse_stage_text("E t|L"));  // a blank is no letter
  const auto legal = parse_stage_text("Et*2|(t,t|)*2,t*1,0|m*0L");
  ASSERT_TRUE(legal);
  EXPECT_EQ(*legal, (std::vector<StageText>{"Ett", "tt", "tt", "tttttttttt", "L"}));
  EXPECT_EQ(*parse_stage_text("E|*3L"), (std::vector<StageText>{"E", "", "", "L"}));
  EXPECT_EQ(*parse_stage_text("E(t*2|)*2L"), (std::vector<StageText>{"Ett", "tt", "L"}));
}

TEST(StageText, NamesTheColumnOfWhatItCannotRead) {
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {"Etx|L", "column 3"},        {"E(t(t)*2)*2L", "column 4"},
      {"E(tt", "column 5"},         {"E(tt)L", "column 6"},
      {"Et*L", "column 4"},         {"*2", "column 1"},
      {"E)L", "column 2"},          {"Et*99999999L", "unrolls"},
      {"(t*999)*99999", "unrolls"}, {std::string("E\0L", 3), "column 2"}};
  for (const auto& [text, expected] : wrong) {
    const auto stages = parse_stage_text(text);
    ASSERT_FALSE(stages) << text;
    EXPECT_EQ(stages.error().code, Code::BadValue);
    EXPECT_THAT(stages.error().message, HasSubstr(expected));
  }
}

TEST(PlanStages, FollowsAnExplicitLayout) {
  const auto stages = plan_stages(written(2, "E|tt|t|tmL"), 4, 1);
  ASSERT_TRUE(stages);
  const std::vector<StageContents> wanted = {
      {.pp = 0, .vp = 0, .first_layer = 0, .layers = 0, .embedding = true},
      {.pp = 1, .vp = 0, .first_layer = 0, .layers = 2},
      {.pp = 0, .vp = 1, .first_layer = 2, .layers = 1},
      {.pp = 1,
       .vp = 1,
       .first_layer = 3,
       .layers = 1,
       .output = true,
       .final_norm = true,
       .mtp_layers = 1}};
  EXPECT_EQ(*stages, wanted);
}

TEST(PlanStages, HoldsAnExplicitLayoutToItsCounts) {
  EXPECT_EQ(planned(written(2, "Ett|ttL"), 4), "2 2");
  EXPECT_EQ(planned(written(2, "Ett|tL"), 4), "BV2009");
  EXPECT_EQ(planned(written(2, "Ett|ttLL"), 4), "BV2009");
  EXPECT_EQ(planned(written(2, "tt|ttL"), 4), "BV2009");
  EXPECT_EQ(planned(written(2, "tEt|ttL"), 4), "BV2009");
  EXPECT_EQ(planned(written(2, "Ett|tLt"), 4), "BV2009");
  EXPECT_EQ(planned(written(2, "|"), 4), "BV2009");
  EXPECT_EQ(planned(written(2, "Ett|t|tL"), 4), "BV2002");
  EXPECT_EQ(planned(written(3, "Ett|t|tL"), 4), "2 1 1");
  Layout layout = written(2, "Et|t|t|tL");
  layout.vpp = 2;
  EXPECT_EQ(planned(layout, 4), "1 1 1 1");
  layout.vpp = 4;
  EXPECT_EQ(planned(layout, 4), "BV0003");
}

TEST(PlanStages, KeepsEmbeddingInTheFirstStageAndLossInTheLast) {
  EXPECT_EQ(planned(written(2, "|Et|t|L"), 2), "BV2009");
  EXPECT_EQ(planned(written(2, "Et|tL||"), 2), "BV2009");
  EXPECT_EQ(planned(written(2, "E|t|t|L"), 2), "0 1 1 0");
}

TEST(PlanStages, HoldsAnExplicitLayoutToItsMtpRules) {
  EXPECT_EQ(planned(written(2, "Ett|tmL"), 3, 1), "2 1");
  EXPECT_EQ(planned(written(2, "Ett|tmL"), 3, 0), "BV2009");
  EXPECT_EQ(planned(written(2, "Ett|tL"), 3, 1), "BV2009");
  EXPECT_EQ(planned(written(2, "Ettm|tL"), 3, 1), "BV2009");     // t behind m
  EXPECT_EQ(planned(written(4, "Ett|t|m|mL"), 3, 2), "BV2009");  // two stages
  EXPECT_EQ(planned(written(4, "Ett|t|mm|L"), 3, 2), "2 1 0 0");
  EXPECT_EQ(planned(written(2, "Ett|m||L"), 2, 1), "BV2009");  // first chunk of rank 1
  EXPECT_EQ(planned(written(2, "Ett||m|L"), 2, 1), "2 0 0 0");
}

}  // namespace
}  // namespace bv::parallel
