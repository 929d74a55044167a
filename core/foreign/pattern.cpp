#include "core/foreign/pattern.hpp"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "core/foreign/numbered.hpp"

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

constexpr std::string_view kDigits = "0123456789";
constexpr std::uint32_t kNowhere = UINT32_MAX;

/// A wildcard and the literal text behind it.
struct Wildcard {
  bool any = false;  // `**`
  std::string_view text;
};

struct Parts {
  std::string_view head;
  std::vector<Wildcard> wildcards;
};

Parts parts_of(std::string_view pattern) {
  std::size_t star = pattern.find('*');
  Parts out{pattern.substr(0, star), {}};
  while (star != std::string_view::npos) {
    const bool any = pattern.substr(star).starts_with("**");
    const std::size_t begin = star + (any ? 2 : 1);
    star = pattern.find('*', begin);
    out.wildcards.push_back({any, pattern.substr(begin, star - begin)});
  }
  return out;
}

/// By position of `name`: does `word` begin there? (Knuth, Morris, Pratt: hostile names repeat.)
std::vector<bool> occurrences(std::string_view word, std::string_view name) {
  std::vector<bool> out(name.size() + 1, word.empty());
  if (word.empty()) {
    return out;
  }
  std::vector<std::uint32_t> border(word.size(), 0);
  const auto advance = [&](std::uint32_t matched, char next) {
    while (matched > 0 && (matched == word.size() || word[matched] != next)) {
      matched = border[matched - 1];
    }
    return matched + (word[matched] == next ? 1U : 0U);
  };
  for (std::size_t i = 1; i < word.size(); ++i) {
    border[i] = advance(border[i - 1], word[i]);
  }
  std::uint32_t matched = 0;
  for (std::size_t i = 0; i < name.size(); ++i) {
    matched = advance(matched, name[i]);
    if (matched == word.size()) {
      out[i + 1 - word.size()] = true;
    }
  }
  return out;
}

/// By position: where the run of digits that starts there ends.
std::vector<std::uint32_t> digit_ends(std::string_view name) {
  std::vector<std::uint32_t> out(name.size() + 1, static_cast<std::uint32_t>(name.size()));
  for (std::size_t i = name.size(); i-- > 0;) {
    const bool digit = name[i] >= '0' && name[i] <= '9';
    out[i] = digit ? out[i + 1] : static_cast<std::uint32_t>(i);
  }
  return out;
}

/// Filled from the last wildcard to the first: for each wildcard and position, the last place not
/// behind it where the wildcard may end so that everything after it still fits.
class Matcher {
 public:
  Matcher(const Parts& parts, std::string_view name)
      : parts_(parts), name_(name), digits_(digit_ends(name)), ends_(parts.wildcards.size()) {
    for (std::size_t k = ends_.size(); k-- > 0;) {
      fill(k);
    }
  }

  std::optional<std::vector<std::string>> captures() const {
    std::vector<std::string> out;
    std::size_t at = parts_.head.size();
    for (std::size_t k = 0; k < ends_.size(); ++k) {
      const std::uint32_t end = end_of(k, at);
      if (end == kNowhere) {
        return std::nullopt;
      }
      out.emplace_back(name_.substr(at, end - at));
      at = end + parts_.wildcards[k].text.size();
    }
    return out;
  }

 private:
  /// The longest that wildcard `k` can be from `at` on, kNowhere when it does not fit.
  [[nodiscard]] std::uint32_t end_of(std::size_t k, std::size_t at) const {
    const bool any = parts_.wildcards[k].any;
    const std::uint32_t end = ends_[k][any ? name_.size() : digits_[at]];
    return end == kNowhere || end < at + (any ? 0 : 1) ? kNowhere : end;
  }

  void fill(std::size_t k) {
    const std::string_view text = parts_.wildcards[k].text;
    const std::vector<bool> there = occurrences(text, name_);
    std::vector<std::uint32_t>& ends = ends_[k];
    ends.assign(name_.size() + 1, kNowhere);
    std::uint32_t last = kNowhere;
    for (std::size_t at = 0; at + text.size() <= name_.size(); ++at) {
      const std::size_t next = at + text.size();
      const bool rest_fits =
          k + 1 == ends_.size() ? next == name_.size() : end_of(k + 1, next) != kNowhere;
      last = there[at] && rest_fits ? static_cast<std::uint32_t>(at) : last;
      ends[at] = last;
    }
    for (std::size_t at = name_.size() + 1 - std::min(text.size(), name_.size() + 1);
         at <= name_.size(); ++at) {
      ends[at] = last;
    }
  }

  const Parts& parts_;
  std::string_view name_;
  std::vector<std::uint32_t> digits_;
  std::vector<std::vector<std::uint32_t>> ends_;
};

}  // namespace

std::optional<std::vector<std::string>> match_pattern(std::string_view pattern,
                                                      std::string_view name) {
  if (pattern.find('*') == std::string_view::npos) {
    return pattern == name ? std::optional(std::vector<std::string>()) : std::nullopt;
  }
  if (!name.starts_with(pattern.substr(0, pattern.find('*'))) ||
      !name.ends_with(pattern.substr(pattern.rfind('*') + 1)) || name.size() >= kNowhere ||
      wildcards(pattern) > kWildcardsMax) {
    return std::nullopt;
  }
  const Parts parts = parts_of(pattern);
  return Matcher(parts, name).captures();
}

std::string fill_pattern(std::string_view pattern, const std::vector<std::string>& captures) {
  if (is_numbered(pattern)) {
    return fill_numbers(pattern, captures).value_or(std::string(pattern));
  }
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

bool has_double_star(std::string_view pattern) {
  return pattern.find("**") != std::string_view::npos;
}

bool mixes_wildcards(std::string_view pattern) {
  std::size_t doubles = 0;
  for (std::size_t at = pattern.find("**"); at != std::string_view::npos;
       at = pattern.find("**", at + 2)) {
    ++doubles;
  }
  return doubles > 0 && doubles < wildcards(pattern);
}

std::string skeleton(std::string_view name) {
  std::string out;
  bool inside = false;
  for (const char c : name) {
    const bool number = c == '*' || kDigits.find(c) != std::string_view::npos;
    if (!number || !inside) {
      out += number ? '#' : c;
    }
    inside = number;
  }
  return out;
}

std::string starred(std::string_view name) {
  std::string out;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    const std::size_t digits = part.find_last_not_of(kDigits) + 1;  // 0: nothing but digits
    const std::string_view word = part.substr(0, digits);
    const bool number =
        digits < part.size() && (word.empty() || word == "weight" || word == "bias");
    out += begin == 0 ? "" : ".";
    out += word;
    out += number ? "*" : part.substr(digits);
    begin = end + 1;
  }
  return out;
}

}  // namespace bv::foreign
