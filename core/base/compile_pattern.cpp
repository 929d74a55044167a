// The text of an expression -> the states of an automaton.

#include "core/base/path_pattern.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <optional>

#include "core/base/text.hpp"

namespace bv {
namespace {

constexpr std::size_t kStatesMax = 20000;
constexpr int kDepthMax = 50;
constexpr int kRepeatMax = 100;
constexpr std::size_t kPatternShownMax = 160;
constexpr std::size_t kBytes = 256;

using Bytes = std::vector<bool>;

Bytes only(unsigned char byte) {
  Bytes out(kBytes, false);
  out[byte] = true;
  return out;
}

/// "\d", "\w", "\s" and their capitals; an escaped punctuation mark stands for itself.
std::optional<Bytes> escaped_class(char letter) {
  Bytes out(kBytes, false);
  const auto byte = static_cast<unsigned char>(letter);
  if (std::isalnum(byte) == 0) {
    return only(byte);
  }
  const int lower = std::tolower(byte);
  for (std::size_t i = 0; i < kBytes; ++i) {
    const int c = static_cast<int>(i);
    const bool ascii = i < 128;
    out[i] = lower == 'd'   ? ascii && std::isdigit(c) != 0
             : lower == 'w' ? !ascii || std::isalnum(c) != 0 || c == '_'
                            : ascii && std::isspace(c) != 0;
  }
  if (lower != 'd' && lower != 'w' && lower != 's') {
    return std::nullopt;
  }
  if (letter != lower) {
    out.flip();
  }
  return out;
}

}  // namespace

/// Recursive descent over the text into the states of an automaton.
class PatternCompiler {
 public:
  explicit PatternCompiler(PathPattern& out) : out_(out), text_(out.text_) {}

  Status run() {
    if (text_.size() > kPatternMax) {
      return wrong(fmt::format("it has more than {} characters", kPatternMax));
    }
    at_ = !text_.empty() && text_.front() == '^' ? 1 : 0;
    end_ = text_.size() -
           (text_.size() > at_ && text_.back() == '$' && !is_escaped(text_.size() - 1) ? 1 : 0);
    const bool ends = end_ < text_.size();
    BV_TRY(whole, alternatives(0));
    if (ends && branches_ && out_.extent_ == PathPattern::Extent::Start) {
      return wrong("its $ belongs to the last alternative alone");
    }
    out_.extent_ = ends && out_.extent_ == PathPattern::Extent::Start ? PathPattern::Extent::Whole
                                                                      : out_.extent_;
    if (at_ != end_) {
      return wrong(fmt::format("an unexpected '{}'", escaped(text_.substr(at_, 1))));
    }
    const std::int32_t accept = add({PathPattern::State::Kind::Accept});
    patch(whole, accept);
    out_.start_ = whole.start;
    return Done{};
  }

 private:
  /// A piece whose open ends are the states that end in it.
  struct Piece {
    std::int32_t start = -1;
    std::vector<std::pair<std::int32_t, bool>> ends;  // state, and whether its `other` is open
  };

  [[nodiscard]] bool is_escaped(std::size_t position) const {
    std::size_t slashes = 0;
    while (position > slashes && text_[position - slashes - 1] == '\\') {
      ++slashes;
    }
    return slashes % 2 == 1;
  }

  Error wrong(const std::string& why) const {
    return fail(Code::AdapterInvalid, fmt::format("the pattern \"{}\" cannot be used: {}",
                                                  readable(bounded(text_, kPatternShownMax)), why))
        .advise("write a suffix or a full path of modules instead");
  }

  std::int32_t add(PathPattern::State state) {
    out_.states_.push_back(std::move(state));
    return static_cast<std::int32_t>(out_.states_.size()) - 1;
  }

  void patch(const Piece& piece, std::int32_t next) {
    for (const auto& [state, other] : piece.ends) {
      auto& end = out_.states_[static_cast<std::size_t>(state)];
      (other ? end.other : end.next) = next;
    }
  }

