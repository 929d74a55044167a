// Rotary positions: frequencies of each rope type, the three-axis positions of images, the turn
// itself. Source: modeling_rope_utils.py and modeling_qwen3_vl.py of transformers 5.12.1.
#include <algorithm>
#include <cmath>

#include "oracles/forward/modules.hpp"

namespace bv::oracle::forward {
namespace {

constexpr double kTwoPi = 6.283185307179586476925286766559;

/// Llama 3: long waves are slowed by `factor`, short ones kept, those between mixed.
double llama3_frequency(const RopeFacts& facts, double frequency) {
  const double wave = kTwoPi / frequency;
  const double low = facts.original_positions / facts.low_freq_factor;
  const double high = facts.original_positions / facts.high_freq_factor;
  if (wave < high) return frequency;
  if (wave > low) return frequency / facts.factor;
  const double smooth = (facts.original_positions / wave - facts.low_freq_factor) /
                        (facts.high_freq_factor - facts.low_freq_factor);
  return (1.0 - smooth) * frequency / facts.factor + smooth * frequency;
}

/// Yarn: pair j keeps its frequency below the ramp, is slowed by `factor` above it.
double yarn_frequency(const RopeFacts& facts, double frequency, std::int64_t pair) {
  const double dim = static_cast<double>(facts.rotary_dim);
  const auto pair_of_turns = [&](double turns) {
    return dim * std::log(facts.original_positions / (turns * kTwoPi)) /
           (2.0 * std::log(facts.theta));
  };
  double low = pair_of_turns(facts.beta_fast);
  double high = pair_of_turns(facts.beta_slow);
  if (facts.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1.0);
  if (low == high) high += 0.001;
  const double ramp = std::clamp((static_cast<double>(pair) - low) / (high - low), 0.0, 1.0);
  return frequency / facts.factor * ramp + frequency * (1.0 - ramp);
}

double frequency_of(const RopeFacts& facts, std::int64_t pair) {
  const double exponent = 2.0 * static_cast<double>(pair) / static_cast<double>(facts.rotary_dim);
  const double plain = 1.0 / std::pow(facts.theta, exponent);
  if (facts.type == "proportional") return pair < facts.turning_pairs ? plain / facts.factor : 0.0;
  if (facts.type == "linear") return plain / facts.factor;
  if (facts.type == "llama3") return llama3_frequency(facts, plain);
  if (facts.type == "yarn") return yarn_frequency(facts, plain, pair);
  return plain;
}

/// Interleaved three-axis rope: pairs 1, 4, 7.. follow the row and 2, 5, 8.. the column, each as
/// far as its section.
std::int64_t axis_of(const RopeFacts& facts, std::int64_t pair) {
  const auto axis = static_cast<std::size_t>(pair % 3);
  return axis != 0 && pair < 3 * facts.mrope_section[axis] ? pair % 3 : 0;
}

}  // namespace

RopeTable rope_table(const RopeFacts& facts, const at::Tensor& positions) {
  std::vector<at::Tensor> angles;
  for (std::int64_t pair = 0; pair < facts.rotary_dim / 2; ++pair) {
    angles.push_back(positions[axis_of(facts, pair)] * frequency_of(facts, pair));
  }
  const at::Tensor half = at::stack(angles, -1);
  const at::Tensor both = at::cat({half, half}, -1);
  return {both.cos() * facts.table_scale, both.sin() * facts.table_scale, facts.pairs_interleaved};
}

at::Tensor turned(const at::Tensor& x, const RopeTable& table) {
  const std::int64_t dim = table.cos.size(-1);
  at::Tensor head = x.slice(-1, 0, dim);
  if (table.pairs_interleaved) {
    head = at::cat({head.slice(-1, 0, dim, 2), head.slice(-1, 1, dim, 2)}, -1);
  }
  const at::Tensor across =
      at::cat({-head.slice(-1, dim / 2, dim), head.slice(-1, 0, dim / 2)}, -1);
  const at::Tensor out = head * table.cos.unsqueeze(1) + across * table.sin.unsqueeze(1);
  return at::cat({out, x.slice(-1, dim)}, -1);
}

at::Tensor token_positions(const ModelFacts& facts, const Inputs& inputs) {
  const auto tokens = static_cast<std::int64_t>(inputs.input_ids.size());
  at::Tensor positions = at::empty({3, tokens}, at::kDouble);
  auto cell = positions.accessor<double, 2>();
  std::int64_t next = 0;  // position of the next text token
  std::size_t image = 0;
  for (std::int64_t s = 0; s < tokens;) {
    const bool starts = !inputs.images.grid_thw.empty() &&
                        inputs.input_ids[static_cast<std::size_t>(s)] == facts.vision.image_token;
    if (!starts) {
      for (std::int64_t axis = 0; axis < 3; ++axis) cell[axis][s] = static_cast<double>(next);
      ++next;
      ++s;
      continue;
    }
    const auto& grid = inputs.images.grid_thw[image++];
    const std::int64_t rows = grid[1] / facts.vision.merge;
    const std::int64_t columns = grid[2] / facts.vision.merge;
    for (std::int64_t i = 0; i < rows * columns; ++i, ++s) {
      cell[0][s] = static_cast<double>(next);
      cell[1][s] = static_cast<double>(next + i / columns);
      cell[2][s] = static_cast<double>(next + i % columns);
    }
    next += std::max(rows, columns);
  }
  return positions;
}

}  // namespace bv::oracle::forward
