#include "core/base/path_pattern.hpp"

#include <algorithm>

namespace bv {
void PathPattern::reach(std::int32_t state, std::vector<std::int32_t>& list,
                        std::vector<bool>& seen) const {
  std::vector<std::int32_t> open = {state};
  while (!open.empty()) {
    const std::int32_t one = open.back();
    open.pop_back();
    if (one < 0 || seen[static_cast<std::size_t>(one)]) {
      continue;
    }
    seen[static_cast<std::size_t>(one)] = true;
    const State& at = states_[static_cast<std::size_t>(one)];
    if (at.kind == State::Kind::Split) {
      open.push_back(at.next);
      open.push_back(at.other);
    } else {
      list.push_back(one);
    }
  }
}

bool PathPattern::matches(std::string_view path) const {
  if (plain_ && extent_ == Extent::Start) {
    return path.size() >= text_.size() &&
           std::equal(text_.begin(), text_.end(), path.begin(),
                      [](char wanted, char found) { return wanted == '.' || wanted == found; });
  }
  if (plain_) {
    const bool whole = path.size() == text_.size();
    const bool tail = extent_ == Extent::Suffix && path.size() > text_.size() &&
                      path[path.size() - text_.size() - 1] == '.';
    return (whole || tail) &&
           std::equal(text_.begin(), text_.end(), path.end() - std::ptrdiff_t(text_.size()),
                      [](char wanted, char found) { return wanted == '.' || wanted == found; });
  }
  const auto accepts = [this](const std::vector<std::int32_t>& states) {
    return std::any_of(states.begin(), states.end(), [this](std::int32_t state) {
      return states_[static_cast<std::size_t>(state)].kind == State::Kind::Accept;
    });
  };
  std::vector<std::int32_t> now;
  std::vector<std::int32_t> next;
  for (std::size_t i = 0; i <= path.size(); ++i) {
    std::vector<bool> seen(states_.size(), false);
    next.clear();
    for (const std::int32_t state : now) {
      const State& at = states_[static_cast<std::size_t>(state)];
      if (at.kind == State::Kind::Class && at.bytes[static_cast<unsigned char>(path[i - 1])]) {
        reach(at.next, next, seen);
      }
    }
    if (i == 0 || (extent_ == Extent::Suffix && path[i - 1] == '.')) {
      reach(start_, next, seen);
    }
    std::swap(now, next);
    if (extent_ == Extent::Start && accepts(now)) {
      return true;
    }
  }
  return accepts(now);
}

}  // namespace bv
