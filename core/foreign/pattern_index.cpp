#include "core/foreign/pattern_index.hpp"

#include "core/foreign/numbered.hpp"

#include <algorithm>

namespace bv::foreign {

PatternIndex::PatternIndex(const std::vector<std::string_view>& patterns) : patterns_(patterns) {
  for (std::size_t i = 0; i < patterns_.size(); ++i) {
    const std::string_view pattern = patterns_[i];
    if (pattern.find('*') == std::string_view::npos) {
      exact_[pattern].push_back(i);
    } else if (has_double_star(pattern)) {
      any_.push_back(i);
    } else {
      starred_[skeleton(pattern)].push_back(i);
    }
  }
}

std::size_t PatternIndex::first(std::string_view name, std::size_t from) const {
  std::size_t best = kNone;
  const auto look = [&](const Places& places) {
    for (auto at = std::lower_bound(places.begin(), places.end(), from);
         at != places.end() && *at < best; ++at) {
      if (match_pattern(patterns_[*at], name)) {
        best = *at;
        return;
      }
    }
  };
  if (const auto found = exact_.find(name); found != exact_.end()) {
    look(found->second);
  }
  if (!starred_.empty()) {
    if (const auto found = starred_.find(skeleton(name)); found != starred_.end()) {
      look(found->second);
    }
  }
  look(any_);
  return best;
}

NameIndex::NameIndex(const Headers& headers) : headers_(headers) {
  for (const Headers::value_type& entry : headers) {
    by_skeleton_[skeleton(entry.first)].push_back(&entry);
  }
}

std::vector<NameIndex::Taken> NameIndex::readable_by(std::string_view pattern) const {
  return taken_by(starred_numbers(pattern));
}

std::vector<NameIndex::Taken> NameIndex::taken_by(std::string_view pattern) const {
  std::vector<Taken> out;
  if (is_numbered(pattern)) {
    for (Taken& taken : readable_by(pattern)) {
      if (auto captures = solve_numbers(pattern, taken.captures)) {
        out.push_back({taken.entry, std::move(*captures)});
      }
    }
    return out;
  }
  const auto look = [&](const Headers::value_type& entry) {
    if (auto captures = match_pattern(pattern, entry.first)) {
      out.push_back({&entry, std::move(*captures)});
    }
  };
  const std::size_t star = pattern.find('*');
  if (star == std::string_view::npos) {
    if (const auto found = headers_.find(pattern); found != headers_.end()) {
      out.push_back({&*found, {}});
    }
  } else if (!has_double_star(pattern)) {
    if (const auto found = by_skeleton_.find(skeleton(pattern)); found != by_skeleton_.end()) {
      for (const Headers::value_type* entry : found->second) {
        look(*entry);
      }
    }
  } else {
    const std::string_view start = pattern.substr(0, star);
    for (auto at = headers_.lower_bound(start);
         at != headers_.end() && at->first.starts_with(start); ++at) {
      look(*at);
    }
  }
  return out;
}

}  // namespace bv::foreign
