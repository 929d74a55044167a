#include <fmt/format.h>

#include <sstream>

#include "ci/cli/session/session.hpp"
#include "core/base/shell.hpp"
#include "core/base/text.hpp"
#include "core/io/writer.hpp"

namespace bv::cli {
namespace {

constexpr std::int64_t kAutoRanks = 8;
constexpr std::size_t kAutoCount = 64;
constexpr std::size_t kQuickCount = 6;

/// The options of a layout that its id leaves out.
std::string beside_id(const parallel::Layout& layout) {
  std::vector<std::string> out;
  const auto number = [&](std::string_view name, const std::optional<std::int64_t>& value) {
    if (value) {
      out.push_back(fmt::format("--{} {}", name, *value));
    }
  };
  const auto flag = [&](std::string_view name, bool set) {
    if (set) {
      out.push_back(fmt::format("--{}", name));
    }
  };
  number("decoder-first-pipeline-num-layers", layout.first_stage_layers);
  number("decoder-last-pipeline-num-layers", layout.last_stage_layers);
  flag("account-for-embedding-in-pipeline-split", layout.account_for_embedding);
  flag("account-for-loss-in-pipeline-split", layout.account_for_loss);
  if (!layout.pipeline_layout.empty()) {
    out.push_back("--pipeline-model-parallel-layout " + shell_quoted(layout.pipeline_layout));
  }
  number("make-vocab-size-divisible-by", layout.vocab_divisor);
  return join(out, " ");
}

/// Everything of a layout that is not one of the listed sizes.
parallel::Layout base_layout(const Options& options) {
  parallel::Layout out;
  out.first_stage_layers = options.first_stage_layers;
  out.last_stage_layers = options.last_stage_layers;
  out.account_for_embedding = options.account_for_embedding;
  out.account_for_loss = options.account_for_loss;
  out.pipeline_layout = options.pipeline_layout;
  out.vocab_divisor = options.vocab_divisor;
  return out;
}

bool has_sizes(const Options& options) {
  return !options.tp.empty() || !options.pp.empty() || !options.ep.empty() ||
         !options.etp.empty() || !options.vpp.empty() || !options.cp.empty() ||
         options.first_stage_layers || options.last_stage_layers ||
         !options.pipeline_layout.empty();
}

std::vector<std::int64_t> or_one(const std::vector<std::int64_t>& list) {
  return list.empty() ? std::vector<std::int64_t>{1} : list;
}

std::vector<parallel::Layout> product(const Options& options) {
  std::vector<parallel::Layout> out;
  for (const std::int64_t tp : or_one(options.tp)) {
    for (const std::int64_t pp : or_one(options.pp)) {
      for (const std::int64_t ep : or_one(options.ep)) {
        for (const std::int64_t etp :
             options.etp.empty() ? std::vector<std::int64_t>{tp} : options.etp) {
          for (const std::int64_t vpp : or_one(options.vpp)) {
            for (const std::int64_t cp : or_one(options.cp)) {
              parallel::Layout layout = base_layout(options);
              layout.tp = tp;
              layout.pp = pp;
              layout.ep = ep;
              layout.etp = etp;
              layout.vpp = vpp;
              layout.cp = cp;
              out.push_back(layout);
            }
          }
        }
      }
    }
  }
  return out;
}

Result<parallel::Layout> from_id(const Options& options, const std::string& id) {
  BV_TRY(named, parallel::layout_from_id(id));
  parallel::Layout out = base_layout(options);
  out.tp = named.tp;
  out.pp = named.pp;
  out.ep = named.ep;
  out.etp = named.etp;
  out.vpp = named.vpp;
  out.cp = named.cp;
  return out;
}

std::string with_comma(const std::string& note) {
  return note.empty() ? "" : ", " + note;
}

Result<std::vector<std::string>> ids_of_file(const std::string& path) {
  constexpr std::uint64_t kBytesMax = std::uint64_t{1} << 20;
  constexpr std::string_view kHelp =
      "write --layouts auto, or a file with one layout a line: tp2pp1ep8etp1";
  const auto text = io::read_file(path, kBytesMax, Code::BadValue);
  if (!text) {
    return fail(Code::BadValue,
                fmt::format("--layouts {} is neither auto, quick, all nor a file that can be read",
                            escaped(path)))
        .fact(text.error().message)
        .advise(std::string(kHelp));
  }
  std::vector<std::string> out;
  std::istringstream in(*text);
  for (std::string line; std::getline(in, line);) {
    line.erase(0, line.find_first_not_of(" \t"));
    line.erase(std::min(line.find_last_not_of(" \t\r") + 1, line.size()));
    if (!line.empty() && line.front() != '#') {
      out.push_back(line);
    }
  }
  if (out.empty()) {
    return fail(Code::BadValue, fmt::format("--layouts {} names no layout", escaped(path)))
        .pair("a file without a layout", "one layout a line, such as tp2pp1ep8etp1")
        .advise(std::string(kHelp));
  }
  return out;
}

}  // namespace

std::string etp_note(const Options& options, const model::Model& model) {
  return etp_follows(options) && model.geometry.experts() > 0 ? "ETP follows --tp" : "";
}

bool etp_follows(const Options& options) {
  return !options.has("etp") && !options.has("layout") &&
         std::any_of(options.tp.begin(), options.tp.end(), [](std::int64_t tp) { return tp > 1; });
}

Result<ChosenLayouts> choose_layouts(const Options& options, const model::Model& model) {
  ChosenLayouts out;
  std::vector<std::string> ids = options.layout;
  const bool is_file =
      options.layouts != "auto" && options.layouts != "quick" && options.layouts != "all";
  if (ids.empty() && is_file) {
    BV_TRY(listed, ids_of_file(options.layouts));
    ids = std::move(listed);
  }
  if (!ids.empty() || has_sizes(options)) {
    out.asked_for = true;
    if (ids.empty()) {
      out.layouts = product(options);
    }
    for (const std::string& id : ids) {
      BV_TRY(layout, from_id(options, id));
      out.layouts.push_back(layout);
    }
    for (parallel::Layout& layout : out.layouts) {
      layout = settle(layout, options, model);
      BV_CHECK(plan::check_layout(model, layout));
    }
    out.note = fmt::format("{} asked for", out.layouts.size()) +
               with_comma(etp_note(options, model)) +
               with_comma(plan::padding_note(model, base_layout(options), out.layouts));
    return out;
  }
  const std::int64_t ranks = options.max_ranks.value_or(kAutoRanks);
  const parallel::Layout base = base_layout(options);
  const std::size_t count = options.layouts == "all"     ? 0
                            : options.layouts == "quick" ? kQuickCount
                                                         : kAutoCount;
  plan::LayoutSet set = plan::layouts_up_to(model, base, ranks, count);
  out.layouts = std::move(set.layouts);
  const std::string impossible = plan::impossible_sizes(model, base, ranks);
  out.note = fmt::format("{} of {} legal up to {} ranks ({})", out.layouts.size(), set.legal, ranks,
                         options.layouts) +
             with_comma(plan::padding_note(model, base, out.layouts)) +
             with_comma(impossible.empty() ? "" : "not possible: " + impossible);
  return out;
}

parallel::Layout settle(parallel::Layout layout, const Options& options,
                        const model::Model& model) {
  if (options.etp.empty() && model.geometry.experts() == 0) {
    layout.etp = 1;
  }
  return plan::with_padding(model, std::move(layout));
}

Result<parallel::Layout> one_layout(const Options& options) {
  if (!options.layout.empty()) {
    if (options.layout.size() > 1) {
      return fail(Code::Conflict, "several layouts are given with --layout, and one is needed")
          .advise("keep one");
    }
    return from_id(options, options.layout.front());
  }
  const auto layouts = product(options);
  if (layouts.size() != 1) {
    return fail(Code::BadValue,
                fmt::format("the sizes give {} layouts, and one is needed", layouts.size()))
        .advise("write one number each: --tp 2 --pp 1 --ep 2 --etp 1");
  }
  return layouts.front();
}

std::vector<LayoutRow> layout_rows(const std::vector<parallel::Layout>& layouts) {
  std::vector<LayoutRow> out;
  for (const parallel::Layout& layout : layouts) {
    LayoutRow row;
    row.id = parallel::layout_id(layout);
    row.tp = layout.tp;
    row.pp = layout.pp;
    row.ep = layout.ep;
    row.etp = layout.etp;
    row.vpp = layout.vpp;
    row.cp = layout.cp;
    row.world = parallel::minimum_world(layout);
    row.also = beside_id(layout);
    out.push_back(std::move(row));
  }
  return out;
}

}  // namespace bv::cli
