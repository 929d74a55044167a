// Faults in the names: what is missing, what is left over.

#include <fmt/format.h>

#include <algorithm>

#include "core/base/shell.hpp"
#include "core/base/text.hpp"
#include "core/model/name_gaps.hpp"
#include "core/model/resolve.hpp"

namespace bv::model {
namespace {

constexpr std::size_t kFaultsMax = 1000;  // one report stays readable, whatever the input
constexpr std::size_t kNearestPairsMax = 20000;

/// Digit runs as '*': tensors that differ only in numbers are one cause.
std::string without_numbers(std::string_view name) {
  std::string out;
  for (const char c : name) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit) {
      out += c;
    } else if (out.empty() || out.back() != '*') {
      out += '*';
    }
  }
  return out;
}

const family::Unsupported* unsupported_for(const Model& model, std::string_view name) {
  const auto& known = model.family->unsupported;
  const auto found = std::find_if(known.begin(), known.end(), [&](const family::Unsupported& one) {
    return glob_match(one.glob, name);
  });
  return found == known.end() ? nullptr : &*found;
}

/// Unused names with one cause: a module that the family does not have, or one name in all layers.
struct UnusedGroup {
  std::vector<std::string> names;
  std::string pattern;         // "score.*", "model.layers.*.self_attn.q_proj.bias"
  bool module = false;         // the pattern stands for a whole module
  bool beside_layers = false;  // not inside a layer that the family knows
  const family::Unsupported* unsupported = nullptr;
};

UnusedGroup group_of(const Model& model, const NameSpots& spots, const std::string& name) {
  UnusedGroup group;
  group.unsupported = unsupported_for(model, name);
  const std::string_view start = spots.known_start(name);
  const std::size_t end = name.find('.', start.size());
  group.module = group.unsupported == nullptr && end != std::string::npos;
  group.pattern = without_numbers(group.module ? name.substr(0, end + 1) : name);
  group.pattern += group.module ? "*" : "";
  group.beside_layers = without_numbers(start).find('*') == std::string::npos;
  return group;
}

/// The class of config.json holds what Megatron's language model does not: a classifier, a value
/// head, a tower.
std::string exclude_help(const UnusedGroup& group) {
  return fmt::format(
      "Megatron's model has no such part; leave it out with --exclude {}, or give rules for it "
      "with --rules",
      shell_quoted(group.pattern));
}

NameFault unused_fault(const Model& model, const Headers& headers, const UnusedGroup& group) {
  NameFault fault;
  const std::string first = escaped(group.names.front());
  const auto spec = headers.find(group.names.front());
  const std::string shape = spec == headers.end() ? "" : " " + shape_text(spec->second.shape);
  fault.code = Code::HfTensorUnused;
  fault.subject = first;
  fault.subjects = group.names;
  const bool one = group.names.size() == 1;
  fault.message =
      one ? fmt::format("HF tensor {} is used by no rule of family {}", first, model.family->name)
          : fmt::format("{} HF tensors {} are used by no rule of family {}",
                        thousands(static_cast<std::int64_t>(group.names.size())),
                        escaped(group.pattern), model.family->name);
  fault.found = one ? fmt::format("{}{}", first, shape)
                    : fmt::format("{}{} to {}", first, shape, escaped(group.names.back()));
  fault.wanted = "every tensor of the checkpoint in exactly one rule";
  fault.help =
      group.beside_layers
          ? exclude_help(group)
          : std::string(
                "check that config.json belongs to these files, or add a rule for them to the "
                "family (docs/howto/family-without-a-build.md)");
  if (group.unsupported != nullptr) {
    fault.message += fmt::format(": {}", group.unsupported->because);
    fault.help = group.unsupported->help;
  }
  return fault;
}

/// Missing names of one source of one rule.
struct MissingGroup {
  std::vector<std::string> names;
  const Mapping* mapping = nullptr;  // the first
  std::string pattern;
  std::set<std::int64_t> indices, experts;
};

