// Which layers stand on which pipeline stage. Source: docs/reference/semantics.md#pipeline-stages
// (megatron-core transformer_block.py get_num_layers_to_build, transformer_layer.py
// get_transformer_layer_offset, pipeline_parallel_layer_layout.py).

#include <fmt/format.h>

#include <algorithm>

#include "core/parallel/parallel.hpp"
#include "core/parallel/stage_text.hpp"

namespace bv::parallel {
namespace {

using Counts =
    std::vector<std::int64_t>;  // decoder layers of each stage, sigma = vp * pp_size + pp

std::string nearest_divisor(std::int64_t dividend, std::int64_t wrong) {
  const Divided one{dividend};
  return nearest_text(legal_values(std::span(&one, 1), dividend), wrong);
}

Error undivided(std::string_view option, std::int64_t size, std::string what,
                std::int64_t dividend) {
  return fail(Code::IndivisibleDim, fmt::format("{}={} does not divide {}", option, size, what))
      .pair(fmt::format("{} = {}", option, size), fmt::format("a divisor of {}", dividend))
      .advise(fmt::format("nearest legal {}: {}", option, nearest_divisor(dividend, size)));
}

Result<Counts> even_counts(const Layout& layout, std::int64_t layers) {
  const std::int64_t before = layout.account_for_embedding ? 1 : 0;
  const std::int64_t after = layout.account_for_loss ? 1 : 0;
  const std::int64_t total = layers + before + after;
  std::string what = before + after == 0
                         ? fmt::format("the {} decoder layers", layers)
                         : fmt::format("{} = {} decoder layers + {} for embedding and loss", total,
                                       layers, before + after);
  if (total % layout.pp != 0) {
    Error fault = undivided("PP", layout.pp, what, total);
    fault.help += ", or give --decoder-first-pipeline-num-layers";
    return fault;
  }
  const std::int64_t in_rank = total / layout.pp;
  if (in_rank % layout.vpp != 0) {
    return undivided("VPP", layout.vpp, fmt::format("the {} layers of a pipeline rank", in_rank),
                     in_rank);
  }
  const std::int64_t stages = layout.pp * layout.vpp;
  Counts counts(static_cast<std::size_t>(stages), total / stages);
  counts.front() -= before;
  counts.back() -= after;
  // E038 cannot come up: a positive total that the stages divide gives each stage at least one
  // place.
  BV_ASSERT(counts.front() >= 0 && counts.back() >= 0);
  return counts;
}

/// The end-stage sizes that make the middle come out even, near `wrong`.
std::string nearest_end(std::int64_t layers_left, std::int64_t middle, std::int64_t wrong) {
  std::vector<std::int64_t> legal;
  for (std::int64_t end = 1; end <= layers_left; ++end) {
    const std::int64_t rest = layers_left - end;
    if (middle == 0 ? rest == 0 : rest > 0 && rest % middle == 0) {
      legal.push_back(end);
    }
  }
  return std::ranges::binary_search(legal, wrong) ? fmt::format("{}", wrong)
                                                  : nearest_text(legal, wrong);
}

Error middle_fault(const Layout& layout, std::int64_t layers, std::int64_t middle,
                   std::int64_t rest) {
  std::string help = "change PP or give only one end stage";
  if (middle >= 0) {
    const bool first = layout.first_stage_layers.has_value();
    const std::int64_t wrong = first ? *layout.first_stage_layers : *layout.last_stage_layers;
    const std::int64_t other = first ? layout.last_stage_layers.value_or(0) : 0;
    help = fmt::format("nearest legal --decoder-{}-pipeline-num-layers: {}",
                       first ? "first" : "last", nearest_end(layers - other, middle, wrong));
  }
  return fail(Code::IndivisibleDim,
              fmt::format("{} of {} layers are left for the {} middle stages of PP={}", rest,
                          layers, std::max<std::int64_t>(middle, 0), layout.pp))
      .pair(fmt::format("{} layers on {} middle stages", rest, middle),
            middle > 0 ? fmt::format("a positive multiple of {}", middle)
                       : std::string("0 layers, no middle stage"))
      .advise(help);
}

Status check_ends(const Layout& layout) {
  for (const auto& [option, end] :
       {std::pair("--decoder-first-pipeline-num-layers", layout.first_stage_layers),
        std::pair("--decoder-last-pipeline-num-layers", layout.last_stage_layers)}) {
    if (end && (*end < 1 || *end > kMaxSize)) {
      return fail(Code::BadValue,
                  fmt::format("{} {} is not a number from 1 to {}", option, *end, kMaxSize))
          .pair(fmt::format("{}", *end), fmt::format("1 to {}", kMaxSize))
          .advise(fmt::format("leave {} away for an even split", option));
    }
  }
  if (layout.first_stage_layers && layout.last_stage_layers && layout.pp == 2 && layout.vpp > 1) {
    return fail(Code::Conflict,
                fmt::format("PP=2 with both end stages given cannot have VPP={}", layout.vpp))
        .fact("megatron-core divides by its 0 middle stages here")
        .pair(fmt::format("VPP = {}", layout.vpp), "VPP = 1, or only one end stage given")
        .advise("leave --decoder-last-pipeline-num-layers away, or use --vpp 1");
  }
  return Done{};
}

Result<Counts> uneven_counts(const Layout& layout, std::int64_t layers) {
  BV_CHECK(check_ends(layout));
  const bool first = layout.first_stage_layers.has_value();
  const bool last = layout.last_stage_layers.has_value();
  const std::int64_t middle = layout.pp - (first ? 1 : 0) - (last ? 1 : 0);
  const std::int64_t rest =
      layers - layout.first_stage_layers.value_or(0) - layout.last_stage_layers.value_or(0);
  if (middle < 0 || rest < 0 || (rest == 0) != (middle == 0) ||
      (middle > 0 && rest % middle != 0)) {
    return middle_fault(layout, layers, middle, rest);
  }
  std::vector<std::int64_t> in_rank(static_cast<std::size_t>(layout.pp),
                                    middle > 0 ? rest / middle : 0);
  if (first) {
    in_rank.front() = *layout.first_stage_layers;
  }
  if (last) {
    in_rank.back() = *layout.last_stage_layers;
  }
  for (const std::int64_t count : in_rank) {
    if (count % layout.vpp != 0) {
      return undivided("VPP", layout.vpp, fmt::format("the {} layers of a pipeline rank", count),
                       count);
    }
  }
  Counts counts;
  for (std::int64_t vp = 0; vp < layout.vpp; ++vp) {
    for (const std::int64_t count : in_rank) {
      counts.push_back(count / layout.vpp);
    }
  }
  return counts;
}

void number_stages(std::vector<StageContents>& stages, const Layout& layout) {
  std::int64_t layer = 0;
  std::int64_t mtp = 0;
  for (std::size_t sigma = 0; sigma < stages.size(); ++sigma) {
    StageContents& stage = stages[sigma];
    stage.pp = static_cast<std::int64_t>(sigma) % layout.pp;
    stage.vp = static_cast<std::int64_t>(sigma) / layout.pp;
    stage.first_layer = layer;
    stage.first_mtp = mtp;
    layer += stage.layers;
    mtp += stage.mtp_layers;
  }
}

/// A norm belongs to the loss without MTP; with MTP it stands behind the last decoder layer.
void place_ends(std::vector<StageContents>& stages, std::int64_t mtp_layers) {
  stages.front().embedding = true;
  stages.back().output = true;
  std::size_t norm = stages.size() - 1;
  while (mtp_layers > 0 && norm > 0 && stages[norm].layers == 0) {
    --norm;
  }
  stages[norm].final_norm = true;
}

Error layout_fault(std::string what, std::string found, std::string wanted, std::string help) {
  return fail(Code::LayerOnNoStage, fmt::format("pipeline layout {}", what))
      .at("--pipeline-model-parallel-layout")
      .pair(std::move(found), std::move(wanted))
      .advise(std::move(help));
}

std::int64_t count_letter(std::string_view letters, char letter) {
  return std::ranges::count(letters, letter);
}

Status check_letters(const std::vector<StageText>& texts, std::int64_t layers,
                     std::int64_t mtp_layers) {
  std::string all;
  for (const StageText& text : texts) {
    all += text;
  }
  if (count_letter(all, 'E') != 1 || count_letter(all, 'L') != 1 || all.front() != 'E' ||
      all.back() != 'L') {
    return layout_fault(
        "must start with its one E and end with its one L",
        fmt::format("{} E and {} L", count_letter(all, 'E'), count_letter(all, 'L')),
        "one E first and one L last", "write E once at the start and L once at the end");
  }
  if (texts.front().empty() || texts.back().empty()) {
    return layout_fault(
        "has E behind the first stage or L before the last",
        fmt::format("first stage \"{}\", last stage \"{}\"", texts.front(), texts.back()),
        "E in the first stage, L in the last: both are built by position",
        "remove the empty stages at the start and the end");
  }
  if (count_letter(all, 't') != layers) {
    return layout_fault(fmt::format("places {} decoder layers", count_letter(all, 't')),
                        fmt::format("{} t", count_letter(all, 't')), fmt::format("{} t", layers),
                        fmt::format("write t {} times in all", layers));
  }
  if (count_letter(all, 'm') != mtp_layers) {
    return layout_fault(fmt::format("places {} MTP layers", count_letter(all, 'm')),
                        fmt::format("{} m", count_letter(all, 'm')),
                        fmt::format("{} m", mtp_layers),
                        fmt::format("write m {} times in all", mtp_layers));
  }
  if (all.find('m') < all.rfind('t')) {
    return layout_fault("has a decoder layer behind an MTP layer", "t behind m",
                        "every t before every m", "move m behind the last t");
  }
  return Done{};
}

Status check_mtp_stage(const std::vector<StageText>& texts, std::int64_t mtp_layers,
                       std::int64_t pp_size) {
  const auto holds = [](const StageText& text) { return text.find('m') != std::string::npos; };
  const auto found = std::ranges::find_if(texts, holds);
  if (found == texts.end()) {
    return Done{};
  }
  if (count_letter(*found, 'm') != mtp_layers) {
    return layout_fault(
        "spreads the MTP layers over stages",
        fmt::format("{} of {} m in one stage", count_letter(*found, 'm'), mtp_layers),
        "all m in one stage", "write all m into one stage");
  }
  const std::int64_t sigma = found - texts.begin();
  const auto stages = static_cast<std::int64_t>(texts.size());
  if (sigma < stages - pp_size) {
    return layout_fault(
        fmt::format("has MTP layers in chunk {} of a pipeline rank", sigma / pp_size),
        fmt::format("m in stage {}", sigma),
        fmt::format("m in stage {} or later", stages - pp_size),
        "move m to the last chunk of its pipeline rank");
  }
  return Done{};
}

Result<std::vector<StageContents>> explicit_stages(const Layout& layout, std::int64_t layers,
                                                   std::int64_t mtp_layers) {
  BV_TRY(texts, parse_stage_text(layout.pipeline_layout));
  const auto stage_count = static_cast<std::int64_t>(texts.size());
  if (stage_count % layout.pp != 0) {
    return undivided("PP", layout.pp,
                     fmt::format("the {} stages of the pipeline layout", stage_count), stage_count);
  }
  const std::int64_t chunks = stage_count / layout.pp;
  if (layout.vpp > 1 && layout.vpp != chunks) {
    return fail(Code::Conflict,
                fmt::format("VPP={} but the pipeline layout has {} stages for PP={}", layout.vpp,
                            stage_count, layout.pp))
        .pair(fmt::format("{} chunks a rank", chunks), fmt::format("{}", layout.vpp))
        .advise("remove --vpp; the pipeline layout determines it");
  }
  if (chunks > 1 && layout.pp == 1) {
    return fail(Code::Conflict,
                fmt::format("a pipeline layout of {} stages needs PP > 1", stage_count))
        .pair("PP = 1", "PP of at least 2")
        .advise("write the layout without |, or raise --pp");
  }
  BV_CHECK(check_letters(texts, layers, mtp_layers));
  BV_CHECK(check_mtp_stage(texts, mtp_layers, layout.pp));
  std::vector<StageContents> stages(texts.size());
  for (std::size_t sigma = 0; sigma < texts.size(); ++sigma) {
    stages[sigma].layers = count_letter(texts[sigma], 't');
    stages[sigma].mtp_layers = count_letter(texts[sigma], 'm');
  }
  return stages;
}

Status check_choice(const Layout& layout, std::int64_t layers, std::int64_t mtp_layers) {
  BV_CHECK(check_sizes(layout));
  if (layers < 1 || layers > kMaxSize || mtp_layers < 0 || mtp_layers > kMaxSize) {
    return fail(Code::BadValue, fmt::format("{} decoder layers with {} MTP layers cannot be placed",
                                            layers, mtp_layers))
        .pair(fmt::format("{} and {}", layers, mtp_layers),
              fmt::format("1 to {} and 0 to {}", kMaxSize, kMaxSize))
        .advise("correct num_hidden_layers or the MTP layer count of the config");
  }
  const bool ends = layout.first_stage_layers || layout.last_stage_layers;
  const bool counted = layout.account_for_embedding || layout.account_for_loss;
  const bool text = !layout.pipeline_layout.empty();
  if ((ends && counted) || (text && (ends || counted))) {
    return fail(Code::Conflict, "two ways to split the layers are given at once")
        .pair(fmt::format("{}{}{}", ends ? "end stage sizes; " : "",
                          counted ? "embedding or loss counted; " : "",
                          text ? "an explicit layout" : ""),
              "one of: end stage sizes, embedding and loss counted, explicit layout")
        .advise(
            "keep one of --decoder-first/last-pipeline-num-layers, "
            "--account-for-embedding/loss-in-pipeline-split, "
            "--pipeline-model-parallel-layout");
  }
  if (layout.vpp > 1 && layout.pp == 1) {
    return fail(Code::Conflict, fmt::format("VPP={} needs PP > 1", layout.vpp))
        .pair("PP = 1", "PP of at least 2")
        .advise("write --vpp 1, or raise --pp");
  }
  return Done{};
}

}  // namespace

std::int64_t virtual_stages(const Layout& layout) {
  if (layout.pipeline_layout.empty() || layout.pp < 1) {
    return layout.vpp;
  }
  const Result<std::vector<StageText>> texts = parse_stage_text(layout.pipeline_layout);
  const auto stages = texts ? static_cast<std::int64_t>(texts->size()) : 0;
  return stages == 0 || stages % layout.pp != 0 ? layout.vpp : stages / layout.pp;
}

Result<std::vector<StageContents>> plan_stages(const Layout& layout, std::int64_t layers,
                                               std::int64_t mtp_layers) {
  BV_CHECK(check_choice(layout, layers, mtp_layers));
  std::vector<StageContents> stages;
  if (!layout.pipeline_layout.empty()) {
    BV_TRY(explicitly, explicit_stages(layout, layers, mtp_layers));
    stages = std::move(explicitly);
  } else {
    const bool uneven = layout.first_stage_layers || layout.last_stage_layers;
    BV_TRY(counts, uneven ? uneven_counts(layout, layers) : even_counts(layout, layers));
    for (const std::int64_t count : counts) {
      stages.emplace_back().layers = count;
    }
    stages.back().mtp_layers = mtp_layers;
  }
  number_stages(stages, layout);
  place_ends(stages, mtp_layers);
  return stages;
}

}  // namespace bv::parallel
