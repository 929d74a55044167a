#include "reports/causes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "core/base/text.hpp"

namespace bv::reports {
namespace {

constexpr std::size_t kNamedLayoutsMax = 6;

int order(Outcome outcome) {
  switch (outcome) {
    case Outcome::Broken:
      return 0;
    case Outcome::Refuted:
      return 1;
    case Outcome::Inconclusive:
      return 2;
    case Outcome::Unsupported:
      return 3;
    case Outcome::Waived:
      return 4;
    case Outcome::Proved:
    case Outcome::Held:
      return 5;
  }
  return 0;
}

/// Every run of digits as '#': "layer 3 of 40" and "layer 4 of 40" tell one cause.
std::string without_numbers(const std::string& title) {
  std::string out;
  for (const char c : title) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit) {
      out += c;
    } else if (out.empty() || out.back() != '#') {
      out += '#';
    }
  }
  return out;
}

std::string_view word_of(const Verdict& verdict) {
  switch (verdict.outcome) {
    case Outcome::Inconclusive:
      return "undecided";
    case Outcome::Unsupported:
      return "unsupported";
    case Outcome::Waived:
      return "waived";
    case Outcome::Proved:
    case Outcome::Held:
    case Outcome::Refuted:
    case Outcome::Broken:
      break;
  }
  return info(verdict.code).severity == Severity::Warning ? "warning" : "error";
}

/// An element without an index is a number or a word.
std::string index_text(const ElementRef& element) {
  return element.tensor + (element.index.empty() ? "" : shape_text(element.index));
}

/// A counterexample may name the place alone.
bool has_sides(const Counterexample& example) {
  return !example.wanted.tensor.empty() || !example.found.tensor.empty();
}

std::string first_wrong(const Counterexample& example) {
  std::string out = example.rank.empty() ? "" : "rank " + example.rank + " ";
  out += fmt::format("{}{}", example.tensor, shape_text(example.index));
  out += fmt::format(": wants {}",
                     example.wanted.tensor.empty() ? "zero padding" : index_text(example.wanted));
  out += fmt::format(", has {}",
                     example.found.tensor.empty() ? "zero padding" : index_text(example.found));
  if (!example.wanted_bits.empty() || !example.found_bits.empty()) {
    out += fmt::format(" (bits wanted {}, found {})", example.wanted_bits, example.found_bits);
  }
  return out;
}

/// "also in tp4pp1ep1 and 22 more layouts", "and 511 more like it: first names".
std::string others(const Cause& cause) {
  const Verdict& first = *cause.verdicts.front();
  std::vector<std::string> layouts;
  std::int64_t like = 0;
  for (const Verdict* verdict : cause.verdicts) {
    if (verdict == &first) {
      continue;
    }
    if (verdict->layout == first.layout || verdict->title != first.title) {
      ++like;
    } else if (std::find(layouts.begin(), layouts.end(), verdict->layout) == layouts.end()) {
      layouts.push_back(verdict->layout);
    }
  }
  std::string out;
  if (!layouts.empty()) {
    const std::size_t more = layouts.size() - std::min(layouts.size(), kNamedLayoutsMax);
    layouts.resize(layouts.size() - more);
    out = "also in " + join(layouts, " ") +
          (more == 0 ? "" : fmt::format(" and {} more layouts", more));
  }
  if (like > 0) {
    out += fmt::format("{}and {} more like it: --format plain lists each", out.empty() ? "" : "; ",
                       like);
  }
  return out;
}

}  // namespace

std::vector<Cause> causes(const Run& run) {
  using Key = std::tuple<int, Code, std::string, std::string, std::string>;
  std::map<Key, std::size_t> place;
  std::vector<Cause> out;
  const bool refuted = count(run).refuted > 0;
  for (const Verdict& verdict : run.verdicts) {
    if (order(verdict.outcome) > 3) {
      continue;
    }
    if (verdict.code == Code::NotReached && refuted) {
      continue;  // a consequence, told by the cause
    }
    // What this version cannot judge, and tensors that hold nothing, are one cause, whichever
    // claims and rules met it.
    const bool alone = verdict.outcome != Outcome::Unsupported && verdict.code != Code::EmptyTensor;
    const Key key = {order(verdict.outcome), verdict.code, alone ? verdict.claim : "",
                     alone ? verdict.rule : "", without_numbers(verdict.title)};
    const auto [at, fresh] = place.try_emplace(key, out.size());
    if (fresh) {
      out.emplace_back();
    }
    out[at->second].verdicts.push_back(&verdict);
  }
  std::stable_sort(out.begin(), out.end(), [](const Cause& a, const Cause& b) {
    return order(a.verdicts.front()->outcome) < order(b.verdicts.front()->outcome);
  });
  return out;
}

Block block_of(const Cause& cause) {
  const Verdict& verdict = *cause.verdicts.front();
  Block block;
  block.word = word_of(verdict);
  block.code = verdict.code;
  block.title = verdict.title.empty() ? std::string(info(verdict.code).title) : verdict.title;
  block.where = verdict.rule_source;
  if (!verdict.kind.empty()) {
    block.where += (block.where.empty() ? "kind " : "   kind ") + verdict.kind;
  }
  std::string subject = verdict.megatron;
  if (!verdict.layout.empty()) {
    subject += (subject.empty() ? "layout " : "      layout ") + verdict.layout;
  }
  if (!subject.empty()) {
    block.facts.push_back(subject);
  }
  if (verdict.megatron.empty() && !verdict.hf.empty()) {
    block.facts.push_back(join(verdict.hf, ", "));
  }
  block.facts.insert(block.facts.end(), verdict.facts.begin(), verdict.facts.end());
  std::string extent = verdict.extent;
  if (const std::string more = others(cause); !more.empty()) {
    extent += (extent.empty() ? "" : "; ") + more;
  }
  block.tails = {{"found", verdict.found}, {"wanted", verdict.wanted}};
  if (!verdict.counterexamples.empty() && has_sides(verdict.counterexamples.front())) {
    block.tails.emplace_back("first", first_wrong(verdict.counterexamples.front()));
  }
  block.tails.insert(block.tails.end(), {{"extent", extent},
                                         {"why", verdict.why},
                                         {"help", verdict.help},
                                         {"replay", verdict.replay}});
  return block;
}

}  // namespace bv::reports
