// Elements by closed formula (P6), of checkpoints and of their distinct shards.

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <set>

#include "properties/attacks/lines/tilings.hpp"
#include "tests/properties/worlds.hpp"

namespace bv::fuzz {
namespace {

/// P6, by the formulas of the papers: attention with norms on q and k, with an output gate or not.
std::int64_t attention_elements(const model::Geometry& g, bool gated) {
  const std::int64_t hidden = g.at("hidden_size");
  const std::int64_t q = g.at("num_attention_heads") * g.at("head_dim");
  const std::int64_t kv = g.at("num_query_groups") * g.at("head_dim");
  return hidden * ((gated ? 3 : 2) * q + 2 * kv) + 2 * g.at("head_dim");
}

std::int64_t delta_net_elements(const model::Geometry& g) {
  const std::int64_t hidden = g.at("hidden_size");
  const std::int64_t k = g.at("linear_num_key_heads") * g.at("linear_key_head_dim");
  const std::int64_t heads = g.at("linear_num_value_heads");
  const std::int64_t v = heads * g.at("linear_value_head_dim");
  const std::int64_t projections = hidden * (2 * k + v) + hidden * v + 2 * hidden * heads;
  return projections + (2 * k + v) * g.at("linear_conv_kernel_dim") + 2 * heads +
         g.at("linear_value_head_dim") + v * hidden;
}

/// Dense, or experts with their router and, where there is one, a shared expert with its gate.
std::int64_t mlp_elements(const model::Geometry& g) {
  const std::int64_t hidden = g.at("hidden_size");
  const std::int64_t experts = g.get("num_experts").value_or(0);
  if (experts == 0) {
    return 3 * hidden * g.at("intermediate_size");
  }
  const std::int64_t shared = g.get("shared_expert_intermediate_size").value_or(0);
  return experts * (3 * hidden * g.at("moe_intermediate_size") + hidden) + 3 * hidden * shared +
         (shared > 0 ? hidden : 0);
}

/// A text model of the Qwen3 shape, or of the Qwen3.5 one with its MTP block.
std::int64_t elements_by_formula(const model::Model& model) {
  const model::Geometry& g = model.geometry;
  const std::int64_t hidden = g.at("hidden_size");
  const bool hybrid = g.get("linear_num_key_heads").has_value();
  std::int64_t out = hidden + g.at("vocab_size") * hidden * (model.tied ? 1 : 2);
  for (const auto& flags : g.layer_flags) {
    out += 2 * hidden + mlp_elements(g) +
           (flags.contains("linear") ? delta_net_elements(g) : attention_elements(g, hybrid));
  }
  const std::int64_t mtp = 2 * hidden * hidden + 3 * hidden;  // fc, two norms before and one behind
  return out +
         model.mtp_layers * (mtp + 2 * hidden + mlp_elements(g) + attention_elements(g, true));
}

std::int64_t elements_of(const Headers& headers) {
  std::int64_t total = 0;
  for (const auto& [name, spec] : headers) {
    std::int64_t elements = 1;
    for (const std::int64_t extent : spec.shape) {
      elements *= extent;
    }
    total += elements;
  }
  return total;
}

/// Elements of the distinct shards without copies, replicas and pads.
std::int64_t elements_of_shards(const mutants::Program& program) {
  std::set<std::tuple<std::uint32_t, std::int64_t, std::int64_t>> seen;
  std::set<std::pair<std::uint32_t, std::pair<int, std::int64_t>>> distinct;
  for (const mutants::Move& move : program.moves) {
    if (!seen.insert({move.mapping, move.expert, move.t}).second) {
      continue;
    }
    for (const layout::Box& box : move.boxes) {
      if (box.source >= 0) {
        lines::for_each_element(box, [&](std::int64_t source, std::int64_t) {
          distinct.insert({move.mapping, {box.source, source}});
        });
      }
    }
  }
  return static_cast<std::int64_t>(distinct.size());
}

constexpr std::array<std::string_view, 9> kCounted = {
    "qwen3",         "qwen3_moe",         "qwen3_moe_packed",
    "qwen3_5_dense", "qwen3_5_dense_mtp", "qwen3_5_dense_from_vl",
    "qwen3_5_moe",   "qwen3_5_moe_mtp",   "qwen3_5_moe_packed"};

TEST(Counts, AreThoseOfTheFormulas) {
  std::map<std::string, int> met;
  for (std::uint64_t seed = 0; seed < 1200; ++seed) {
    const Draw draw = draw_from(seed);
    const auto& sample =
        tools().samples[static_cast<std::size_t>(draw.sample) % tools().samples.size()];
    if (std::find(kCounted.begin(), kCounted.end(), sample.name) == kCounted.end()) {
      continue;
    }
    const Prepared world = prepared(seed);
    ++met[sample.name];
    const std::int64_t stored = elements_of(world.model->headers);
    EXPECT_EQ(stored, elements_by_formula(world.model->model)) << to_text(world.world);
    const auto program =
        mutants::compile(world.model->model, tools().library.kinds, world.world.layout).value();
    EXPECT_EQ(elements_of_shards(program), stored) << to_text(world.world);
    mutants::Program without = program;  // the planted fault: a rank that was forgotten
    std::erase_if(without.moves, [&](const mutants::Move& move) {
      return move.mapping == program.moves.front().mapping;
    });
    EXPECT_LT(elements_of_shards(without), stored);
  }
  EXPECT_EQ(met.size(), kCounted.size());
}

}  // namespace
}  // namespace bv::fuzz
