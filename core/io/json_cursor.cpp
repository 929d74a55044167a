#include "core/io/json_cursor.hpp"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>

#include "core/io/json_string.hpp"

namespace bv::io {
namespace {

static_assert(std::endian::native == std::endian::little,
              "safetensors bytes and the word scan are little endian");

constexpr std::uint64_t kEveryByte = 0x0101010101010101ULL;
constexpr std::uint64_t kHighBits = 0x8080808080808080ULL;

std::uint64_t word_at(std::string_view text, std::size_t at) {
  std::uint64_t word = 0;
  std::memcpy(&word, text.data() + at, sizeof word);
  return word;
}

/// High bit set in the lowest byte that is a quote, a backslash or a control character (higher
/// bytes may be wrong).
std::uint64_t string_stops(std::uint64_t word) {
  const std::uint64_t quote = word ^ (kEveryByte * 0x22);
  const std::uint64_t backslash = word ^ (kEveryByte * 0x5c);
  const std::uint64_t stops = ((quote - kEveryByte) & ~quote) |
                              ((backslash - kEveryByte) & ~backslash) |
                              ((word - kEveryByte * 0x20) & ~word);
  return stops & kHighBits;
}

}  // namespace

LineColumn line_column(std::string_view text, std::size_t position) {
  LineColumn place;
  for (const char c : text.substr(0, position)) {
    place.line += c == '\n' ? 1u : 0u;
    place.column = c == '\n' ? 1 : place.column + 1;
  }
  return place;
}

bool JsonCursor::fault_at(std::size_t position, std::string what) {
  if (!failed_) {
    failed_ = true;
    fault_ = {position, std::move(what)};
  }
  return false;
}

bool JsonCursor::unexpected(const std::string& wanted) {
  skip_space();
  return fault_at(
      at_, at_ < text_.size() ? "expected " + wanted : "expected " + wanted + ", the text ends");
}

bool JsonCursor::unexpected_byte(char wanted) {
  return unexpected(std::string("'") + wanted + "'");
}

bool JsonCursor::enter(char bracket, const char* wanted) {
  if (!take(bracket)) {
    return unexpected(wanted);
  }
  if (++depth_ > kDepthMax) {
    return fault_at(at_ - 1, "nested deeper than " + std::to_string(kDepthMax) + " levels");
  }
  return true;
}

bool JsonCursor::string(JsonString& out) {
  if (!take('"')) {
    return unexpected("a string");
  }
  const std::size_t begin = at_;
  out.has_escape = false;
  out.position = begin - 1;
  while (true) {
    while (at_ + 8 <= text_.size()) {
      const std::uint64_t stops = string_stops(word_at(text_, at_));
      if (stops != 0) {
        at_ += static_cast<std::size_t>(std::countr_zero(stops)) / 8;
        break;
      }
      at_ += 8;
    }
    if (at_ >= text_.size()) {
      return fault_at(at_, "a string has no closing quote");
    }
    const char c = text_[at_];
    if (c == '"') {
      out.raw = text_.substr(begin, at_ - begin);
      ++at_;
      return true;
    }
    if (c == '\\') {
      out.has_escape = true;
      if (!escape()) {
        return false;
      }
    } else if (static_cast<unsigned char>(c) < 0x20) {
      return fault_at(at_, "a raw control character in a string");
    } else {
      ++at_;
    }
  }
}

bool JsonCursor::hex4(unsigned& out) {
  if (text_.size() - at_ < 4) {
    return fault_at(at_, "expected four hex digits");
  }
  for (std::size_t i = 0; i < 4; ++i) {
    if (hex_digit(text_[at_ + i]) > 15) {
      return fault_at(at_ + i, "expected four hex digits");
    }
  }
  out = hex4_of(text_.substr(at_));
  at_ += 4;
  return true;
}

/// One escape, with the cursor on its backslash. Lone surrogates are no text and are refused.
bool JsonCursor::escape() {
  const std::size_t start = at_++;
  if (at_ >= text_.size() ||
      std::string_view("\"\\/bfnrtu").find(text_[at_]) == std::string_view::npos) {
    return fault_at(start, "an unknown escape in a string");
  }
  if (text_[at_++] != 'u') {
    return true;
  }
  unsigned code = 0;
  if (!hex4(code)) {
    return false;
  }
  if (code < 0xd800 || code >= 0xe000) {
    return true;
  }
  unsigned low = 0;
  if (code >= 0xdc00 || text_.substr(at_, 2) != "\\u") {
    return fault_at(start, "a lone surrogate in a string");
  }
  at_ += 2;
  if (!hex4(low)) {
    return false;
  }
  return (low >= 0xdc00 && low < 0xe000) || fault_at(start, "a lone surrogate in a string");
}

bool JsonCursor::unsigned_integer(std::uint64_t& out) {
  skip_space();
  constexpr std::size_t kSafeDigits = 19;  // 10^19 - 1 fits 64 bits
  const std::size_t begin = at_;
  std::uint64_t value = 0;
  bool overflows = false;
  for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
    const auto digit = static_cast<std::uint64_t>(text_[at_] - '0');
    if (at_ - begin < kSafeDigits) {
      value = value * 10 + digit;
    } else {
      overflows = overflows || __builtin_mul_overflow(value, std::uint64_t{10}, &value) ||
                  __builtin_add_overflow(value, digit, &value);
    }
  }
  if (at_ == begin) {
    return unexpected("an unsigned integer");
  }
  if (overflows) {
    return fault_at(begin, "a number above 2^64-1");
  }
  if (at_ - begin > 1 && text_[begin] == '0') {
    return fault_at(begin, "a number with a leading zero");
  }
  if (at_ < text_.size() && (text_[at_] == '.' || text_[at_] == 'e' || text_[at_] == 'E')) {
    return fault_at(begin, "expected an unsigned integer without fraction or exponent");
  }
  out = value;
  return true;
}