NameFault missing_fault(const MissingGroup& group, const Model& model, std::size_t header_count) {
  NameFault out;
  out.code = Code::HfTensorMissing;
  out.subject = group.names.front();
  out.subjects = group.names;
  const std::string parameter = model.megatron_name(*group.mapping);
  if (group.names.size() == 1) {
    out.message =
        fmt::format("HF tensor {} is missing: Megatron parameter {} would keep its initial values",
                    group.names.front(), parameter);
  } else {
    const std::string& variable = model.family->sections[group.mapping->rule->section].variable;
    std::string ranges =
        variable.empty() ? "" : fmt::format("{} {}", variable, ranges_text(group.indices));
    ranges +=
        group.mapping->rule->per_expert ? fmt::format("; e {}", ranges_text(group.experts)) : "";
    out.message = fmt::format(
        "{} HF tensors {} are missing ({}): Megatron parameters such as {} would keep their "
        "initial values",
        thousands(static_cast<std::int64_t>(group.names.size())), group.pattern, ranges, parameter);
  }
  out.found = fmt::format("absent from the headers of {}", counted(header_count, "tensor"));
  out.wanted = group.names.size() == 1
                   ? group.names.front()
                   : fmt::format("{} to {}", group.names.front(), group.names.back());
  out.help =
      "check that the index and every shard of the checkpoint are there, and that config.json "
      "belongs to them";
  return out;
}

/// Not one name of the family is there: one fault, whatever the sizes.
NameFault nothing_known(const Model& model, const Headers& headers) {
  NameFault fault;
  fault.code = Code::HfTensorMissing;
  const std::string wanted =
      model.mappings.empty() ? model.family->name : model.mappings.front().hf.front();
  fault.subject = wanted;
  fault.found = headers.empty() ? "no tensor at all" : escaped(headers.begin()->first);
  fault.message = headers.empty() ? std::string("the checkpoint holds no tensor")
                  : headers.size() == 1
                      ? fmt::format("the only HF tensor has a name that family {} does not know",
                                    model.family->name)
                      : fmt::format("none of the {} has a name that family {} knows",
                                    counted(headers.size(), "HF tensor"), model.family->name);
  fault.wanted = fmt::format("names such as {}", wanted);
  fault.help =
      "use the config.json that belongs to these files; bridge-verify inspect lists the names";
  return fault;
}

class GapReport {
 public:
  GapReport(Model& model, const NameSpots& spots, const Headers& headers,
            std::vector<NameGap>& gaps)
      : model_(model), spots_(spots), headers_(headers), gaps_(gaps) {}

  void run() {
    const auto missing =
        static_cast<std::size_t>(std::count_if(gaps_.begin(), gaps_.end(), [](const NameGap& gap) {
          return gap.kind == NameGap::Kind::Missing;
        }));
    std::size_t wanted = 0;
    for (const Mapping& mapping : model_.mappings) {
      wanted += mapping.hf.size();
    }
    if (wanted > 0 && missing == wanted) {
      add(nothing_known(model_, headers_));
      return;
    }
    for (NameFault& fault : explain_whole_parts(model_, gaps_)) {
      add(std::move(fault));
    }
    report_unused();
    report_missing();
  }

 private:
  void add(NameFault fault) {
    if (model_.faults.size() < kFaultsMax) {
      model_.faults.push_back(std::move(fault));
    }
  }

  void report_unused() {
    std::vector<std::string> order;
    std::unordered_map<std::string, UnusedGroup> groups;
    for (NameGap& gap : gaps_) {
      if (gap.kind != NameGap::Kind::Unused) {
        continue;
      }
      UnusedGroup group = group_of(model_, spots_, gap.name);
      const auto [entry, fresh] = groups.try_emplace(group.pattern, group);
      if (fresh) {
        order.push_back(group.pattern);
        examples_.push_back(gap.name);
      }
      entry->second.names.push_back(std::move(gap.name));
    }
    for (const std::string& pattern : order) {
      add(unused_fault(model_, headers_, groups.at(pattern)));
    }
  }

