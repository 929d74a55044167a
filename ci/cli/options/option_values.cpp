#include "ci/cli/options/option_values.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "core/base/text.hpp"

namespace bv::cli {
namespace {

constexpr std::int64_t kSizeMax = std::int64_t{1} << 20;  // more ranks than any machine has
constexpr std::size_t kListMax = 64;

struct Given {
  const OptionSpec& spec;
  std::string_view text;
  std::string_view as_written;

  [[nodiscard]] Error bad(std::string_view is_not, std::string wanted) const {
    const std::string remedy = spec.remedy.empty() ? fmt::format("write --{} {}", spec.name, wanted)
                                                   : std::string(spec.remedy);
    std::string_view given = as_written;  // "--layout " when its word is empty
    given.remove_suffix(given.ends_with(' ') ? 1 : 0);
    return fail(Code::BadValue, fmt::format("{} {}", escaped(given), is_not)).advise(remedy);
  }
};

template <class Number>
std::optional<Number> whole(std::string_view text) {
  Number value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size() && !text.empty()
             ? std::optional(value)
             : std::nullopt;
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> out;
  while (true) {
    const std::size_t at = text.find(separator);
    out.emplace_back(text.substr(0, at));
    if (at == std::string_view::npos) {
      return out;
    }
    text.remove_prefix(at + 1);
  }
}

Result<std::int64_t> positive(const Given& given, std::string_view text, std::int64_t most) {
  const auto value = whole<std::int64_t>(text);
  if (!value || *value < 1) {
    return given.bad("is not a positive number", "1");
  }
  if (*value > most) {
    return given.bad(fmt::format("is above {}", thousands(most)), "a smaller number");
  }
  return *value;
}

/// "1,2,4" or "1..8": the powers of two between both ends. Order is kept, repetitions are dropped.
Result<std::vector<std::int64_t>> sizes(const Given& given) {
  std::vector<std::int64_t> out;
  const auto add = [&out](std::int64_t size) {
    if (std::find(out.begin(), out.end(), size) == out.end()) {
      out.push_back(size);
    }
  };
  for (const std::string& item : split(given.text, ',')) {
    const std::size_t dots = item.find("..");
    if (dots == std::string::npos) {
      BV_TRY(size, positive(given, item, kSizeMax));
      add(size);
      continue;
    }
    BV_TRY(first, positive(given, std::string_view(item).substr(0, dots), kSizeMax));
    BV_TRY(last, positive(given, std::string_view(item).substr(dots + 2), kSizeMax));
    bool any = false;
    for (std::int64_t power = 1; power <= last; power *= 2) {
      if (power >= first) {
        add(power);
        any = true;
      }
    }
    if (!any) {
      return given.bad("does not contain a power of two", "1..8");
    }
  }
  if (out.size() > kListMax) {
    return given.bad(fmt::format("lists {} sizes, more than {}", out.size(), kListMax),
                     "a shorter list");
  }
  return out;
}

Result<std::string> choice(const Given& given) {
  const std::vector<std::string> choices = split(given.spec.value, '|');
  if (std::find(choices.begin(), choices.end(), given.text) != choices.end()) {
    return std::string(given.text);
  }
  auto near = nearest(given.text, choices);
  for (const std::string& choice : choices) {  // of words too short to be near anything
    near = !near && !given.text.empty() && choice.starts_with(given.text) ? choice : near;
  }
  return fail(Code::BadValue,
              fmt::format("{} is not one of {}", escaped(given.as_written), join(choices, ", ")))
      .advise(fmt::format("write --{} {}", given.spec.name, near.value_or(choices.front())));
}

Result<std::vector<std::string>> names(const Given& given) {
  std::vector<std::string> out = split(given.text, ',');
  for (const std::string& word : out) {
    if (word.empty()) {
      return given.bad("holds an empty name", "names,shapes");
    }
  }
  return out;
}

Result<std::pair<std::string, std::string>> pair(const Given& given) {
  const std::size_t equals = given.text.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    return given.bad("is not of the form PATH=VALUE", "PATH=VALUE");
  }
  return std::pair(std::string(given.text.substr(0, equals)),
                   std::string(given.text.substr(equals + 1)));
}

/// "true" and "1" set, "false" and "0" clear: flags reach here only from weaker layers.
Result<bool> truth(const Given& given) {
  if (given.text == "1" || given.text == "true" || given.text == "yes") {
    return true;
  }
  if (given.text == "0" || given.text == "false" || given.text == "no" || given.text.empty()) {
    return false;
  }
  return fail(Code::BadValue,
              fmt::format("{} is neither true nor false", escaped(given.as_written)))
      .advise("write 1 or 0");
}

template <class T>
void put(const OptionSpec& spec, Options& options, T value) {
  options.*std::get<T Options::*>(spec.member) = std::move(value);
}

}  // namespace

Status store_value(const OptionSpec& spec, std::string_view text, std::string_view as_written,
                   Options& options) {
  const Given given{spec, text, as_written};
  switch (spec.form) {
    case Form::Flag: {
      BV_TRY(value, truth(given));
      put(spec, options, bool{value});
      return Done{};
    }
    case Form::Count: {
      BV_TRY(value, positive(given, text, 2));
      put(spec, options, static_cast<int>(value));
      return Done{};
    }
    case Form::Text:
      if (text.empty()) {
        return given.bad("is empty", std::string(spec.value));
      }
      put(spec, options, std::string(text));
      return Done{};
    case Form::Choice: {
      BV_TRY(value, choice(given));
      put(spec, options, std::string(value));
      return Done{};
    }
    case Form::Positive: {
      BV_TRY(value, positive(given, text, std::numeric_limits<std::int32_t>::max()));
      put(spec, options, std::optional(value));
      return Done{};
    }
    case Form::Unsigned: {
      const auto value = whole<std::uint64_t>(text);
      if (!value) {
        return given.bad("is not a number from 0 to 18,446,744,073,709,551,615", "7");
      }
      put(spec, options, std::optional(*value));
      return Done{};
    }
    case Form::Sizes: {
      BV_TRY(value, sizes(given));
      put(spec, options, std::move(value));
      return Done{};
    }
    case Form::Names: {
      BV_TRY(value, names(given));
      put(spec, options, std::move(value));
      return Done{};
    }
    case Form::Repeat:
      if (text.empty()) {
        return given.bad("is empty", std::string(spec.value));
      }
      (options.*std::get<std::vector<std::string> Options::*>(spec.member)).emplace_back(text);
      return Done{};
    case Form::Pair: {
      BV_TRY(value, pair(given));
      options.settings.push_back(std::move(value));
      return Done{};
    }
  }
  return Done{};
}

}  // namespace bv::cli
