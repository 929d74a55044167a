// Checks of the inputs, and inputs that reach every row of the vocabulary's shards.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "oracles/forward/modules.hpp"

namespace bv::oracle::forward {
namespace {

constexpr std::int64_t kProbePixelsMax = std::int64_t{1} << 22;

std::int64_t patch_width(const VisionFacts& vision) {
  return vision.channels * vision.temporal_patch * vision.patch * vision.patch;
}

/// Image tokens that a grid makes; refuses grids that the merger cannot cut.
std::int64_t check_grid(const VisionFacts& vision, const std::array<std::int64_t, 3>& grid) {
  const bool sized = grid[0] == 1 && grid[1] >= 1 && grid[1] <= kPatchesMax && grid[2] >= 1 &&
                     grid[2] <= kPatchesMax / grid[1];
  if (!sized || grid[1] % vision.merge != 0 || grid[2] % vision.merge != 0) {
    refuse_input("an image grid does not fit the merger", shape_text(grid),
                 fmt::format("[1, h, w] with h and w multiples of {}, {} patches at most",
                             vision.merge, kPatchesMax));
  }
  return grid[1] * grid[2] / (vision.merge * vision.merge);
}

void check_images(const ModelFacts& facts, const Inputs& inputs) {
  const VisionFacts& vision = facts.vision;
  if (vision.depth == 0)
    refuse_input("images for a model without vision", "images", "token ids only");
  std::vector<std::int64_t> wanted;  // image tokens of each grid
  std::int64_t total = 0;
  for (const auto& grid : inputs.images.grid_thw) {
    wanted.push_back(check_grid(vision, grid));
    total += wanted.back();
    if (total * vision.merge * vision.merge > kPatchesMax) {
      refuse_input("too many patches", counted(total, "image token"),
                   fmt::format("{} patches", kPatchesMax));
    }
  }
  const std::vector<std::int64_t> shape{total * vision.merge * vision.merge, patch_width(vision)};
  if (inputs.images.pixel_values.shape != shape) {
    refuse_input("pixel_values do not fit the grids", shape_text(inputs.images.pixel_values.shape),
                 shape_text(shape));
  }
  std::size_t image = 0;
  for (std::size_t s = 0; s < inputs.input_ids.size(); ++image) {
    while (s < inputs.input_ids.size() && inputs.input_ids[s] != vision.image_token) ++s;
    if (s == inputs.input_ids.size()) break;
    const std::int64_t run = image < wanted.size() ? wanted[image] : 0;
    for (std::int64_t i = 0; i < std::max<std::int64_t>(run, 1); ++i, ++s) {
      if (run == 0 || s >= inputs.input_ids.size() || inputs.input_ids[s] != vision.image_token) {
        refuse_input(fmt::format("image tokens and grids do not pair up at token {}", s),
                     counted(wanted.size(), "grid"),
                     "as many image tokens as patches / merge^2, per grid");
      }
    }
  }
  if (image != wanted.size()) {
    refuse_input("a grid has no image tokens", fmt::format("{} runs of image tokens", image),
                 counted(wanted.size(), "grid"));
  }
}

}  // namespace

namespace {

/// Tokens that every table has a row for.
std::int64_t rows_of_tokens(const ModelFacts& facts) {
  return facts.layer_input > 0 ? std::min(facts.vocab, facts.layer_input_vocab) : facts.vocab;
}

}  // namespace

void check_inputs(const ModelFacts& facts, const Inputs& inputs) {
  const auto layers = static_cast<std::size_t>(facts.layers);
  const bool sized = facts.hidden > 0 && facts.vocab > 0 && facts.heads > 0 && facts.kv_heads > 0 &&
                     facts.head_dim > 0 && facts.layers > 0 && facts.mixers.size() == layers &&
                     facts.is_moe.size() == layers && facts.turns.size() == layers &&
                     facts.blocks.size() == layers && facts.indexes.size() == layers;
  if (!sized)
    refuse_input("the facts are not those of a model", "an empty size", "what read_facts gives");
  const auto tokens = static_cast<std::int64_t>(inputs.input_ids.size());
  if (tokens < 1 || tokens > kTokensMax) {
    refuse_input("the number of tokens is out of range", fmt::format("{}", tokens),
                 fmt::format("1 to {}", kTokensMax));
  }
  for (const std::int64_t id : inputs.input_ids) {
    if (id < 0 || id >= rows_of_tokens(facts)) {
      refuse_input("a token id is outside the vocabulary", fmt::format("{}", id),
                   fmt::format("0 to {}", rows_of_tokens(facts) - 1));
    }
  }
  if (!inputs.images.grid_thw.empty()) check_images(facts, inputs);
}

at::Tensor token_ids(const Inputs& inputs) {
  return at::tensor(inputs.input_ids, at::kLong);
}

at::Tensor later_token_ids(const Inputs& inputs, std::int64_t depth) {
  const std::size_t skipped =
      std::min(static_cast<std::size_t>(depth) + 1, inputs.input_ids.size());
  std::vector<std::int64_t> ids(inputs.input_ids.begin() + static_cast<std::ptrdiff_t>(skipped),
                                inputs.input_ids.end());
  ids.resize(inputs.input_ids.size(), 0);
  return at::tensor(ids, at::kLong);
}

Pass make_pass(const ModelFacts& facts, const Inputs& inputs) {
  const auto tokens = static_cast<std::int64_t>(inputs.input_ids.size());
  const at::Tensor positions = token_positions(facts, inputs);
  const at::Tensor reached = at::floor((positions[0] + facts.query_offset) / facts.query_reach);
  return {facts,
          rope_table(facts.rope, positions),
          rope_table(facts.sliding_rope, positions),
          causal_mask(tokens, 0),
          causal_mask(tokens, facts.window),
          chunked_mask(tokens, facts.chunk),
          (1.0 + facts.query_growth * at::log1p(reached)).view({-1, 1, 1})};
}

Inputs probe_inputs(const ModelFacts& facts, std::int64_t tokens, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Inputs inputs;
  const std::int64_t image_tokens = facts.vision.depth > 0 ? 6 : 0;
  const std::int64_t count = std::clamp<std::int64_t>(tokens, 1, kTokensMax - image_tokens);
  const std::int64_t rows = rows_of_tokens(facts);
  for (std::int64_t s = 0; s < count; ++s) {
    // One token from each of `count` equal stretches, the ends exactly; then shuffled.
    const std::int64_t first = s * rows / count;
    const std::int64_t last = std::max(first, (s + 1) * rows / count - 1);
    std::int64_t id =
        first + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(last - first + 1));
    if (s == 0) id = 0;
    if (s == count - 1) id = rows - 1;
    if (id == facts.vision.image_token) id = id == 0 ? 1 % rows : id - 1;
    inputs.input_ids.push_back(id);
  }
  for (std::size_t i = inputs.input_ids.size(); i > 1; --i) {
    std::swap(inputs.input_ids[i - 1], inputs.input_ids[random() % i]);
  }
  const VisionFacts& vision = facts.vision;
  const auto pixels = checked_mul(6 * vision.merge * vision.merge, patch_width(vision));
  if (vision.depth == 0 || vision.image_token < 0 || vision.image_token >= facts.vocab || !pixels ||
      *pixels > kProbePixelsMax)
    return inputs;
  Images images;
  images.grid_thw = {{1, 2 * vision.merge, 3 * vision.merge}};
  images.pixel_values.shape = {6 * vision.merge * vision.merge, patch_width(vision)};
  for (std::int64_t i = 0; i < *pixels; ++i) {
    images.pixel_values.values.push_back(static_cast<double>(random() >> 11) * 0x1.0p-52 - 1.0);
  }
  inputs.input_ids.insert(inputs.input_ids.begin() + static_cast<std::ptrdiff_t>(count / 2),
                          static_cast<std::size_t>(image_tokens), vision.image_token);
  inputs.images = std::move(images);
  return inputs;
}

