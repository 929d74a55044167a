// Faults in the names: what is missing, what is left over.

#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"
#include "core/model/resolve.hpp"

namespace bv::model {
namespace {

constexpr std::size_t kFaultsMax = 1000;  // one report stays readable, whatever the input
constexpr std::size_t kNearestPairsMax = 20000;
constexpr std::int64_t kMtpLayersMax = 64;

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

bool any_glob(const std::vector<std::string>& globs, std::string_view name) {
  return std::any_of(globs.begin(), globs.end(),
                     [&](const std::string& glob) { return glob_match(glob, name); });
}

struct UnusedGroup {
  std::int64_t count = 0;
  const TensorSpec* first = nullptr;
  std::string last;
  const family::Unsupported* unsupported = nullptr;
  bool mtp = false;
};

NameFault unused_fault(const Model& model, const std::string& pattern, const UnusedGroup& group) {
  NameFault fault;
  const std::string first = escaped(group.first->name);
  fault.code = Code::HfTensorUnused;
  fault.subject = first;
  const bool one = group.count == 1;
  fault.message =
      one ? fmt::format("HF tensor {} is used by no rule of family {}", first, model.family->name)
          : fmt::format("{} HF tensors {} are used by no rule of family {}", thousands(group.count),
                        escaped(pattern), model.family->name);
  fault.found =
      one ? fmt::format("{} {}", first, shape_text(group.first->shape))
          : fmt::format("{} {} to {}", first, shape_text(group.first->shape), escaped(group.last));
  fault.wanted = "every tensor of the checkpoint in exactly one rule";
  fault.help =
      "check that config.json belongs to these files; --rules FILE can add rules for more tensors";
  if (group.mtp) {
    fault.wanted = fmt::format("{} MTP layers, as config.json says", model.mtp_layers);
    fault.help =
        "correct the number of MTP layers in config.json, or leave these tensors out with "
        "--drop-mtp";
  }
  if (group.unsupported != nullptr) {
    fault.message += fmt::format(": {}", group.unsupported->because);
    fault.help = group.unsupported->help;
  }
  return fault;
}

void add_fault(Model& model, NameFault fault) {
  if (model.faults.size() < kFaultsMax) {
    model.faults.push_back(std::move(fault));
  }
}

std::vector<std::string> owned_prefixes(const Model& model) {
  std::vector<std::string> prefixes;
  for (const family::Section& section : model.family->sections) {
    if (section.stage == family::Stage::Mtp) {
      const auto more = mtp_prefixes(section, model);
      if (more) {
        prefixes.insert(prefixes.end(), more->begin(), more->end());
      }
    }
  }
  return prefixes;
}

bool starts_with_any(const std::vector<std::string>& prefixes, std::string_view name) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](const std::string& prefix) { return name.starts_with(prefix); });
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

Result<std::vector<std::string>> mtp_prefixes(const family::Section& section, const Model& model) {
  std::vector<std::string> out;
  for (const std::string& prefix : section.owns) {
    const bool numbered =
        prefix.find(section.variable) != std::string::npos && prefix.find('{') != std::string::npos;
    for (std::int64_t k = 0; k < (numbered ? kMtpLayersMax : 1); ++k) {
      BV_TRY(text, family::expand(prefix, {&model.prefixes, &model.geometry.symbols,
                                           section.variable, k, -1}));
      out.push_back(text);
    }
  }
  return out;
}

void MissingNames::add(const Mapping& mapping, std::size_t slot, const std::string& name,
                       const std::string& pattern) {
  Group& group = groups_[{mapping.rule, slot}];
  if (group.count == 0) {
    group.first = name;
    group.pattern = pattern;
    group.mapping = mapping;
  }
  ++group.count;
  group.last = name;
  group.indices.insert(mapping.index);
  group.experts.insert(mapping.expert);
}

NameFault MissingNames::fault(const Group& group, const Model& model, std::size_t header_count) {
  NameFault out;
  out.code = Code::HfTensorMissing;
  out.subject = group.first;
  const std::string parameter = model.megatron_name(group.mapping);
  if (group.count == 1) {
    out.message =
        fmt::format("HF tensor {} is missing: Megatron parameter {} would keep its initial values",
                    group.first, parameter);
  } else {
    const std::string& variable = model.family->sections[group.mapping.rule->section].variable;
    std::string ranges =
        variable.empty() ? "" : fmt::format("{} {}", variable, ranges_text(group.indices));
    ranges +=
        group.mapping.rule->per_expert ? fmt::format("; e {}", ranges_text(group.experts)) : "";
    out.message = fmt::format(
        "{} HF tensors {} are missing ({}): Megatron parameters such as {} would keep their "
        "initial values",
        thousands(group.count), group.pattern, ranges, parameter);
  }
  out.found = fmt::format("absent from the {} tensors of the headers",
                          thousands(static_cast<std::int64_t>(header_count)));
  out.wanted = group.count == 1 ? group.first : fmt::format("{} to {}", group.first, group.last);
  out.help =
      "check that the index and every shard of the checkpoint are there, and that config.json "
      "belongs to them";
  return out;
}

void MissingNames::report(Model& model, std::size_t header_count,
                          const std::vector<std::string>& unused) const {
  std::size_t pairs = 0;
  for (const auto& [key, group] : groups_) {
    NameFault out = fault(group, model, header_count);
    pairs += unused.size();
    const auto near = pairs <= kNearestPairsMax ? nearest(group.first, unused) : std::nullopt;
    if (near) {
      out.help =
          fmt::format("the headers hold {}, which no rule uses: was it renamed?", escaped(*near));
    }
    add_fault(model, std::move(out));
  }
}

std::vector<std::string> settle_leftovers(const Ledger& ledger, const ResolveOptions& options,
                                          Model& model) {
  const std::vector<std::string> mtp = owned_prefixes(model);
  std::vector<std::string> order;
  std::unordered_map<std::string, UnusedGroup> groups;
  for (std::size_t i = 0; i < ledger.tensors().size(); ++i) {
    const TensorSpec& tensor = *ledger.tensors()[i];
    if (!ledger.unused(i)) {
      continue;
    }
    if (any_glob(model.family->ignore_hf, tensor.name)) {
      model.ignored.push_back(tensor.name);
      continue;
    }
    const bool is_mtp = starts_with_any(mtp, tensor.name);
    if (is_mtp && options.drop_mtp) {
      model.dropped.push_back(tensor.name);
      continue;
    }
    const std::string pattern = without_numbers(tensor.name);
    const auto [entry, fresh] = groups.try_emplace(pattern);
    UnusedGroup& group = entry->second;
    if (fresh) {
      order.push_back(pattern);
      group.first = &tensor;
      group.mtp = is_mtp;
      for (const family::Unsupported& known : model.family->unsupported) {
        group.unsupported = group.unsupported == nullptr && glob_match(known.glob, tensor.name)
                                ? &known
                                : group.unsupported;
      }
    }
    ++group.count;
    group.last = tensor.name;
  }
  std::vector<std::string> examples;
  for (const std::string& pattern : order) {
    examples.push_back(groups.at(pattern).first->name);
    add_fault(model, unused_fault(model, pattern, groups.at(pattern)));
  }
  return examples;
}

}  // namespace bv::model
