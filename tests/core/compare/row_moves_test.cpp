// What shard names, moved rows and pairs of names tell of a difference.

#include <gtest/gtest.h>

#include "core/compare/diff.hpp"
#include "core/compare/explain_diff.hpp"

namespace bv::compare {
namespace {

TEST(LayoutOfShards, SizesComeFromTheNames) {
  const parallel::Layout flags;
  const auto layout =
      compare::layout_of_shards({"pp0_tp0_ep0_etp0", "pp0_tp1_ep0_etp0"}, flags).value();
  EXPECT_EQ(layout.tp, 2);
  EXPECT_EQ(layout.pp, 1);
}

TEST(LayoutOfShards, RefusesAHoleInTheGridAndAForeignName) {
  const auto hole = compare::layout_of_shards({"pp0_tp1_ep0_etp0"}, {});
  ASSERT_FALSE(hole.has_value());
  EXPECT_EQ(hole.error().code, Code::CacheIncomplete);
  EXPECT_NE(hole.error().facts[0].find("pp0_tp0_ep0_etp0"), std::string::npos);
  EXPECT_FALSE(compare::layout_of_shards({"model-00001"}, {}).has_value());
}

TEST(RowMoves, ARegroupingIsFoundAndNoiseIsNot) {
  std::vector<compare::RowMove> moves;
  for (std::int64_t j = 0; j < 12; ++j) {  // [2 3 2] stands as [3 2 2]
    const std::int64_t z = j % 2, x = j / 2 % 2, y = j / 4;
    moves.push_back({j, (x * 3 + y) * 2 + z});
  }
  EXPECT_EQ(compare::find_regrouping(12, moves), (compare::Regrouping{1, 2, 3, 2, 12}));
  EXPECT_EQ(compare::find_regrouping(12, {{0, 7}, {1, 3}, {2, 11}, {3, 5}}).explained, 0);
}

TEST(RowMoves, ExchangedHalvesAreFoundAndNoiseIsNot) {
  EXPECT_EQ(compare::find_exchange(8, {{0, 2}, {1, 3}, {2, 0}, {3, 1}, {4, 6}}),
            (compare::HalvesExchanged{4, 5}));
  EXPECT_EQ(compare::find_exchange(8, {{0, 5}, {1, 2}, {2, 7}}).explained, 0);
}

TEST(CompareNames, TellsLayersExpertsPartsAndOthersApart) {
  EXPECT_EQ(compare::compare_names("a.layers.2.x", "a.layers.5.x").text,
            ": layer 5 for 2, off by +3");
  EXPECT_EQ(compare::compare_names("a.layers.5.x", "a.layers.2.x").shift, -3);
  EXPECT_EQ(compare::compare_names("e.linear_fc1.weight3", "e.linear_fc1.weight1").cause,
            compare::Cause::OtherExpert);
  EXPECT_EQ(compare::compare_names("mlp.experts.3.w", "mlp.experts.4.w").cause,
            compare::Cause::OtherExpert);
  EXPECT_EQ(compare::compare_names("mlp.gate_proj.weight", "mlp.up_proj.weight").cause,
            compare::Cause::SwappedParts);
  EXPECT_EQ(compare::compare_names("q_proj.weight", "k_proj.weight").cause,
            compare::Cause::OtherTensor);
  EXPECT_EQ(compare::compare_names("x", "x").cause, compare::Cause::OtherRank);
}

TEST(CompareNames, TellsALayerOfTheDecoderInThePlaceOfMtp) {
  for (const char* mtp : {"mtp.layers.0.mtp_model_layer.mlp.w", "mtp.layers.0.mlp.w",
                          "language_model.mtp.layers.0.transformer_layer.mlp.w"}) {
    const auto shift = compare::compare_names(mtp, "decoder.layers.3.mlp.w");
    EXPECT_EQ(shift.cause, compare::Cause::OtherLayer) << mtp;
    EXPECT_EQ(shift.text,
              ": layer 3 of the decoder for MTP layer 0, which was copied from it and not written "
              "again");
    EXPECT_TRUE(compare::is_mtp(mtp));
  }
  EXPECT_EQ(compare::compare_names("decoder.layers.3.mlp.w", "mtp.layers.1.mlp.w").text,
            ": MTP layer 1 for layer 3 of the decoder");
  EXPECT_EQ(compare::compare_names("mtp.layers.0.mlp.w", "decoder.layers.3.attn.w").cause,
            compare::Cause::OtherTensor);
  EXPECT_EQ(compare::compare_names("mtp.layers.0.mlp.w", "mtp.layers.1.mlp.w").cause,
            compare::Cause::OtherLayer);
  EXPECT_FALSE(compare::is_mtp("decoder.layers.3.mlp.w"));
  EXPECT_FALSE(compare::is_mtp("mtp_norm.weight"));
}

}  // namespace
}  // namespace bv::compare
