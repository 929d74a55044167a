#pragma once
// Strict RFC 8259 scanner for untrusted input: positions in every fault, no tree, no
// allocation but strings.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/io/json_string.hpp"

namespace bv::io {

/// Why the text is not the JSON that was wanted, and the byte where that shows.
struct JsonFault {
  std::size_t position = 0;
  std::string what;
};

struct LineColumn {
  std::size_t line = 1;
  std::size_t column = 1;
};
[[nodiscard]] LineColumn line_column(std::string_view text, std::size_t position);

/// A pull scanner. After a fault every call returns false; the first fault is kept. A caller may set
/// one of its own by `fault_at` for values that are JSON but not what the format wants. Objects and
/// arrays: `object(f)` calls f(key) with the cursor before the value, `array(f)` calls f() before
/// each item. Depth is limited, so that recursion is bounded. The text must be UTF-8 already and
/// outlive the cursor.
class JsonCursor {
 public:
  static constexpr int kDepthMax = 32;

  explicit JsonCursor(std::string_view text) : text_(text) {}

  [[nodiscard]] std::size_t position() const { return at_; }
  [[nodiscard]] const JsonFault& fault() const { return fault_; }
  bool fault_at(std::size_t position, std::string what);

  void skip_space() {
    while (at_ < text_.size() && is_space(text_[at_])) {
      ++at_;
    }
  }
  /// The next byte after white space, consumed if it is `wanted`.
  bool take(char wanted) {
    skip_space();
    const bool there = at_ < text_.size() && text_[at_] == wanted;
    at_ += there ? 1u : 0u;
    return there;
  }
  bool expect(char wanted) { return take(wanted) || unexpected_byte(wanted); }
  /// Whether the next value starts with this byte.
  [[nodiscard]] bool next_is(char first) {
    skip_space();
    return at_ < text_.size() && text_[at_] == first;
  }
  bool string(JsonString& out);
  /// Digits only: no sign, fraction, exponent or leading zero; at most 64 bits.
  bool unsigned_integer(std::uint64_t& out);
  bool number(double& out);
  bool null();
  /// Any value; its text through `raw` if wanted. A number above every double is a fault, as it is
  /// to the readers of other languages.
  bool skip_value(std::string_view* raw = nullptr);
  /// From now on skip_value takes what Python's json writes for numbers that are not finite:
  /// Infinity, -Infinity, NaN.
  void allow_constants(bool allowed) { constants_ = allowed; }
  /// Only white space is left.
  bool end();

  template <class OnMember>
  bool object(OnMember&& on_member) {
    if (!enter('{', "an object")) {
      return false;
    }
    if (!take('}')) {
      do {
        JsonString key;
        if (!string(key) || !expect(':') || !on_member(key)) {
          return false;
        }
      } while (take(','));
      if (!take('}')) {
        return unexpected("',' or '}'");
      }
    }
    --depth_;
    return true;
  }

  template <class OnItem>
  bool array(OnItem&& on_item) {
    if (!enter('[', "an array")) {
      return false;
    }
    if (!take(']')) {
      do {
        if (!on_item()) {
          return false;
        }
      } while (take(','));
      if (!take(']')) {
        return unexpected("',' or ']'");
      }
    }
    --depth_;
    return true;
  }

 private:
  static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
  bool enter(char bracket, const char* wanted);
  bool unexpected(const std::string& wanted);
  bool unexpected_byte(char wanted);
  bool escape();
  bool hex4(unsigned& out);
  bool digits();
  bool number_text(std::string_view& out);
  bool unread_number();
  bool literal(std::string_view word);
  bool constant();
  bool nested();

  std::string_view text_;
  std::size_t at_ = 0;
  int depth_ = 0;
  bool constants_ = false;
  bool failed_ = false;
  JsonFault fault_;
};

}  // namespace bv::io
