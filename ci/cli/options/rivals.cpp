#include "ci/cli/options/rivals.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/base/text.hpp"

namespace bv::cli {
namespace {

/// Options that contradict each other. In one layer that is an error; a weaker layer gives way.
constexpr std::array<std::pair<std::string_view, std::string_view>, 14> kRivals = {{
    {"moe-grouped-gemm", "no-moe-grouped-gemm"},
    {"quiet", "verbose"},
    {"overwrite", "resume"},
    {"model", "headers"},
    {"only", "skip"},
    {"json", "format"},
    {"json", "plain"},
    {"layout", "tp"},
    {"layout", "pp"},
    {"layout", "ep"},
    {"layout", "etp"},
    {"layout", "vpp"},
    {"layout", "cp"},
    {"tensor", "rank"},
}};

/// What picks layouts by itself, and what says them: one of the two is without effect.
constexpr std::array<std::string_view, 2> kPicked = {"layouts", "max-ranks"};
constexpr std::array<std::string_view, 10> kStated = {"layout",
                                                      "tp",
                                                      "pp",
                                                      "ep",
                                                      "etp",
                                                      "vpp",
                                                      "cp",
                                                      "decoder-first-pipeline-num-layers",
                                                      "decoder-last-pipeline-num-layers",
                                                      "pipeline-model-parallel-layout"};

template <class List, class Item>
bool listed(const List& list, const Item& item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

/// --json and --format json say the same.
bool agree(const Options& options, std::string_view a, std::string_view b) {
  const auto one = [&](std::string_view name) { return a == name || b == name; };
  return one("json") && one("format") && options.format == "json";
}

}  // namespace

bool rivals(std::string_view a, std::string_view b) {
  return listed(kRivals, std::pair(a, b)) || listed(kRivals, std::pair(b, a)) ||
         (listed(kPicked, a) && listed(kStated, b)) || (listed(kStated, a) && listed(kPicked, b));
}

Status check_rivals(const Options& options) {
  for (std::size_t i = 0; i < options.given.size(); ++i) {
    for (std::size_t j = i + 1; j < options.given.size(); ++j) {
      const Setting& a = options.given[i];
      const Setting& b = options.given[j];
      if (rivals(a.name, b.name) && !agree(options, a.name, b.name)) {
        return fail(Code::Conflict, fmt::format("{} and {} contradict each other",
                                                escaped(a.written), escaped(b.written)))
            .advise(fmt::format("leave out --{} or --{}", a.name, b.name));
      }
    }
  }
  return Done{};
}

}  // namespace bv::cli
