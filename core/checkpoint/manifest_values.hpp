#pragma once
// The values that a manifest is made of, read one by one with a fault at their place: numbers in a
// range, choices, fingerprints, objects whose keys are known.

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/text.hpp"
#include "core/io/carry_file.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/json_cursor.hpp"
#include "core/io/shard_index.hpp"

namespace bv::checkpoint {

/// One key of an object, and what reads its value.
struct Field {
  std::string_view key;
  bool needed = true;
  std::function<bool()> read;
};

/// Each reader returns false behind a fault; `error` then says which.
class ManifestValues {
 public:
  ManifestValues(std::string_view text, const std::string& file)
      : text_(text), file_(file), cursor_(text) {}

 protected:
  static constexpr const char* kAgain =
      "convert the HF directory again; a manifest is not edited by hand";
  static constexpr std::size_t kDigestDigits = 32;

  bool fault(std::size_t position, std::string what) {
    return cursor_.fault_at(position, std::move(what));
  }
  /// Where the next value begins.
  std::size_t here() {
    cursor_.skip_space();
    return cursor_.position();
  }

  bool text(std::string& out) {
    io::JsonString value;
    if (!cursor_.string(value)) {
      return false;
    }
    out = io::unescaped(value);
    return true;
  }

  bool number(std::int64_t& out, std::int64_t least, std::int64_t most) {
    const std::size_t at = here();
    std::uint64_t value = 0;
    if (!cursor_.unsigned_integer(value)) {
      return false;
    }
    if (value > static_cast<std::uint64_t>(most) || static_cast<std::int64_t>(value) < least) {
      return fault(at, fmt::format("{} is not a number from {} to {}", value, least, most));
    }
    out = static_cast<std::int64_t>(value);
    return true;
  }

  bool truth(bool& out) {
    const std::size_t at = here();
    std::string_view raw;
    if (!cursor_.skip_value(&raw)) {
      return false;
    }
    out = raw == "true";
    return raw == "true" || raw == "false" || fault(at, "expected true or false");
  }

  bool choice(std::string& out, const std::vector<std::string>& choices) {
    const std::size_t at = here();
    if (!text(out)) {
      return false;
    }
    return std::find(choices.begin(), choices.end(), out) != choices.end() ||
           fault(at, fmt::format("{} is none of {}", io::in_quotes(out), join(choices, ", ")));
  }

  bool digest(std::string& out) {
    const std::size_t at = here();
    if (!text(out)) {
      return false;
    }
    const bool right =
        out.size() == kDigestDigits && out.find_first_not_of("0123456789abcdef") == out.npos;
    return right ||
           fault(at, fmt::format("{} is not a fingerprint of 32 hex digits", io::in_quotes(out)));
  }

  /// [bytes, fingerprint]
  bool print(io::FilePrint& out) {
    const std::size_t at = here();
    std::size_t count = 0;
    const bool read = cursor_.array([&] {
      ++count;
      return count == 1   ? cursor_.unsigned_integer(out.bytes)
             : count == 2 ? digest(out.digest)
                          : fault(here(), "expected the end of the list");
    });
    return read && (count == 2 || fault(at, "expected [bytes, fingerprint]"));
  }

  // Objects.

  bool twice(const std::string& key, std::size_t position) {
    const io::LineColumn place = io::line_column(text_, position);
    error_ = fail(Code::DuplicateKey,
                  fmt::format("{} appears twice in one object of {}", io::in_quotes(key), file_))
                 .at(fmt::format("{}:{}:{}", file_, place.line, place.column))
                 .advise(kAgain);
    return fault(position, "a key that appears twice");
  }

  /// An object whose keys are data: each once.
  template <class OnEntry>
  bool entries(OnEntry&& on_entry) {
    std::set<std::string> seen;
    return cursor_.object([&](const io::JsonString& key) {
      std::string name = io::unescaped(key);
      return seen.insert(name).second ? on_entry(std::move(name), key.position)
                                      : twice(name, key.position);
    });
  }

  /// An object whose keys are these: each at most once, the needed ones there.
  bool fields(std::string_view where, const std::vector<Field>& list) {
    const std::size_t begin = here();
    std::set<std::string> seen;
    const bool read = entries([&](const std::string& key, std::size_t position) {
      const auto field = std::find_if(list.begin(), list.end(),
                                      [&key](const Field& one) { return one.key == key; });
      seen.insert(key);
      return field != list.end() ? field->read() : unknown(key, where, position, list);
    });
    if (!read) {
      return false;
    }
    for (const Field& field : list) {
      if (field.needed && !seen.contains(std::string(field.key))) {
        return fault(begin, fmt::format("{} has no key {}", where, field.key));
      }
    }
    return true;
  }

  bool unknown(const std::string& key, std::string_view where, std::size_t position,
               const std::vector<Field>& list) {
    std::vector<std::string> names;
    for (const Field& field : list) {
      names.emplace_back(field.key);
    }
    const auto near = nearest(key, names);
    return fault(position, fmt::format("{} is not a key of {}{}", io::in_quotes(key), where,
                                       near ? fmt::format(": did you mean {}?", *near) : ""));
  }

  /// What the last fault was.
  [[nodiscard]] Error syntax_error() const {
    const io::JsonFault& found = cursor_.fault();
    const io::LineColumn place = io::line_column(text_, found.position);
    return fail(Code::ManifestInvalid, fmt::format("{} is not valid: line {}, column {}: {}", file_,
                                                   place.line, place.column, found.what))
        .at(fmt::format("{}:{}:{}", file_, place.line, place.column))
        .advise(kAgain);
  }

  std::string_view text_;
  const std::string& file_;
  io::JsonCursor cursor_;
  std::optional<Error> error_;  // in place of a fault of syntax
};

}  // namespace bv::checkpoint
