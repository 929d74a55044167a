#include "core/plan/layout_set.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/base/text.hpp"

namespace bv::plan {
namespace {

/// What stands in the way of a layout, in few words: "28 query heads", "6 layers".
std::string reason_of(const model::Model& model, std::string_view size, const Error& error) {
  return size == "PP" ? counted(model.geometry.layers(), "layer")
                      : error.found.substr(0, error.found.find(','));
}

}  // namespace

parallel::Layout with_padding(const model::Model& model, parallel::Layout layout) {
  if (!layout.vocab_divisor && layout.tp > 0 && model.geometry.vocabulary() % layout.tp != 0) {
    layout.vocab_divisor = 1;
  }
  return layout;
}

std::string padding_note(const model::Model& model, const parallel::Layout& asked,
                         const std::vector<parallel::Layout>& layouts) {
  const bool pads = std::any_of(layouts.begin(), layouts.end(), [&](const parallel::Layout& one) {
    return model.geometry.vocabulary() % one.tp != 0;
  });
  return pads && !asked.vocab_divisor ? fmt::format("{} vocabulary rows padded to a multiple of TP",
                                                    thousands(model.geometry.vocabulary()))
                                      : "";
}

std::string impossible_sizes(const model::Model& model, const parallel::Layout& base,
                             std::int64_t bound) {
  const bool experts = model.geometry.experts() > 0;
  std::vector<std::pair<std::string, std::int64_t parallel::Layout::*>> sizes = {
      {"TP", &parallel::Layout::tp}, {"PP", &parallel::Layout::pp}};
  if (experts) {
    sizes.emplace_back("EP", &parallel::Layout::ep);
    sizes.emplace_back("ETP", &parallel::Layout::etp);
  }
  std::vector<std::string> out;
  for (const auto& [name, size] : sizes) {
    std::string values, reason;
    for (std::int64_t value = 2; value <= bound; value *= 2) {
      parallel::Layout layout = base;
      layout.*size = value;
      if (const auto checked = check_layout(model, with_padding(model, layout)); !checked) {
        values += fmt::format(" {}", value);
        reason = reason.empty() ? reason_of(model, name, checked.error()) : reason;
      }
    }
    if (!values.empty()) {
      out.push_back(fmt::format("{}{} ({})", name, values, reason));
    }
  }
  return join(out, ", ");
}

LayoutSet layouts_up_to(const model::Model& model, const parallel::Layout& base,
                        std::int64_t max_ranks, std::size_t count) {
  parallel::Layout padded = base;
  padded.vocab_divisor = base.vocab_divisor.value_or(1);
  LayoutSet out;
  out.layouts = legal_layouts(model, padded, max_ranks);
  out.legal = out.layouts.size();
  out.layouts = choose_layouts(std::move(out.layouts), count == 0 ? out.legal : count);
  for (parallel::Layout& layout : out.layouts) {
    layout.vocab_divisor = base.vocab_divisor;
    layout = with_padding(model, layout);
  }
  return out;
}

}  // namespace bv::plan
