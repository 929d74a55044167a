#include "properties/attacks/generators/layouts.hpp"

#include "core/family/stage_start.hpp"
#include "core/plan/legality.hpp"

namespace bv::generators {
namespace {

constexpr std::int64_t kSizeMax = 8;

constexpr std::array kLayoutFields = {
    field("pp", &Layout::pp, {1, 2, 3, 4}),
    field("vpp", &Layout::vpp, {1, 2}),
    field("split", &Layout::split, {0, 1, 2, 3, 4, 5, 6, 7}),
    field("each", &Layout::each, {1, 2}),
    field("ends", &Layout::ends, {1, 2}),
    field("mtp_alone", &Layout::mtp_alone, {0, 1}),
    field("tp", &Layout::tp, {0, 1, 2, 3, 4, 5, 6, 7}),
    field("ep", &Layout::ep, {0, 1, 2, 3, 4, 5, 6, 7}),
    field("etp", &Layout::etp, {0, 1, 2, 3, 4, 5, 6, 7}),
    field("vocab_divisor", &Layout::vocab_divisor, {4, 1, 16}),
    field("pp_before_dp", &Layout::pp_before_dp, {0, 1}),
};

bool is(const Layout& draw, Split split) {
  return draw.split == static_cast<std::int64_t>(split);
}
bool counts_embedding(const Layout& draw) {
  return is(draw, Split::CountEmbedding) || is(draw, Split::CountBoth);
}
bool counts_loss(const Layout& draw) {
  return is(draw, Split::CountLoss) || is(draw, Split::CountBoth);
}
bool has_first(const Layout& draw) {
  return is(draw, Split::First) || is(draw, Split::Ends);
}
bool has_last(const Layout& draw) {
  return is(draw, Split::Last) || is(draw, Split::Ends);
}

/// One stage cannot have two ends; a middle of no stage has no chunks.
std::int64_t stages_of(const Layout& draw) {
  return is(draw, Split::Ends) ? std::max<std::int64_t>(draw.pp, 2) : draw.pp;
}
std::int64_t chunks_of(const Layout& draw) {
  const std::int64_t pp = stages_of(draw);
  return pp == 1 || (is(draw, Split::Ends) && pp == 2) ? 1 : draw.vpp;
}

/// Decoder layers of stage `at` of an explicit layout.
std::int64_t text_layers(const Layout& draw, std::int64_t at) {
  const std::int64_t last = stages_of(draw) * chunks_of(draw) - 1;
  if (at == last && last > 0 && draw.mtp_alone != 0) {
    return 0;
  }
  return at == 0 ? draw.ends : draw.each;
}

std::string stage_text(const Layout& draw, std::int64_t mtp_layers) {
  const std::int64_t stages = stages_of(draw) * chunks_of(draw);
  std::string out = "E";
  for (std::int64_t i = 0; i < stages; ++i) {
    out += (i > 0 ? "|" : "") + std::string(static_cast<std::size_t>(text_layers(draw, i)), 't');
  }
  return out + std::string(static_cast<std::size_t>(mtp_layers), 'm') + "L";
}

/// Layers a stage of an even split, so that one is left when embedding and loss are counted.
std::int64_t even_each(const Layout& draw) {
  const std::int64_t counted = (counts_embedding(draw) ? 1 : 0) + (counts_loss(draw) ? 1 : 0);
  const std::int64_t stages = stages_of(draw) * chunks_of(draw);
  std::int64_t each = draw.each;
  while (stages * each - counted < 1) {
    ++each;
  }
  return each;
}

/// The values of one size that the model allows beside `layout`.
std::vector<std::int64_t> legal(const model::Model& model, parallel::Layout layout,
                                std::int64_t parallel::Layout::*size, std::int64_t ranks_max) {
  std::vector<std::int64_t> out;
  for (layout.*size = 1; layout.*size <= kSizeMax; ++(layout.*size)) {
    if (parallel::minimum_world(layout) <= ranks_max && plan::check_layout(model, layout)) {
      out.push_back(layout.*size);
    }
  }
  return out;
}

}  // namespace

std::span<const Field<Layout>> layout_fields() {
  return kLayoutFields;
}

std::int64_t layers_of(const Layout& draw) {
  const std::int64_t pp = stages_of(draw);
  const std::int64_t chunks = chunks_of(draw);
  if (is(draw, Split::Text)) {
    std::int64_t total = 0;
    for (std::int64_t i = 0; i < pp * chunks; ++i) {
      total += text_layers(draw, i);
    }
    return total;
  }
  const std::int64_t ends = (has_first(draw) ? 1 : 0) + (has_last(draw) ? 1 : 0);
  if (ends > 0) {
    return ends * draw.ends * chunks + std::max<std::int64_t>(pp - ends, 0) * draw.each * chunks;
  }
  const std::int64_t counted = (counts_embedding(draw) ? 1 : 0) + (counts_loss(draw) ? 1 : 0);
  return pp * chunks * even_each(draw) - counted;
}

parallel::Layout pipeline_of(const Layout& draw, std::int64_t mtp_layers) {
  parallel::Layout out;
  out.pp = stages_of(draw);
  const std::int64_t chunks = chunks_of(draw);
  if (is(draw, Split::Text)) {
    out.pipeline_layout = stage_text(draw, mtp_layers);
  } else {
    out.vpp = chunks;
  }
  out.account_for_embedding = counts_embedding(draw);
  out.account_for_loss = counts_loss(draw);
  if (has_first(draw)) {
    out.first_stage_layers = draw.ends * chunks;
  }
  if (has_last(draw)) {
    out.last_stage_layers = draw.ends * chunks;
  }
  return out;
}

Result<parallel::Layout> layout_of(const Layout& draw, const model::Model& model,
                                   std::int64_t ranks_max) {
  parallel::Layout out = pipeline_of(draw, model.mtp_layers);
  out.vocab_divisor = draw.vocab_divisor;
  if (!family::stage_starts(*model.family).empty() && !plan::check_layout(model, out)) {
    out = {};  // stages that may not start where these do: one stage
    out.vocab_divisor = draw.vocab_divisor;
  }
  BV_CHECK(plan::check_layout(model, out));
  const auto choose = [&](std::int64_t parallel::Layout::*size, std::int64_t index) {
    const auto values = legal(model, out, size, ranks_max);
    out.*size = values[static_cast<std::size_t>(index) % values.size()];
  };
  choose(&parallel::Layout::tp, draw.tp);
  choose(&parallel::Layout::ep, draw.ep);
  choose(&parallel::Layout::etp, draw.etp);
  // With pp before dp the two grids must agree on how often a shard repeats (E042).
  const bool one_grid = out.tp == out.etp * out.ep;
  out.pp_before_dp = draw.pp_before_dp != 0 && (out.pp == 1 || one_grid);
  return out;
}

}  // namespace bv::generators
