#pragma once
// TOML as plain values that know where they were written. The only file that sees toml++.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/base/result.hpp"

namespace bv::toml {

struct Date {
  int year = 0, month = 0, day = 0;
  auto operator<=>(const Date&) const = default;
};

/// Lines and columns count from 1.
struct Place {
  int line = 1, column = 1;
  auto operator<=>(const Place&) const = default;
};

struct Entry;
struct Value;
using Array = std::vector<Value>;
using Table = std::vector<Entry>;  // in the order of the file

struct Value {
  /// monostate: a time, or a date with a time.
  std::variant<std::monostate, std::string, std::int64_t, double, bool, Date, Array, Table> data;
  Place at;

  template <class T>
  [[nodiscard]] const T* as() const {
    return std::get_if<T>(&data);
  }
  /// "a string", "a whole number", "a list", ...
  [[nodiscard]] std::string_view kind() const;
};

struct Entry {
  std::string key;
  Place at;  // of the key
  Value value;
};

/// "bridge-verify.toml:3:5"
[[nodiscard]] std::string place_text(std::string_view file, Place place);

/// The table of a whole file. Errors: `code` with file, line and column and what the parser
/// expected there.
[[nodiscard]] Result<Table> parse(std::string_view text, std::string_view file, Code code);

}  // namespace bv::toml