  Piece split(std::int32_t first) {
    const std::int32_t state = add({PathPattern::State::Kind::Split, {}, first});
    return {state, {{state, true}}};
  }

  Piece nothing() {
    const std::int32_t state = add({PathPattern::State::Kind::Split});
    return {state, {{state, false}}};  // its `other` stays -1
  }

  Piece one(Bytes bytes) {
    const std::int32_t state = add({PathPattern::State::Kind::Class, std::move(bytes)});
    return {state, {{state, false}}};
  }

  Result<Piece> alternatives(int depth) {
    if (depth > kDepthMax) {
      return wrong("its groups are nested too deeply");
    }
    BV_TRY(first, sequence(depth));
    Piece out = std::move(first);
    while (at_ < end_ && text_[at_] == '|') {
      ++at_;
      branches_ = branches_ || depth == 0;
      BV_TRY(next, sequence(depth));
      const std::int32_t state = add({PathPattern::State::Kind::Split, {}, out.start, next.start});
      out.start = state;
      out.ends.insert(out.ends.end(), next.ends.begin(), next.ends.end());
    }
    return out;
  }

  Result<Piece> sequence(int depth) {
    Piece out = nothing();
    while (at_ < end_ && text_[at_] != '|' && text_[at_] != ')') {
      BV_TRY(next, repeated(depth));
      patch(out, next.start);
      out.ends = std::move(next.ends);
    }
    return out;
  }

  struct Times {
    int least = 1;
    int most = 1;  // -1: any number
  };

  /// What stands behind an item: "*", "+", "?", "{2}", "{1,}", "{1,3}".
  Result<Times> times() {
    Times out;
    if (at_ == end_) {
      return out;
    }
    switch (text_[at_]) {
      case '*':
        out = {0, -1};
        break;
      case '+':
        out = {1, -1};
        break;
      case '?':
        out = {0, 1};
        break;
      case '{':
        return counted_times();
      default:
        return out;
    }
    ++at_;
    return out;
  }

  Result<Times> counted_times() {
    ++at_;
    const auto number = [&]() -> std::optional<int> {
      int value = 0;
      const std::size_t begin = at_;
      while (at_ < end_ && std::isdigit(static_cast<unsigned char>(text_[at_])) != 0) {
        value = std::min(kRepeatMax + 1, value * 10 + (text_[at_] - '0'));
        ++at_;
      }
      return at_ == begin ? std::nullopt : std::optional<int>(value);
    };
    const auto least = number();
    Times out{least.value_or(0), least.value_or(0)};
    const bool range = at_ < end_ && text_[at_] == ',';
    if (range) {
      ++at_;
      out.most = number().value_or(-1);
    }
    if (at_ >= end_ || text_[at_] != '}' || (!least && !range)) {
      return wrong("its braces hold no count");
    }
    ++at_;
    if (out.least > kRepeatMax || out.most > kRepeatMax ||
        (out.most >= 0 && out.most < out.least)) {
      return wrong(fmt::format("a count is not at most {}", kRepeatMax));
    }
    return out;
  }

  Result<Piece> repeated(int depth) {
    const std::size_t begin = at_;
    BV_TRY(first, item(depth));
    const std::size_t item_end = at_;
    BV_TRY(count, times());
    if (at_ < end_ && (text_[at_] == '?' || text_[at_] == '+') && at_ > item_end) {
      ++at_;  // lazy and possessive forms take the same paths
    }
    if (at_ < end_ && at_ > item_end && (text_[at_] == '*' || text_[at_] == '{')) {
      return wrong("a repetition of a repetition");
    }
    if (count.least == 1 && count.most == 1) {
      return std::move(first);
    }
    const std::size_t after = at_;
    Piece out = nothing();
    const auto append = [&](Piece next) {
      patch(out, next.start);
      out.ends = std::move(next.ends);
    };
    const auto again = [&]() -> Result<Piece> {
      at_ = begin;
      auto copy = item(depth);
      at_ = after;
      return copy;
    };
    for (int i = 0; i < count.least; ++i) {
      BV_TRY(copy, again());
      append(std::move(copy));
    }
    if (count.most < 0) {
      BV_TRY(copy, again());
      Piece loop = split(copy.start);
      patch(copy, loop.start);
      append(std::move(loop));
    }
    for (int i = count.least; i < count.most; ++i) {
      BV_TRY(copy, again());
      Piece optional = split(copy.start);
      optional.ends.insert(optional.ends.end(), copy.ends.begin(), copy.ends.end());
      append(std::move(optional));
    }
    return out.ends.empty() ? Result<Piece>(wrong("an empty repetition")) : Result<Piece>(out);
  }

