// The parts of the vision tower that depend on the image grid only: position grid, rope, mask,
// token slots. Source: modeling_qwen3_vl.py of transformers 5.12.1 (fast_pos_embed_interpolate,
// rot_pos_emb).
#include <cmath>

#include "oracles/forward/modules.hpp"

namespace bv::oracle::forward {
namespace {

/// One patch of one image, in merge order: row and column, and the image it lies in.
struct Patch {
  std::int64_t row;
  std::int64_t column;
  std::int64_t image;
  std::int64_t rows;
  std::int64_t columns;
};

/// Patches run block by block: the merge x merge patches that one token merges lie together.
std::vector<Patch> patches_in_merge_order(const ModelFacts& facts, const Images& images) {
  const std::int64_t merge = facts.vision.merge;
  std::vector<Patch> out;
  std::int64_t image = 0;
  for (const auto& [frames, rows, columns] : images.grid_thw) {
    for (std::int64_t block = 0; block < frames * rows * columns / (merge * merge); ++block) {
      const std::int64_t top = block / (columns / merge) * merge;
      const std::int64_t left = block % (columns / merge) * merge;
      for (std::int64_t i = 0; i < merge * merge; ++i) {
        out.push_back({top + i / merge, left + i % merge, image, rows, columns});
      }
    }
    ++image;
  }
  return out;
}

/// Where a row (or column) of the image falls on the learned grid of `side` points.
struct Between {
  std::int64_t floor;
  std::int64_t ceil;
  double above;
};
Between on_grid(std::int64_t index, std::int64_t count, std::int64_t side) {
  const double at = count == 1 ? 0.0
                               : static_cast<double>(index) * static_cast<double>(side - 1) /
                                     static_cast<double>(count - 1);
  const auto floor = static_cast<std::int64_t>(at);
  return {floor, std::min(floor + 1, side - 1), at - static_cast<double>(floor)};
}

void place_on_grid(const std::vector<Patch>& patches, std::int64_t side, VisionPlan& plan) {
  const auto count = static_cast<std::int64_t>(patches.size());
  plan.corner_index = at::empty({4, count}, at::kLong);
  plan.corner_weight = at::empty({4, count}, at::kDouble);
  auto index = plan.corner_index.accessor<std::int64_t, 2>();
  auto weight = plan.corner_weight.accessor<double, 2>();
  for (std::int64_t i = 0; i < count; ++i) {
    const Patch& patch = patches[static_cast<std::size_t>(i)];
    const Between row = on_grid(patch.row, patch.rows, side);
    const Between column = on_grid(patch.column, patch.columns, side);
    for (std::int64_t corner = 0; corner < 4; ++corner) {
      const bool lower = corner >= 2;
      const bool right = corner % 2 == 1;
      index[corner][i] =
          (lower ? row.ceil : row.floor) * side + (right ? column.ceil : column.floor);
      weight[corner][i] =
          (lower ? row.above : 1.0 - row.above) * (right ? column.above : 1.0 - column.above);
    }
  }
}

/// Half of the pairs turn with the row, the other half with the column.
RopeTable patch_rope(const std::vector<Patch>& patches, std::int64_t head_dim) {
  const auto count = static_cast<std::int64_t>(patches.size());
  const std::int64_t pairs = head_dim / 4;
  at::Tensor angles = at::empty({count, 2 * pairs}, at::kDouble);
  auto angle = angles.accessor<double, 2>();
  for (std::int64_t i = 0; i < count; ++i) {
    const Patch& patch = patches[static_cast<std::size_t>(i)];
    for (std::int64_t j = 0; j < pairs; ++j) {
      const double frequency =
          1.0 / std::pow(10000.0, static_cast<double>(j) / static_cast<double>(pairs));
      angle[i][j] = static_cast<double>(patch.row) * frequency;
      angle[i][pairs + j] = static_cast<double>(patch.column) * frequency;
    }
  }
  const at::Tensor both = at::cat({angles, angles}, -1);
  return {both.cos(), both.sin(), false};
}

}  // namespace

VisionPlan vision_plan(const ModelFacts& facts, const Inputs& inputs) {
  const VisionFacts& vision = facts.vision;
  const std::vector<Patch> patches = patches_in_merge_order(facts, inputs.images);
  VisionPlan plan;
  plan.patches = to_aten(inputs.images.pixel_values, "pixel_values");
  const auto side =
      static_cast<std::int64_t>(std::llround(std::sqrt(static_cast<double>(vision.positions))));
  place_on_grid(patches, side, plan);
  plan.rope = patch_rope(patches, vision.hidden / vision.heads);
  std::vector<std::int64_t> images;
  for (const Patch& patch : patches) images.push_back(patch.image);
  const at::Tensor image = at::tensor(images, at::kLong);
  plan.allowed = image.unsqueeze(0) == image.unsqueeze(1);
  for (std::size_t s = 0; s < inputs.input_ids.size(); ++s) {
    if (inputs.input_ids[s] == vision.image_token)
      plan.slots.push_back(static_cast<std::int64_t>(s));
  }
  return plan;
}

at::Tensor grid_positions(const VisionPlan& plan, const at::Tensor& table) {
  at::Tensor sum = at::zeros({plan.corner_index.size(1), table.size(1)}, at::kDouble);
  for (std::int64_t corner = 0; corner < 4; ++corner) {
    sum = sum + table.index_select(0, plan.corner_index[corner]) *
                    plan.corner_weight[corner].unsqueeze(1);
  }
  return sum;
}

at::Tensor with_rows(const at::Tensor& hidden, const VisionPlan& plan, const at::Tensor& rows,
                     bool add) {
  const at::Tensor slots = at::tensor(plan.slots, at::kLong);
  return add ? hidden.index_add(0, slots, rows) : hidden.index_copy(0, slots, rows);
}

}  // namespace bv::oracle::forward
