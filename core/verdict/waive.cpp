#include "core/verdict/waive.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <functional>
#include <iterator>
#include <set>

#include "core/base/text.hpp"

namespace bv {
namespace {

constexpr int kDaysAheadMax = 400;
constexpr int kDaysUsual = 90;  // that are proposed
constexpr std::array<std::string_view, 7> kKeys = {"code",  "subject", "layouts", "reason",
                                                   "issue", "expires", "owner"};

/// Days since 1970-01-01.
std::int64_t days(toml::Date date) {
  const std::chrono::year_month_day day{std::chrono::year(date.year),
                                        std::chrono::month(static_cast<unsigned>(date.month)),
                                        std::chrono::day(static_cast<unsigned>(date.day))};
  return std::chrono::sys_days(day).time_since_epoch().count();
}

toml::Date later(toml::Date date, int by) {
  const std::chrono::year_month_day day(std::chrono::sys_days(std::chrono::days(days(date) + by)));
  return {static_cast<int>(day.year()), static_cast<int>(static_cast<unsigned>(day.month())),
          static_cast<int>(static_cast<unsigned>(day.day()))};
}

/// The date that a text begins with; "" when it is none.
std::string written_date(const std::string* text) {
  const toml::Date date = text == nullptr ? toml::Date{} : date_of(*text);
  const std::chrono::year_month_day day{std::chrono::year(date.year),
                                        std::chrono::month(static_cast<unsigned>(date.month)),
                                        std::chrono::day(static_cast<unsigned>(date.day))};
  return date.year > 0 && day.ok() ? date_text(date) : "";
}

/// Fewer do not name a tensor: "*e*" takes them all.
constexpr std::ptrdiff_t kPlainLeast = 3;
/// A subject that takes every name of a run with so many names or more covers everything.
constexpr std::size_t kNamesLeast = 6;

/// The longest run of characters that are the same in every name that the glob takes.
std::ptrdiff_t plain_characters(std::string_view glob) {
  std::ptrdiff_t longest = 0;
  std::ptrdiff_t here = 0;
  for (const char c : glob) {
    here = c == '*' || c == '?' ? 0 : here + (c == '.' ? 0 : 1);
    longest = std::max(longest, here);
  }
  return longest;
}

/// One [[waiver]] table.
class Entry {
 public:
  Entry(const toml::Table& table, toml::Place at, std::string_view file, toml::Date today)
      : table_(table), file_(file), today_(today) {
    out_.place = toml::place_text(file, at);
  }

  Result<Waiver> read() {
    for (const toml::Entry& entry : table_) {
      if (std::find(kKeys.begin(), kKeys.end(), entry.key) == kKeys.end()) {
        const std::vector<std::string> keys(kKeys.begin(), kKeys.end());
        const auto near = nearest(entry.key, keys);
        return bad(fmt::format("\"{}\" is not a key of a waiver", escaped(entry.key)), entry.at)
            .advise(near ? fmt::format("did you mean {}?", *near) : "keys: " + join(keys, " "));
      }
    }
    BV_TRY(code, text("code"));
    const auto known = code_from_text(code);
    if (!known || label(*known) != code) {
      return bad(fmt::format("\"{}\" is not a code", escaped(code)), place_of("code"))
          .advise(fmt::format("write a code as messages show it: code = \"{}\"",
                              known ? label(*known) : "BV3004"));
    }
    if (*known == Code::Assertion || *known == Code::SelfTestFailed) {
      return bad(fmt::format("{} is a fault of bridge-verify, which is never waived", code),
                 place_of("code"))
          .advise("report it, and remove the waiver");
    }
    out_.code = *known;
    BV_CHECK(read_subject());
    BV_TRY(reason, text("reason"));
    out_.reason = reason;
    BV_CHECK(read_issue());
    BV_CHECK(read_expires());
    if (find("layouts") != nullptr) {
      BV_TRY(layouts, text("layouts"));
      out_.layouts = layouts;
    }
    if (find("owner") != nullptr) {
      BV_TRY(owner, text("owner"));
      out_.owner = owner;
    }
    return std::move(out_);
  }