bool JsonCursor::digits() {
  const std::size_t begin = at_;
  while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
    ++at_;
  }
  return at_ > begin || unexpected("a digit");
}

bool JsonCursor::number_text(std::string_view& out) {
  skip_space();
  const std::size_t begin = at_;
  at_ += next_is('-') ? 1u : 0u;
  const std::size_t whole = at_;
  if (!digits()) {
    return false;
  }
  if (text_[whole] == '0' && at_ - whole > 1) {
    return fault_at(whole, "a number with a leading zero");
  }
  if (at_ < text_.size() && text_[at_] == '.') {
    ++at_;
    if (!digits()) {
      return false;
    }
  }
  if (at_ < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E')) {
    ++at_;
    at_ += at_ < text_.size() && (text_[at_] == '+' || text_[at_] == '-') ? 1u : 0u;
    if (!digits()) {
      return false;
    }
  }
  out = text_.substr(begin, at_ - begin);
  return true;
}

namespace {

/// Digits before the decimal point that a number written without an exponent would have; at most 0
/// for a number below 1. Only its sign is used for numbers with very long exponents.
std::int64_t magnitude_of(std::string_view text) {
  constexpr std::int64_t kFar = std::int64_t{1} << 40;
  const std::size_t exponent_at = std::min(text.find_first_of("eE"), text.size());
  const std::string_view digits = text.substr(0, exponent_at);
  const std::size_t first = digits.find_first_of("123456789");
  if (first == std::string_view::npos) {
    return -kFar;
  }
  const std::size_t point = std::min(digits.find('.'), digits.size());
  const auto places = static_cast<std::int64_t>(point) - static_cast<std::int64_t>(first);
  std::int64_t exponent = 0;
  if (exponent_at < text.size()) {
    std::string_view written = text.substr(exponent_at + 1);
    written.remove_prefix(written.front() == '+' ? 1 : 0);
    const auto parsed = std::from_chars(written.data(), written.data() + written.size(), exponent);
    if (parsed.ec != std::errc{}) {
      exponent = written.front() == '-' ? -kFar : kFar;
    }
  }
  return std::clamp(exponent, -kFar, kFar) + places;
}

}  // namespace

/// A number above every double, which other readers refuse; one too small for a double is 0.
bool JsonCursor::unread_number() {
  std::string_view text;
  if (!number_text(text)) {
    return false;
  }
  double value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  return parsed.ec == std::errc{} || magnitude_of(text) <= 0 ||
         fault_at(at_ - text.size(), "a number outside the range of a double");
}

bool JsonCursor::number(double& out) {
  std::string_view text;
  if (!number_text(text)) {
    return false;
  }
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), out);
  return parsed.ec == std::errc{} ||
         fault_at(at_ - text.size(), "a number outside the range of a double");
}

bool JsonCursor::literal(std::string_view word) {
  skip_space();
  if (text_.substr(at_, word.size()) != word) {
    return unexpected("a value");
  }
  at_ += word.size();
  return true;
}

bool JsonCursor::null() {
  return literal("null");
}

/// One value of any kind; recursion is bounded by the depth limit.
bool JsonCursor::constant() {
  for (const std::string_view word : {"Infinity", "-Infinity", "NaN"}) {
    if (text_.substr(at_).starts_with(word)) {
      at_ += word.size();
      return true;
    }
  }
  return false;
}

bool JsonCursor::nested() {
  skip_space();
  if (at_ >= text_.size()) {
    return unexpected("a value");
  }
  JsonString ignored_string;
  switch (text_[at_]) {
    case '{':
      return object([this](const JsonString&) { return nested(); });
    case '[':
      return array([this] { return nested(); });
    case '"':
      return string(ignored_string);
    case 't':
      return literal("true");
    case 'f':
      return literal("false");
    case 'n':
      return literal("null");
    default:
      break;
  }
  if (constants_ && constant()) {
    return true;
  }
  const bool starts_number = text_[at_] == '-' || (text_[at_] >= '0' && text_[at_] <= '9');
  return starts_number ? unread_number() : unexpected("a value");
}

bool JsonCursor::skip_value(std::string_view* raw) {
  skip_space();
  const std::size_t begin = at_;
  if (!nested()) {
    return false;
  }
  if (raw != nullptr) {
    *raw = text_.substr(begin, at_ - begin);
  }
  return true;
}

bool JsonCursor::end() {
  skip_space();
  return at_ == text_.size() || fault_at(at_, "text after the end of the value");
}

}  // namespace bv::io