  void report_missing() {
    std::map<std::pair<const family::Rule*, std::size_t>, MissingGroup> groups;  // family order
    for (NameGap& gap : gaps_) {
      if (gap.kind != NameGap::Kind::Missing) {
        continue;
      }
      MissingGroup& group = groups[{gap.spot.rule, gap.slot}];
      if (group.names.empty()) {
        group.mapping = &model_.mappings[gap.mapping];
        group.pattern = pattern_of(gap);
      }
      group.names.push_back(std::move(gap.name));
      group.indices.insert(gap.spot.index);
      group.experts.insert(gap.spot.expert);
    }
    std::size_t pairs = 0;
    for (const auto& [key, group] : groups) {
      NameFault out = missing_fault(group, model_, headers_.size());
      pairs += examples_.size();
      const auto near =
          pairs <= kNearestPairsMax ? nearest(group.names.front(), examples_) : std::nullopt;
      if (near) {
        out.help =
            fmt::format("the headers hold {}, which no rule uses: was it renamed?", escaped(*near));
      }
      add(std::move(out));
    }
  }

  [[nodiscard]] std::string pattern_of(const NameGap& gap) const {
    const auto bound =
        BoundName::bind(gap.spot.rule->hf[gap.slot].second, *gap.spot.section, model_);
    return bound ? bound->pattern() : gap.name;
  }

  Model& model_;
  const NameSpots& spots_;
  const Headers& headers_;
  std::vector<NameGap>& gaps_;
  std::vector<std::string> examples_;  // one name of each unused group
};

/// The place that an unused name has in this config, else the first that it has at all.
NameSpot best_spot(const Model& model, const NameSpots& spots, std::string_view name) {
  const auto found = spots.find(name);
  for (const NameSpot& spot : found) {
    const auto count = repeats(*model.family, *spot.section, model.geometry);
    if (spot.rule != nullptr && count && spot.index < *count && spot.rule->is_for(spot.index)) {
      return spot;
    }
  }
  return found.empty() || found.front().rule == nullptr ? NameSpot{} : found.front();
}

}  // namespace

std::string ranges_text(const std::set<std::int64_t>& numbers) {
  constexpr int kRangesMax = 8;
  std::string out;
  int ranges = 0;
  for (auto at = numbers.begin(); at != numbers.end(); ++ranges) {
    const std::int64_t begin = *at;
    std::int64_t end = begin;
    for (++at; at != numbers.end() && *at == end + 1; ++at) {
      end = *at;
    }
    if (ranges == kRangesMax) {
      return out + ", ...";
    }
    out += ranges == 0 ? "" : ", ";
    out += begin == end ? std::to_string(begin) : fmt::format("{}-{}", begin, end);
  }
  return out;
}

void leave_out(const std::string& name, const std::string& because, Model& model) {
  model.ignored.push_back(name);
  model.ignored_because[because].push_back(name);
}

void add_leftovers(const Ledger& ledger, const NameSpots& spots, const ResolveOptions& options,
                   Model& model, std::vector<NameGap>& gaps) {
  for (std::size_t i = 0; i < ledger.tensors().size(); ++i) {
    const TensorSpec& tensor = *ledger.tensors()[i];
    if (!ledger.unused(i)) {
      continue;
    }
    if (!is_asked_for(options, tensor.name)) {
      continue;
    }
    if (const family::Ignored* why =
            family::find_ignored(model.family->ignore_hf, tensor.name, tensor.shape.size())) {
      if (!why->mtp.empty() && options.drop_mtp) {
        model.dropped.push_back(tensor.name);
        continue;
      }
      leave_out(tensor.name, why->because, model);
    } else {
      gaps.push_back({NameGap::Kind::Unused, tensor.name, best_spot(model, spots, tensor.name)});
    }
  }
}

void report_gaps(Model& model, const NameSpots& spots, const Headers& headers,
                 std::vector<NameGap> gaps) {
  GapReport(model, spots, headers, gaps).run();
}

}  // namespace bv::model
