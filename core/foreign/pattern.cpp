#include "core/foreign/pattern.hpp"

#include <algorithm>
#include <set>
#include <utility>

namespace bv::foreign {

std::size_t wildcards(std::string_view pattern) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '*') {
      ++count;
      i += i + 1 < pattern.size() && pattern[i + 1] == '*' ? 1U : 0U;
    }
  }
  return count;
}

namespace {

/// A search from the left, every wildcard as long as it can be. What is left of pattern and name
/// decides the rest of it, so that a place that failed once is not looked at again.
class Matcher {
 public:
  std::vector<std::string> captures;

  bool match(std::string_view pattern, std::string_view name) {
    const std::size_t star = pattern.find('*');
    if (star == std::string_view::npos) {
      return pattern == name;
    }
    if (name.substr(0, star) != pattern.substr(0, star) ||
        failed_.contains({pattern.size(), name.size()})) {
      return false;
    }
    const bool any = pattern.substr(star).starts_with("**");
    const std::string_view after = pattern.substr(star + (any ? 2 : 1));
    const std::string_view here = name.substr(star);
    std::size_t longest = here.size();
    if (!any) {
      longest = std::min(here.find_first_not_of("0123456789"), here.size());
    }
    for (std::size_t take = longest + 1; take-- > (any ? 0U : 1U);) {
      captures.emplace_back(here.substr(0, take));
      if (match(after, here.substr(take))) {
        return true;
      }
      captures.pop_back();
    }
    failed_.insert({pattern.size(), name.size()});
    return false;
  }

 private:
  std::set<std::pair<std::size_t, std::size_t>> failed_;  // sizes of what was left
};

}  // namespace

std::optional<std::vector<std::string>> match_pattern(std::string_view pattern,
                                                      std::string_view name) {
  Matcher matcher;
  if (wildcards(pattern) > kWildcardsMax || !matcher.match(pattern, name)) {
    return std::nullopt;
  }
  return std::move(matcher.captures);
}

std::string fill_pattern(std::string_view pattern, const std::vector<std::string>& captures) {
  std::string out(pattern);
  std::size_t next = 0;
  for (const std::string_view star : {std::string_view("**"), std::string_view("*")}) {
    for (std::size_t at = out.find(star); at != std::string::npos && next < captures.size();
         at = out.find(star, at + captures[next - 1].size())) {
      out.replace(at, star.size(), captures[next++]);
    }
  }
  return out;
}

bool mixes_wildcards(std::string_view pattern) {
  std::size_t doubles = 0;
  for (std::size_t at = pattern.find("**"); at != std::string_view::npos;
       at = pattern.find("**", at + 2)) {
    ++doubles;
  }
  return doubles > 0 && doubles < wildcards(pattern);
}

}  // namespace bv::foreign
