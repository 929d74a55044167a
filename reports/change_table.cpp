#include "reports/change_table.hpp"

#include <fmt/format.h>

#include <map>

#include "core/base/text.hpp"
#include "core/verdict/changes.hpp"
#include "reports/printable.hpp"

namespace bv::reports {
namespace {

constexpr std::size_t kChangesShownMax = 20;

std::string outcomes_text(const Changed& one) {
  const auto word = [](const Verdict* verdict) {
    return verdict == nullptr ? std::string("nothing") : std::string(name(verdict->outcome));
  };
  return word(one.before) + " -> " + word(one.after);
}

}  // namespace

std::string render_changes(const Run& before, const Run& after, const TextStyle& style) {
  std::map<Change, std::vector<Changed>> by_change;
  for (Changed& one : changes(before, after)) {
    by_change[one.change].push_back(std::move(one));
  }
  std::string out = fmt::format("before   {} of {}\nafter    {} of {}\n", conclude(before).word,
                                printable(before.model_ref, style.ascii), conclude(after).word,
                                printable(after.model_ref, style.ascii));
  std::size_t unchanged = 0;
  for (const auto& [change, rows] : by_change) {
    if (change == Change::Unchanged) {
      unchanged = rows.size();
      continue;
    }
    out += fmt::format("\n{} ({})\n", name(change), rows.size());
    for (std::size_t i = 0; i < rows.size() && i < kChangesShownMax; ++i) {
      out += fmt::format("  {}   {}\n", printable(rows[i].id, style.ascii), outcomes_text(rows[i]));
    }
    if (rows.size() > kChangesShownMax) {
      out += fmt::format("  and {} more\n", rows.size() - kChangesShownMax);
    }
  }
  return out + fmt::format("\nunchanged ({})\n", unchanged);
}

}  // namespace bv::reports
