#include "core/base/text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace bv {
namespace {

constexpr std::size_t kTooShort = 3;

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) {
    row[j] = j;
  }
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      const std::size_t replace = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({row[j - 1] + 1, above + 1, replace});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace

namespace {

std::string grouped(const std::string& digits) {
  std::string out;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    out += i > 0 && (digits.size() - i) % 3 == 0 ? "," : "";
    out += digits[i];
  }
  return out;
}

}  // namespace

std::string thousands(std::int64_t number) {
  const std::uint64_t size =
      number < 0 ? ~static_cast<std::uint64_t>(number) + 1 : static_cast<std::uint64_t>(number);
  return (number < 0 ? "-" : "") + grouped(std::to_string(size));
}

std::string noun_after(std::uint64_t number, std::string_view noun) {
  if (number == 1) {
    return std::string(noun);
  }
  const bool vowel = noun.size() >= 2 && std::string_view("aeiou").find(noun[noun.size() - 2]) !=
                                             std::string_view::npos;
  if (noun.ends_with('y') && !vowel) {
    return fmt::format("{}ies", noun.substr(0, noun.size() - 1));
  }
  const bool hisses =
      noun.ends_with("ch") || noun.ends_with("sh") || noun.ends_with('s') || noun.ends_with('x');
  return fmt::format("{}{}", noun, hisses ? "es" : "s");
}

std::string counted(std::uint64_t number, std::string_view noun) {
  return fmt::format("{} {}", grouped(std::to_string(number)), noun_after(number, noun));
}

std::string counted_plural(std::int64_t number, std::string_view nouns) {
  constexpr std::string_view kAnd = " and ";
  if (number != 1) {
    return fmt::format("{} {}", thousands(number), nouns);
  }
  const std::size_t both = nouns.find(kAnd);
  if (both != std::string_view::npos) {
    return fmt::format("{} or {}", counted_plural(1, nouns.substr(0, both)),
                       counted_plural(1, nouns.substr(both + kAnd.size())).substr(2));
  }
  return fmt::format("1 {}", nouns.substr(0, nouns.size() - (nouns.ends_with('s') ? 1 : 0)));
}

std::string human_bytes(std::uint64_t count) {
  constexpr std::array<std::string_view, 5> kUnits = {"B", "kB", "MB", "GB", "TB"};
  auto value = static_cast<double>(count);
  std::size_t unit = 0;
  while (value >= 1000.0 && unit + 1 < kUnits.size()) {
    value /= 1000.0;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", count) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string shape_text(std::span<const std::int64_t> shape) {
  constexpr std::size_t kShownMax = 16;
  if (shape.size() <= kShownMax) {
    return fmt::format("[{}]", fmt::join(shape, ", "));
  }
  return fmt::format("[{}, ... {} dimensions]", fmt::join(shape.first(kShownMax / 2), ", "),
                     thousands(static_cast<std::int64_t>(shape.size())));
}

std::optional<std::string> nearest(std::string_view word, std::span<const std::string> candidates) {
  if (word.size() <= kTooShort) {  // every other short word is near
    return std::nullopt;
  }
  std::optional<std::string> best;
  std::size_t best_distance = std::min<std::size_t>(3, (word.size() + 1) / 2);
  std::vector<std::string> with_prefix;
  for (const std::string& candidate : candidates) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
    if (!word.empty() && candidate.starts_with(word)) {
      with_prefix.push_back(candidate);
    }
  }
  if (!best && with_prefix.size() == 1) {
    best = with_prefix.front();
  }
  return best;
}

bool glob_match(std::string_view pattern, std::string_view text) {
  const std::string_view end = pattern.substr(pattern.rfind('*') + 1);
  if (end.find('?') == std::string_view::npos && !text.ends_with(end)) {
    return false;  // as most of a hundred thousand names do
  }
  std::size_t p = 0;
  std::size_t t = 0;
  std::size_t star = std::string_view::npos;
  std::size_t resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') {
    ++p;
  }
  return p == pattern.size();
}

std::string join(std::span<const std::string> parts, std::string_view separator) {
  return fmt::format("{}", fmt::join(parts, separator));
}

bool natural_less(std::string_view a, std::string_view b) {
  const auto digit = [](std::string_view text, std::size_t at) {
    return at < text.size() && text[at] >= '0' && text[at] <= '9';
  };
  const auto number = [&](std::string_view text, std::size_t& at) {
    const std::size_t begin = at;
    while (digit(text, at)) {
      ++at;
    }
    std::string_view digits = text.substr(begin, at - begin);
    digits.remove_prefix(std::min(digits.find_first_not_of('0'), digits.size()));
    return digits;
  };
  std::size_t i = 0;
  std::size_t j = 0;
  while (i < a.size() && j < b.size()) {
    if (digit(a, i) && digit(b, j)) {
      const std::string_view left = number(a, i);
      const std::string_view right = number(b, j);
      if (left != right) {
        return left.size() != right.size() ? left.size() < right.size() : left < right;
      }
    } else if (a[i] != b[j]) {
      return static_cast<unsigned char>(a[i]) < static_cast<unsigned char>(b[j]);
    } else {
      ++i;
      ++j;
    }
  }
  const bool ended = i == a.size();
  return ended && j == b.size() ? a < b : ended;  // equal numbers, written differently
}

std::string shortened(std::string_view name, std::size_t width, bool ascii) {
  const std::string_view gap = ascii ? "..." : "\u2026";
  const std::size_t gap_width = ascii ? 3 : 1;
  if (name.size() <= width || width < gap_width + 8) {
    return std::string(name);
  }
  const std::size_t keep = width - gap_width;
  std::size_t head = keep * 2 / 5;
  std::size_t tail = name.size() - (keep - head);
  const auto inside_character = [&](std::size_t at) {
    return at < name.size() && (static_cast<unsigned char>(name[at]) & 0xC0U) == 0x80U;
  };
  while (head > 0 && inside_character(head)) {
    --head;
  }
  while (inside_character(tail)) {
    ++tail;
  }
  return std::string(name.substr(0, head)) + std::string(gap) + std::string(name.substr(tail));
}

}  // namespace bv