double largest_difference(const Tensor& one, const Tensor& other) {
  const double unbounded = std::numeric_limits<double>::infinity();
  if (one.shape != other.shape || one.values.size() != other.values.size()) return unbounded;
  double largest = 0.0;
  for (std::size_t i = 0; i < one.values.size(); ++i) {
    const double difference = std::abs(one.values[i] - other.values[i]);
    if (!std::isfinite(difference)) return unbounded;
    largest = std::max(largest, difference);
  }
  return largest;
}

std::map<std::string, double> differences(const Outputs& one, const Outputs& other) {
  std::map<std::string, double> out;
  const auto lists = [&](const std::string& stem, const std::vector<Tensor>& a,
                         const std::vector<Tensor>& b) {
    for (std::size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
      const bool both = i < a.size() && i < b.size();
      out[fmt::format("{}.{}", stem, i)] =
          both ? largest_difference(a[i], b[i]) : std::numeric_limits<double>::infinity();
    }
  };
  const auto maybe = [&](const std::string& name, const std::optional<Tensor>& a,
                         const std::optional<Tensor>& b) {
    if (!a && !b) return;
    out[name] = a && b ? largest_difference(*a, *b) : std::numeric_limits<double>::infinity();
  };
  lists("layer_output", one.layer_outputs, other.layer_outputs);
  lists("mtp_output", one.mtp_outputs, other.mtp_outputs);
  lists("mtp_logits", one.mtp_logits, other.mtp_logits);
  lists("deepstack_output", one.deepstack_outputs, other.deepstack_outputs);
  out["final_norm_output"] = largest_difference(one.final_norm_output, other.final_norm_output);
  out["logits"] = largest_difference(one.logits, other.logits);
  maybe("vision_output", one.vision_output, other.vision_output);
  return out;
}

}  // namespace bv::oracle::forward