  Result<Piece> item(int depth) {
    if (out_.states_.size() > kStatesMax) {
      return wrong("it is too large");
    }
    const char c = text_[at_];
    if (c == '(') {
      return group(depth);
    }
    if (c == '[') {
      return brackets();
    }
    if (c == '*' || c == '+' || c == '?' || c == '{') {
      return wrong("nothing comes before a repetition");
    }
    if (c == '^' || c == '$') {
      return wrong(fmt::format("'{}' inside", c));
    }
    ++at_;
    if (c == '.') {
      Bytes any(kBytes, true);
      any['\n'] = false;
      return one(std::move(any));
    }
    if (c != '\\') {
      return one(only(static_cast<unsigned char>(c)));
    }
    const auto bytes = at_ < end_ ? escaped_class(text_[at_]) : std::nullopt;
    ++at_;
    return bytes ? Result<Piece>(one(*bytes)) : Result<Piece>(wrong("an escape of another kind"));
  }

  Result<Piece> group(int depth) {
    ++at_;
    if (text_.substr(at_, 2) == "?:") {
      at_ += 2;
    } else if (at_ < end_ && text_[at_] == '?') {
      return wrong("a group of another kind");
    }
    BV_TRY(inside, alternatives(depth + 1));
    if (at_ >= end_ || text_[at_] != ')') {
      return wrong("a group is not closed");
    }
    ++at_;
    return std::move(inside);
  }

  Result<Piece> brackets() {
    ++at_;
    const bool negated = at_ < end_ && text_[at_] == '^';
    at_ += negated ? 1U : 0U;
    Bytes bytes(kBytes, false);
    for (bool first = true; at_ < end_ && (first || text_[at_] != ']'); first = false) {
      if (text_[at_] == '\\') {
        const auto some = at_ + 1 < end_ ? escaped_class(text_[at_ + 1]) : std::nullopt;
        if (!some) {
          return wrong("an escape of another kind");
        }
        for (std::size_t i = 0; i < kBytes; ++i) {
          bytes[i] = bytes[i] || (*some)[i];
        }
        at_ += 2;
        continue;
      }
      const auto low = static_cast<unsigned char>(text_[at_]);
      auto high = low;
      if (at_ + 2 < end_ && text_[at_ + 1] == '-' && text_[at_ + 2] != ']') {
        high = static_cast<unsigned char>(text_[at_ + 2]);
        at_ += 2;
      }
      if (high < low) {
        return wrong("a range of characters runs backwards");
      }
      for (std::size_t i = low; i <= high; ++i) {
        bytes[i] = true;
      }
      ++at_;
    }
    if (at_ >= end_) {
      return wrong("a class is not closed");
    }
    ++at_;
    if (negated) {
      bytes.flip();
    }
    return one(std::move(bytes));
  }

  PathPattern& out_;
  std::string_view text_;
  std::size_t at_ = 0;
  std::size_t end_ = 0;
  bool branches_ = false;  // it has alternatives that no group holds
};

Result<PathPattern> PathPattern::compile(std::string text, Extent extent) {
  PathPattern out;
  out.text_ = std::move(text);
  out.extent_ = extent;
  out.plain_ = std::none_of(out.text_.begin(), out.text_.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '_' && c != '.' && c != '-';
  });
  if (!out.plain_ || out.text_.size() > kPatternMax) {
    BV_CHECK(PatternCompiler(out).run());
  }
  return out;
}

}  // namespace bv