 private:
  [[nodiscard]] const toml::Entry* find(std::string_view key) const {
    const auto found = std::find_if(table_.begin(), table_.end(),
                                    [key](const toml::Entry& one) { return one.key == key; });
    return found == table_.end() ? nullptr : &*found;
  }
  [[nodiscard]] toml::Place place_of(std::string_view key) const { return find(key)->value.at; }
  [[nodiscard]] Error bad(std::string message, toml::Place at) const {
    return fail(Code::WaiversInvalid, std::move(message)).at(toml::place_text(file_, at));
  }

  Result<std::string> text(std::string_view key) {
    const toml::Entry* entry = find(key);
    if (entry == nullptr) {
      return fail(Code::WaiversInvalid, fmt::format("the waiver has no {}", key))
          .at(out_.place)
          .advise(fmt::format("add {} = \"...\"", key));
    }
    const auto* value = entry->value.as<std::string>();
    if (value == nullptr || value->empty()) {
      return bad(fmt::format("{} is not a text", key), entry->value.at)
          .pair(value == nullptr ? std::string(entry->value.kind()) : "\"\"", "a string")
          .advise(fmt::format("write {} = \"...\"", key));
    }
    return *value;
  }

  Status read_subject() {
    BV_TRY(subject, text("subject"));
    if (plain_characters(subject) < kPlainLeast) {
      return fail(Code::WaiverTooBroad,
                  fmt::format("the subject \"{}\" covers everything", escaped(subject)))
          .at(toml::place_text(file_, place_of("subject")))
          .advise("name the tensors that the issue is about");
    }
    out_.subject = subject;
    return Done{};
  }

  Status read_issue() {
    BV_TRY(issue, text("issue"));
    if (!issue.starts_with("https://") && !issue.starts_with("http://")) {
      return bad(fmt::format("the issue \"{}\" is not a link", escaped(issue)), place_of("issue"))
          .pair(escaped(issue), "https://...")
          .advise("link the issue that tracks the fault");
    }
    out_.issue = issue;
    return Done{};
  }

  Status read_expires() {
    const toml::Entry* entry = find("expires");
    const auto* date = entry == nullptr ? nullptr : entry->value.as<toml::Date>();
    const std::string usual = date_text(later(today_, kDaysUsual));
    if (entry == nullptr) {
      return fail(Code::WaiversInvalid, "the waiver has no last day")
          .at(out_.place)
          .pair("nothing", "a date")
          .advise(fmt::format("add expires = {}, or another day at most {} days ahead", usual,
                              kDaysAheadMax));
    }
    if (date == nullptr) {
      const auto* text = entry->value.as<std::string>();
      const std::string written = written_date(text);
      return bad("expires is not a date", entry->value.at)
          .pair(text == nullptr ? std::string(entry->value.kind())
                                : fmt::format("a string, \"{}\"", escaped(*text)),
                "a date, without quotes and without a time")
          .advise("write expires = " + (written.empty() ? usual : written));
    }
    if (days(*date) - days(today_) > kDaysAheadMax) {
      return bad(fmt::format("{} is more than {} days ahead", date_text(*date), kDaysAheadMax),
                 entry->value.at)
          .advise(fmt::format("choose a day up to {}; a waiver is renewed in a review",
                              date_text(later(today_, kDaysAheadMax))));
    }
    out_.expires = *date;
    return Done{};
  }

