#include "core/lora/hf_config.hpp"

#include <algorithm>
#include <cctype>
#include <map>
#include <set>

#include "core/base/assert.hpp"
#include "core/lora/adapter_keys.hpp"

namespace bv::lora {
namespace {

/// The most frequent value, the smallest of several.
template <class T, class Of>
T most_frequent(const std::vector<HfTarget>& targets, Of&& of) {
  std::map<T, std::int64_t> counts;
  for (const HfTarget& target : targets) {
    ++counts[of(target)];
  }
  return std::max_element(counts.begin(), counts.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

bool is_suffix(const std::string& name, const std::string& path) {
  return path == name || path.ends_with("." + name);
}

/// A regular expression for one path, "." and all.
std::string escaped(const std::string& path) {
  std::string out;
  for (const char c : path) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
    out += plain ? std::string(1, c) : std::string("\\") + c;
  }
  return out;
}

/// PEFT matches a pattern at the end of a path, "." for any character; one that would take another
/// target as well stands for the whole path.
std::string pattern_of(const std::string& path, const std::vector<HfTarget>& targets) {
  const bool alone = std::all_of(targets.begin(), targets.end(), [&](const HfTarget& other) {
    const std::size_t extra = other.path.size() - std::min(other.path.size(), path.size());
    const bool same_end =
        other.path.size() >= path.size() && (extra == 0 || other.path[extra - 1] == '.') &&
        std::equal(path.begin(), path.end(), other.path.begin() + std::ptrdiff_t(extra),
                   [](char wanted, char found) { return wanted == '.' || wanted == found; });
    return !same_end || other.path == path;
  });
  return alone ? path : "^" + escaped(path);
}

/// What the names take beside the wanted modules, because their paths end alike; "" when nothing.
std::string taken_beside(const std::vector<std::string>& names,
                         const std::vector<std::string>& wanted,
                         const std::vector<std::string>& modules) {
  const std::set<std::string> all(wanted.begin(), wanted.end());
  std::string out;
  for (const std::string& module : modules) {
    const bool taken = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
      return is_suffix(name, module);
    });
    if (taken && !all.contains(module)) {
      out += (out.empty() ? "" : "|") + escaped(module);
    }
  }
  return out;
}

}  // namespace

std::vector<std::string> target_names(const std::vector<std::string>& wanted,
                                      const std::vector<std::string>& modules) {
  const std::set<std::string, std::less<>> all(wanted.begin(), wanted.end());
  std::set<std::string, std::less<>> not_bare;
  for (const std::string& module : modules) {
    if (!all.contains(module)) {
      not_bare.insert(std::string(last_component(module)));
    }
  }
  std::set<std::string> out;
  for (const std::string& module : wanted) {
    const std::string last(last_component(module));
    out.insert(not_bare.contains(last) ? module : last);
  }
  return {out.begin(), out.end()};
}

AdapterConfig config_for(const std::vector<HfTarget>& targets,
                         const std::vector<std::string>& modules) {
  BV_ASSERT(!targets.empty());
  AdapterConfig out;
  out.r = most_frequent<std::int64_t>(targets, [](const HfTarget& one) { return one.rank; });
  out.lora_alpha = most_frequent<double>(targets, [](const HfTarget& one) { return one.alpha; });
  std::vector<std::string> wanted;
  std::vector<std::string> parameters;
  for (const HfTarget& target : targets) {
    (target.parameter ? parameters : wanted).push_back(target.path);
    if (target.rank != out.r) {
      out.rank_pattern.emplace_back(pattern_of(target.path, targets), target.rank);
    }
    if (target.alpha != out.lora_alpha) {
      out.alpha_pattern.emplace_back(pattern_of(target.path, targets), target.alpha);
    }
  }
  out.target_modules.names = target_names(wanted, modules);
  out.exclude_modules.regex = taken_beside(out.target_modules.names, wanted, modules);
  out.target_parameters = std::move(parameters);
  std::sort(out.target_parameters.begin(), out.target_parameters.end());
  std::sort(out.rank_pattern.begin(), out.rank_pattern.end());
  std::sort(out.alpha_pattern.begin(), out.alpha_pattern.end());
  return out;
}

}  // namespace bv::lora
