#include "core/lora/factor_boxes.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/arith.hpp"

namespace bv::lora {
namespace {

constexpr std::int32_t kZeros = -1;

/// Rows of one shard, or of the whole layer, with the HF tensor and row that each comes from.
struct RowRun {
  std::int32_t hf = kZeros;
  std::int64_t row = 0;     // of the HF tensor
  std::int64_t target = 0;  // row of the shard
  layout::BoxAxes axes;     // in rows
};

std::vector<RowRun> runs_of(const layout::BoundRule& line, std::int64_t t) {
  std::vector<RowRun> out;
  for (const layout::Box& box : line.shard(0, {{"t", t}}).boxes) {
    out.push_back({box.source, box.source_offset, box.target_offset, box.axes});
  }
  return out;
}

/// A box of rows, each `width` elements from `column` on in a target of `pitch` columns.
struct Columns {
  std::int64_t first = 0;
  std::int64_t count = 0;
  std::int64_t pitch = 0;
};
layout::Box matrix_box(const RowRun& rows, const Columns& columns, const Slot* slot,
                       std::int64_t slot_row) {
  layout::Box box;
  box.source = slot == nullptr ? kZeros : slot->source;
  box.source_offset = slot == nullptr ? 0 : slot->offset + slot_row * slot->row_stride;
  box.target_offset = rows.target * columns.pitch + columns.first;
  for (const layout::BoxAxis& axis : rows.axes) {
    box.axes.push_back({axis.extent, slot == nullptr ? 0 : axis.source_stride * slot->row_stride,
                        axis.target_stride * columns.pitch});
  }
  box.axes.push_back({columns.count, slot == nullptr ? 0 : slot->column_stride, 1});
  layout::normalise(box);
  return box;
}

/// The runs of the rows that a block stands on, source rows counted in the block's own; what is
/// left of `runs` stays there.
std::vector<RowRun> take(std::vector<RowRun>& runs, const Block& block, std::int64_t rows_of_hf) {
  std::vector<RowRun> out;
  std::vector<RowRun> left;
  const bool whole = block.first_row == 0 && block.row_step == 1 && block.rows == rows_of_hf;
  for (RowRun& run : runs) {
    if (run.hf != static_cast<std::int32_t>(block.hf)) {
      left.push_back(std::move(run));
      continue;
    }
    if (whole) {
      out.push_back(std::move(run));
      continue;
    }
    layout::Box box;
    box.source_offset = run.row;
    box.target_offset = run.target;
    box.axes = run.axes;
    for (std::int64_t i = 0; i < box.elements(); ++i) {
      const layout::BoxPlace at = layout::place_of(box, i);
      const std::int64_t steps = at.source - block.first_row;
      const bool mine =
          steps >= 0 && steps % block.row_step == 0 && steps / block.row_step < block.rows;
      (mine ? out : left)
          .push_back({run.hf, mine ? steps / block.row_step : at.source, at.target, {}});
    }
  }
  runs = std::move(left);
  return out;
}

/// The part of boxes over a tensor of `elements` that rank `t` of `ways` even parts holds.
void cut_evenly(std::vector<layout::Box> boxes, std::int64_t elements, std::int64_t ways,
                std::int64_t t, std::int64_t origin, std::vector<layout::Box>& out) {
  const std::int64_t part = elements / ways;
  const std::size_t first = out.size();
  for (const layout::Box& box : boxes) {
    layout::clip_to_target(box, t * part, (t + 1) * part, out);
  }
  for (std::size_t i = first; i < out.size(); ++i) {
    out[i].target_offset += origin - t * part;
  }
}

RowRun all_rows(std::int64_t rows) {
  RowRun out;
  out.axes = {{rows, 1, 1}};
  return out;
}

/// Rows of B on rank t: those of the weight's shard, of the whole layer, or of one key.
std::vector<RowRun> b_runs(const Site& site, const AdapterCut& cut, std::int64_t t) {
  if (cut.key) {
    RowRun run = all_rows(cut.key->rows);
    run.hf = static_cast<std::int32_t>(cut.key->hf);
    run.row = cut.key->first;
    return {run};
  }
  return runs_of(*site.rows, cut.b_as_base ? t : 0);
}

std::int64_t rows_of_b(const Site& site, const AdapterCut& cut) {
  return cut.key ? cut.key->rows : site.out;
}

/// `width` 1 makes a vector of rows.
void add_rows(const Site& site, const AdapterCut& cut, std::int64_t t, const LayerFactors& factors,
              std::int64_t width, std::int64_t origin, std::vector<layout::Box>& out) {
  std::vector<RowRun> runs = b_runs(site, cut, t);
  std::vector<layout::Box> boxes;
  for (const Block& block : factors.blocks) {
    const std::int64_t count = std::min(block.rank, width);
    for (const RowRun& run : take(runs, block, site.rows_of(block.hf))) {
      if (block.at > 0) {
        boxes.push_back(matrix_box(run, {0, block.at, width}, nullptr, 0));
      }
      boxes.push_back(matrix_box(run, {block.at, count, width}, &block.b, run.row));
      if (block.at + count < width) {
        boxes.push_back(
            matrix_box(run, {block.at + count, width - block.at - count, width}, nullptr, 0));
      }
    }
  }
  for (const RowRun& run : runs) {  // no adapter there: a delta of zero
    boxes.push_back(matrix_box(run, {0, width, width}, nullptr, 0));
  }
  const bool even = !cut.whole && (cut.key || !cut.b_as_base);
  cut_evenly(std::move(boxes), rows_of_b(site, cut) * width, even ? cut.ways : 1, even ? t : 0,
             origin, out);
}

Error indivisible(const Site& site, const char* what, std::int64_t size, std::int64_t ways) {
  return fail(Code::IndivisibleDim,
              fmt::format("the adapter of {} cannot be cut: {} {} does not divide by {}",
                          site.module, what, size, ways))
      .pair(std::to_string(size), fmt::format("a multiple of {}", ways))
      .advise("choose a smaller tensor parallelism, or merge the adapter first");
}

}  // namespace

AdapterCut adapter_cut(const Site& site, std::int64_t ways) {
  AdapterCut out;
  out.ways = ways;
  out.a_by_rank = site.cut != BaseCut::Columns;
  out.b_as_base = site.cut == BaseCut::Rows;
  out.whole = site.as_in_hf;
  return out;
}

Result<FactorShapes> local_shapes(const Site& site, const AdapterCut& cut, std::int64_t rank) {
  const std::int64_t rows = rows_of_b(site, cut);
  const std::int64_t ways = cut.whole ? 1 : cut.ways;
  const std::int64_t in = cut.a_by_rank || cut.whole
                              ? site.in
                              : element_count(site.columns->target_shapes()[0]).value();
  if (cut.a_by_rank && rank % ways != 0) {
    return indivisible(site, "rank", rank, ways);
  }
  if (rows % ways != 0) {
    return indivisible(site, "output rows", rows, ways);
  }
  return FactorShapes{{cut.a_by_rank ? rank / ways : rank, in}, {rows / ways, rank}};
}

void add_a_boxes(const Site& site, const AdapterCut& cut, std::int64_t t,
                 const LayerFactors& factors, std::int64_t origin, std::vector<layout::Box>& out) {
  // Columns of A are numbered as rows are elsewhere: a run of the line, with the rank axis outside.
  const bool by_rank = cut.a_by_rank || cut.whole;
  const std::vector<RowRun> columns = runs_of(*site.columns, by_rank ? 0 : t);
  const std::int64_t in =
      by_rank ? site.in : element_count(site.columns->target_shapes()[0]).value();
  std::vector<layout::Box> boxes;
  std::int64_t filled = 0;
  for (const Block& block : factors.blocks) {
    if (!block.owns_a) {
      continue;
    }
    for (const RowRun& run : columns) {
      layout::Box box;
      box.source = block.a.source;
      box.source_offset = block.a.offset + run.row * block.a.column_stride;
      box.target_offset = block.at * in + run.target;
      box.axes.push_back({block.rank, block.a.row_stride, in});
      for (const layout::BoxAxis& axis : run.axes) {
        box.axes.push_back(
            {axis.extent, axis.source_stride * block.a.column_stride, axis.target_stride});
      }
      layout::normalise(box);
      boxes.push_back(box);
    }
    filled = std::max(filled, block.at + block.rank);
  }
  if (filled < factors.rank) {
    RowRun rest = all_rows(factors.rank - filled);
    rest.target = filled;
    boxes.push_back(matrix_box(rest, {0, in, in}, nullptr, 0));
  }
  const bool even = cut.a_by_rank && !cut.whole;
  cut_evenly(std::move(boxes), factors.rank * in, even ? cut.ways : 1, even ? t : 0, origin, out);
}

void add_b_boxes(const Site& site, const AdapterCut& cut, std::int64_t t,
                 const LayerFactors& factors, std::int64_t origin, std::vector<layout::Box>& out) {
  add_rows(site, cut, t, factors, factors.rank, origin, out);
}

void add_row_boxes(const Site& site, const AdapterCut& cut, std::int64_t t,
                   const LayerFactors& factors, std::int64_t origin,
                   std::vector<layout::Box>& out) {
  LayerFactors vectors = factors;
  for (Block& block : vectors.blocks) {
    block.at = 0;
  }
  add_rows(site, cut, t, vectors, 1, origin, out);
}

}  // namespace bv::lora