  const toml::Table& table_;
  std::string_view file_;
  toml::Date today_;
  Waiver out_;
};

bool is_open(const Verdict& verdict) {
  return verdict.outcome == Outcome::Refuted || verdict.outcome == Outcome::Inconclusive ||
         verdict.outcome == Outcome::Unsupported;
}

/// Which subjects of a verdict a waiver names; one of a single subject goes by its names on either
/// side.
std::vector<bool> named_by(const Waiver& waiver, const Verdict& verdict) {
  const auto names = [&](const std::string& name) { return glob_match(waiver.subject, name); };
  if (verdict.code != waiver.code || !glob_match(waiver.layouts, verdict.layout)) {
    return std::vector<bool>(std::max<std::size_t>(1, verdict.subjects.size()), false);
  }
  if (verdict.subjects.empty()) {
    return {names(verdict.megatron) || std::any_of(verdict.hf.begin(), verdict.hf.end(), names)};
  }
  std::vector<bool> out;
  std::transform(verdict.subjects.begin(), verdict.subjects.end(), std::back_inserter(out), names);
  return out;
}

/// Waives a verdict when every subject of it is named by a waiver that holds; counts in `rows` the
/// waivers that name one.
void waive_one(const std::vector<Waiver>& waivers, const std::vector<std::size_t>& broad,
               std::vector<WaiverRow>& rows, Verdict& verdict) {
  std::vector<bool> covered(std::max<std::size_t>(1, verdict.subjects.size()), false);
  std::string place;
  for (std::size_t w = 0; w < waivers.size(); ++w) {
    const std::vector<bool> named = named_by(waivers[w], verdict);
    const bool any = std::find(named.begin(), named.end(), true) != named.end();
    rows[w].matched += any ? 1 : 0;
    if (any && !rows[w].expired && broad[w] == 0) {
      place = place.empty() ? waivers[w].place : place;
      std::transform(covered.begin(), covered.end(), named.begin(), covered.begin(),
                     std::logical_or<>());
    }
  }
  const auto left = std::find(covered.begin(), covered.end(), false);
  if (left == covered.end()) {
    verdict.outcome = Outcome::Waived;
    verdict.evidence.waived = true;
    verdict.waiver = place;
  } else if (!place.empty()) {
    const auto waived = std::count(covered.begin(), covered.end(), true);
    verdict.facts.push_back(fmt::format(
        "waived for {} of these {} by {}, and not for {}", waived, covered.size(), place,
        readable(verdict.subjects[static_cast<std::size_t>(left - covered.begin())])));
  }
}

/// The numbers in a name say which layer: they tell nothing of what a waiver is about.
std::string without_numbers(std::string name) {
  std::erase_if(name, [](char c) { return c >= '0' && c <= '9'; });
  return name;
}

/// How many names the verdicts have, when the waiver takes every one of them and right ones too; 0
/// when it leaves one, or where only faults are listed.
std::size_t covered_names(const Waiver& waiver, const Run& run) {
  std::set<std::string> all;
  bool right = false;
  const auto takes = [&](const std::string& name) { return glob_match(waiver.subject, name); };
  for (const Verdict& verdict : run.verdicts) {
    std::vector<std::string> names = verdict.subjects;
    if (names.empty()) {
      const bool taken =
          takes(verdict.megatron) || std::any_of(verdict.hf.begin(), verdict.hf.end(), takes);
      const std::string& name =
          verdict.megatron.empty() && !verdict.hf.empty() ? verdict.hf.front() : verdict.megatron;
      if (name.empty()) {
        continue;
      }
      if (!taken) {
        return 0;
      }
      all.insert(without_numbers(name));
    }
    for (const std::string& name : names) {
      if (!takes(name)) {
        return 0;
      }
      all.insert(without_numbers(name));
    }
    right = right || !is_open(verdict);
  }
  return right ? all.size() : 0;
}

Error about_waiver(Code code, const Waiver& waiver, std::string what) {
  return fail(code,
              fmt::format("the waiver of {} for {} {}", label(waiver.code), waiver.subject, what))
      .at(waiver.place)
      .fact(waiver.issue);
}

}  // namespace

std::string date_text(toml::Date date) {
  return fmt::format("{:04}-{:02}-{:02}", date.year, date.month, date.day);
}

toml::Date date_of(std::string_view time) {
  toml::Date out;
  const auto part = [&](std::size_t at, std::size_t length, int& into) {
    return time.size() >= at + length &&
           std::from_chars(time.data() + at, time.data() + at + length, into).ptr ==
               time.data() + at + length;
  };
  return part(0, 4, out.year) && part(5, 2, out.month) && part(8, 2, out.day) ? out : toml::Date{};
}

Result<std::vector<Waiver>> read_waivers(std::string_view text, std::string_view file,
                                         toml::Date today) {
  BV_TRY(table, toml::parse(text, file, Code::WaiversInvalid));
  std::vector<Waiver> out;
  for (const toml::Entry& entry : table) {
    const auto* list = entry.value.as<toml::Array>();
    if (entry.key == "waiver" && list == nullptr) {
      return fail(Code::WaiversInvalid,
                  fmt::format("waiver is {}, and not a list of tables", entry.value.kind()))
          .at(toml::place_text(file, entry.at))
          .pair(std::string(entry.value.kind()), "a list of tables")
          .advise("write each waiver as a table: [[waiver]]");
    }
    if (list == nullptr || entry.key != "waiver") {
      return fail(Code::WaiversInvalid,
                  fmt::format("\"{}\" does not belong in a waivers file", escaped(entry.key)))
          .at(toml::place_text(file, entry.at))
          .advise("write each waiver as a table: [[waiver]]");
    }
    for (const toml::Value& value : *list) {
      const auto* waiver = value.as<toml::Table>();
      if (waiver == nullptr) {
        return fail(Code::WaiversInvalid, "a waiver is not a table")
            .at(toml::place_text(file, value.at))
            .pair(std::string(value.kind()), "a table")
            .advise("write each waiver as a table: [[waiver]]");
      }
      BV_TRY(read, Entry(*waiver, value.at, file, today).read());
      out.push_back(std::move(read));
    }
  }
  return out;
}

namespace {

/// The next step of a run is not to repeat what was waived.
void choose_next(Run& run) {
  const auto replays = [&](Outcome outcome) {
    return std::find_if(run.verdicts.begin(), run.verdicts.end(), [&](const Verdict& one) {
      return one.outcome == outcome && (outcome == Outcome::Refuted || one.replay == run.next);
    });
  };
  if (run.next.empty() || replays(Outcome::Waived) == run.verdicts.end()) {
    return;
  }
  const auto refuted = replays(Outcome::Refuted);
  run.next = refuted == run.verdicts.end() ? "" : refuted->replay;
  run.next_note = run.next.empty() ? "" : run.next_note;
}

}  // namespace

Run waive(Run run, const std::vector<Waiver>& waivers, toml::Date today) {
  std::vector<WaiverRow> rows;
  for (const Waiver& waiver : waivers) {
    rows.push_back({label(waiver.code), waiver.subject, waiver.layouts, waiver.reason, waiver.issue,
                    waiver.owner, date_text(waiver.expires), waiver.place, 0,
                    waiver.expires < today});
  }
  std::vector<std::size_t> broad;  // how many names, 0: not too broad
  for (const Waiver& waiver : waivers) {
    const std::size_t names = covered_names(waiver, run);
    broad.push_back(names < kNamesLeast ? 0 : names);
  }
  for (Verdict& verdict : run.verdicts) {
    if (is_open(verdict)) {
      waive_one(waivers, broad, rows, verdict);
    }
  }
  for (std::size_t w = 0; w < waivers.size(); ++w) {
    WaiverRow& row = rows[w];
    if (broad[w] > 0 && row.matched > 0) {
      run.warnings.push_back(
          about_waiver(Code::WaiverTooBroad, waivers[w],
                       fmt::format("takes each of the {} names of this run, right ones too, and "
                                   "waives nothing",
                                   broad[w]))
              .advise("name the tensors that the issue is about"));
      row.matched = 0;
    } else if (row.expired && row.matched > 0) {
      run.warnings.push_back(
          about_waiver(Code::WaiverExpired, waivers[w], "expired on " + row.expires)
              .advise(fmt::format("fix the fault, or renew the waiver in a review: "
                                  "expires = {}",
                                  date_text(later(today, kDaysUsual)))));
    } else if (row.matched == 0 && !run.partial && !run.stopped && run.input_errors.empty()) {
      run.warnings.push_back(about_waiver(Code::WaiverUnused, waivers[w], "matches nothing")
                                 .advise("remove it, or correct its subject"));
    }
  }
  run.waivers.insert(run.waivers.end(), rows.begin(), rows.end());
  choose_next(run);
  return run;
}

}  // namespace bv
