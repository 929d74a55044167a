// Stacks of experts whose mapping class leaves the cut to the Megatron parameter (AutoMapping):
// second projections are cut by columns, first ones without a gate by rows, stored either way.

#include <gtest/gtest.h>

#include "core/foreign/foreign_line.hpp"
#include "tests/core/foreign/new_model.hpp"

namespace bv::foreign {
namespace {

using namespace test;
using Kinds = std::map<std::string, std::string>;  // HF name -> kind

/// One MoE layer of ups and downs alone, stored [E, out, in] or [E, in, out].
NewModel ups_and_downs(const Shape& up, const Shape& down, const std::string& kind,
                       const json& parameters = {}) {
  NewModel model;
  model.layers = 1;
  model.sizes().ends().attention().norms();
  model.config.update({{"num_experts", 8}, {"moe_intermediate_size", 16}});
  model.per_layer("mlp.gate.weight", {8, 24});
  model.layer_rule("auto", "mlp.router.weight", "mlp.gate.weight");
  model.per_layer("mlp.experts.up_proj", up);
  model.per_layer("mlp.experts.down_proj", down);
  model.layer_rule(kind, "mlp.experts.linear_fc1.weight*", "mlp.experts.up_proj", parameters);
  return model.layer_rule(kind, "mlp.experts.linear_fc2.weight*", "mlp.experts.down_proj",
                          parameters);
}

Kinds stacks_of(const NewModel& model) {
  Kinds out;
  for (const model::Mapping& mapping : model.applied().model.mappings) {
    if (mapping.is_stack()) {
      out[mapping.hf.front()] = mapping.rule->kind;
    }
  }
  return out;
}

constexpr const char* kUp = "model.layers.0.mlp.experts.up_proj";
constexpr const char* kDown = "model.layers.0.mlp.experts.down_proj";

TEST(StacksOfExperts, AreCutAsTheirParameterIs) {
  for (const char* kind : {"fused_expert", "FusedExpertMapping", "StackedExpertAutoMapping"}) {
    EXPECT_EQ(stacks_of(ups_and_downs({8, 16, 24}, {8, 24, 16}, kind)),
              (Kinds{{kUp, "packed_column"}, {kDown, "packed_fc2"}}))
        << kind;
    EXPECT_EQ(stacks_of(ups_and_downs({8, 24, 16}, {8, 16, 24}, kind)),
              (Kinds{{kUp, "packed_column_in_out"}, {kDown, "packed_fc2_in_out"}}))
        << kind;
  }
}

TEST(StacksOfExperts, OfSquareMatricesAreStoredAsTheRuleSays) {
  const Shape square = {8, 24, 24};
  EXPECT_EQ(stacks_of(ups_and_downs(square, square, "fused_expert", {{"orientation", "out_in"}})),
            (Kinds{{kUp, "packed_column"}, {kDown, "packed_fc2"}}));
  EXPECT_EQ(stacks_of(ups_and_downs(square, square, "fused_expert", {{"orientation", "in_out"}})),
            (Kinds{{kUp, "packed_column_in_out"}, {kDown, "packed_fc2_in_out"}}));
  EXPECT_EQ(stacks_of(ups_and_downs(square, square, "fused_expert")), Kinds{});
}

/// Rows of a bias are cut with those of the weight, or stand on every rank.
TEST(StacksOfExperts, OfBiasesFollowTheirWeights) {
  NewModel model = ups_and_downs({8, 16, 24}, {8, 24, 16}, "fused_expert");
  model.per_layer("mlp.experts.up_proj_bias", {8, 16});
  model.per_layer("mlp.experts.down_proj_bias", {8, 24});
  model.layer_rule("fused_expert", "mlp.experts.linear_fc1.bias*", "mlp.experts.up_proj_bias");
  model.layer_rule("fused_expert", "mlp.experts.linear_fc2.bias*", "mlp.experts.down_proj_bias");
  const Kinds kinds = stacks_of(model);
  EXPECT_EQ(kinds.at(std::string(kUp) + "_bias"), "packed_column");
  EXPECT_EQ(kinds.at(std::string(kDown) + "_bias"), "packed_bias");
}

/// Nemotron 3 projects what its experts read: hidden_size is no dimension of their stacks.
TEST(StacksOfExperts, OfALatentSizeAreReadByIt) {
  model::Geometry geometry;
  geometry.symbols = {{"hidden_size", 24}, {"moe_latent_size", 12}};
  ForeignRule foreign;
  foreign.kind = "fused_expert";
  const auto kind_of = [&](const char* projection, const Shape& shape) {
    LinePlace place;
    place.parameter = fmt::format("decoder.layers.0.mlp.experts.{}.weight0", projection);
    family::Rule rule;
    rule.hf = {{"down", "stack"}};
    const Status chosen = choose_line(geometry, all_kinds(), place, foreign, {shape}, rule);
    return chosen ? rule.kind : std::string(label(chosen.error().code));
  };
  EXPECT_EQ(kind_of("linear_fc1", {8, 16, 12}), "packed_column");
  EXPECT_EQ(kind_of("linear_fc1", {8, 12, 16}), "packed_column_in_out");
  EXPECT_EQ(kind_of("linear_fc2", {8, 12, 16}), "packed_fc2");
  EXPECT_EQ(kind_of("linear_fc2", {8, 16, 12}), "packed_fc2_in_out");
  EXPECT_EQ(kind_of("linear_fc2", {8, 16, 24}), "BV7026");
}

}  // namespace
}  // namespace bv::foreign
