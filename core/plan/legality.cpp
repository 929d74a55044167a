#include "core/plan/legality.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/text.hpp"
#include "core/family/expression.hpp"
#include "core/family/stage_start.hpp"
#include "core/family/symbols.hpp"

namespace bv::plan {
namespace {

constexpr std::string_view kVocabulary = "E023";  // lifted by padding
constexpr std::int64_t kShownBound = 1024;

std::int64_t size_of(const parallel::Layout& layout, family::RankGroup group) {
  switch (group) {
    case family::RankGroup::Tp:
      return layout.tp;
    case family::RankGroup::Etp:
      return layout.etp;
    case family::RankGroup::Ep:
      return layout.ep;
    case family::RankGroup::Cp:
      return layout.cp;
  }
  return 1;
}

std::int64_t size_of(const parallel::Layout& layout, const family::Divisor& divisor) {
  std::int64_t product = 1;
  for (const family::RankGroup group : divisor.groups) {
    product *= size_of(layout, group);
  }
  return product;
}

bool holds(std::int64_t dividend, std::int64_t divisor, bool either_way) {
  return dividend % divisor == 0 || (either_way && dividend > 0 && divisor % dividend == 0);
}

std::string upper(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return out;
}

bool applies(const family::Constraint& constraint, const parallel::Layout& layout) {
  return constraint.code != kVocabulary || !layout.vocab_divisor;
}

/// The values of one size that satisfy every condition on it.
std::vector<std::int64_t> legal_for(const model::Model& model, const parallel::Layout& layout,
                                    const family::Divisor& divisor) {
  std::vector<parallel::Divided> conditions;
  for (const family::Constraint& one : model.constraints) {
    if (one.divisor != divisor || !applies(one, layout)) {
      continue;
    }
    if (const auto dividend = family::evaluate(one.dividend, model.geometry.with(one.sizes))) {
      conditions.push_back({*dividend, one.either_way});
    }
  }
  return parallel::legal_values(conditions, kShownBound);
}

Status check_constraint(const model::Model& model, const parallel::Layout& layout,
                        const family::Constraint& one) {
  BV_TRY(dividend, family::evaluate(one.dividend, model.geometry.with(one.sizes)));
  const std::int64_t divisor = size_of(layout, one.divisor);
  if (holds(dividend, divisor, one.either_way)) {
    return Done{};
  }
  const auto legal = legal_for(model, layout, one.divisor);
  const std::string size = upper(text(one.divisor));
  auto error =
      fail(Code::IndivisibleDim,
           fmt::format("{}={} does not divide the {} {}{}", size, divisor, thousands(dividend),
                       one.noun, one.of.empty() ? "" : " of " + one.of))
          .pair(fmt::format("{} {}, {}={}", thousands(dividend), one.noun, size, divisor),
                one.either_way
                    ? fmt::format("{} that divides {}, or a multiple of it", size, dividend)
                    : fmt::format("{} that divides {}", size, dividend))
          .fact(join(model::fields_behind(*model.family, model.geometry, one.dividend), ", "))
          .advise(fmt::format("legal {} for this model: {}", size, parallel::legal_text(legal)));
  if (one.code == kVocabulary) {
    error.help += ", or pad the vocabulary with --make-vocab-size-divisible-by N";
  }
  return error;
}

/// "0-1, 3": the numbers of the layers that have the flag.
std::string layers_with(const model::Model& model, const std::string& flag) {
  std::string out;
  const auto& flags = model.geometry.layer_flags;
  for (std::size_t i = 0; i < flags.size(); ++i) {
    if (!flags[i].contains(flag)) {
      continue;
    }
    std::size_t last = i;
    while (last + 1 < flags.size() && flags[last + 1].contains(flag)) {
      ++last;
    }
    out += out.empty() ? "" : ", ";
    out += last == i ? std::to_string(i) : fmt::format("{}-{}", i, last);
    i = last;
  }
  return out;
}

/// No layer may start a stage but the first: whatever lies on the stages, there is one.
Error only_one_stage(const parallel::Layout& layout, const family::StageStart& start) {
  return fail(Code::Conflict,
              fmt::format("PP={} on a model that is built in one pipeline stage", layout.pp))
      .pair(fmt::format("PP={}", layout.pp), "PP=1")
      .fact(start.because)
      .advise("leave --pp out");
}

/// Layers that take something from an earlier one find it in their own stage.
Status check_stage_starts(const model::Model& model, const parallel::Layout& layout,
                          const std::vector<parallel::StageContents>& stages) {
  const auto& flags = model.geometry.layer_flags;
  for (const family::StageStart& start : family::stage_starts(*model.family)) {
    if (layout.pp > 1 && layers_with(model, start.flag).empty()) {
      return only_one_stage(layout, start);
    }
    for (const parallel::StageContents& stage : stages) {
      const auto first = static_cast<std::size_t>(stage.first_layer);
      if (stage.layers == 0 || first == 0 || first >= flags.size() ||
          flags[first].contains(start.flag)) {
        continue;
      }
      const std::string where =
          stage.vp == 0 ? fmt::format("pipeline stage {}", stage.pp)
                        : fmt::format("pipeline stage {}, virtual stage {}", stage.pp, stage.vp);
      return fail(Code::Conflict,
                  fmt::format("{} starts on layer {}, which has no {}", where, first, start.noun))
          .pair(fmt::format("layer {}", first),
                fmt::format("one of the layers {}", layers_with(model, start.flag)))
          .fact(start.because)
          .advise(
              "choose another --pp, or split the layers by --decoder-first-pipeline-num-layers or "
              "--pipeline-model-parallel-layout");
    }
  }
  return Done{};
}

}  // namespace

Status check_layout(const model::Model& model, const parallel::Layout& layout) {
  BV_CHECK(parallel::check_sizes(layout));
  const auto experts = model.geometry.experts();
  if (layout.ep > 1 && experts == 0) {
    return fail(Code::Conflict, fmt::format("EP={} on a model without experts", layout.ep))
        .pair(fmt::format("EP={}", layout.ep), "EP=1")
        .advise("leave --ep out");
  }
  for (const family::Constraint& one : model.constraints) {
    if (applies(one, layout)) {
      BV_CHECK(check_constraint(model, layout, one));
    }
  }
  // Rules of experts say it better; a model may have experts and no layer of them.
  if (experts % layout.ep != 0) {  // a remainder would lie on no rank
    return fail(Code::IndivisibleDim,
                fmt::format("EP={} does not divide {} experts", layout.ep, experts))
        .pair(fmt::format("{} experts, EP={}", experts, layout.ep),
              fmt::format("EP that divides {}", experts))
        .advise("choose an --ep that divides the number of experts");
  }
  auto stages = parallel::plan_stages(layout, model.geometry.layers(), model.mtp_layers);
  if (!stages) {
    return std::move(stages).error().fact(
        join(model::fields_behind(*model.family, model.geometry, family::symbols::kLayers), ", "));
  }
  return check_stage_starts(model, layout, *stages);
}

std::vector<parallel::Layout> choose_layouts(std::vector<parallel::Layout> legal,
                                             std::size_t count) {
  if (legal.size() <= count) {
    return legal;
  }
  std::vector<parallel::Layout> chosen;
  std::vector<bool> taken(legal.size(), false);
  std::set<std::pair<char, std::int64_t>> seen;
  const auto take = [&](std::size_t i) {
    taken[i] = true;
    chosen.push_back(legal[i]);
    seen.insert({{'t', legal[i].tp}, {'p', legal[i].pp}, {'e', legal[i].ep}, {'x', legal[i].etp}});
  };
  for (std::size_t i = 0; i < legal.size() && chosen.size() < count; ++i) {
    const auto& l = legal[i];
    if (!seen.contains({'t', l.tp}) || !seen.contains({'p', l.pp}) || !seen.contains({'e', l.ep}) ||
        !seen.contains({'x', l.etp})) {
      take(i);
    }
  }
  for (std::size_t i = 0; i < legal.size() && chosen.size() < count; ++i) {
    if (!taken[i]) {
      take(i);
    }
  }
  std::stable_sort(chosen.begin(), chosen.end(),
                   [](const parallel::Layout& a, const parallel::Layout& b) {
                     return std::tuple(parallel::minimum_world(a), a.tp, a.pp, a.ep, a.etp) <
                            std::tuple(parallel::minimum_world(b), b.tp, b.pp, b.ep, b.etp);
                   });
  return chosen;
}

}  // namespace bv::plan
