#pragma once
// The forms of a report: one row a format, one function from a run to text. A new format is one
// file and one row.

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"
#include "core/verdict/verdict.hpp"
#include "reports/style.hpp"

namespace bv::reports {

struct Format {
  std::string_view name;       // "json"
  std::string_view file;       // what it is called in a folder
  bool in_folder = false;      // --out DIR writes it
  bool in_repository = false;  // files are named below the root of a checkout, as forges ask for
  std::string (*render)(const Run&, const TextStyle&) = nullptr;  // the style is for text alone
};
[[nodiscard]] std::span<const Format> formats();
/// nullptr when no format has this name.
[[nodiscard]] const Format* find_format(std::string_view name);

/// One --report FORMAT[=FILE].
struct Wanted {
  const Format* format = nullptr;
  std::string file;  // "-" is stdout
};
/// Without a file the format's own name, in the working folder. Errors: BadValue with the nearest
/// format; Conflict when two reports go to one file.
[[nodiscard]] Result<std::vector<Wanted>> wanted_reports(std::span<const std::string> texts);

}  // namespace bv::reports
