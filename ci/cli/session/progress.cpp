#include "ci/cli/session/progress.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/base/arith.hpp"
#include "core/base/json_text.hpp"
#include "core/base/text.hpp"
#include "reports/printable.hpp"

namespace bv::cli {
namespace {

constexpr double kWindowSeconds = 5.0;
constexpr double kEtaAfterSeconds = 3.0;
constexpr double kRedrawSeconds = 0.1;
constexpr double kPlainSeconds = 30.0;
constexpr double kJsonSeconds = 1.0;
constexpr double kSilentSeconds = 2.0;  // a log need not hear of less
constexpr std::size_t kBarMax = 28;
constexpr std::size_t kBarMin = 8;

double fraction(const ProgressState& state) {
  if (state.total_bytes > 0) {
    return std::min(1.0,
                    static_cast<double>(state.done_bytes) / static_cast<double>(state.total_bytes));
  }
  return state.total > 0
             ? std::min(1.0, static_cast<double>(state.done) / static_cast<double>(state.total))
             : 0.0;
}

std::string bar(double share, std::size_t width) {
  const auto filled = static_cast<std::size_t>(share * static_cast<double>(width));
  std::string out(width, ' ');
  std::fill_n(out.begin(), static_cast<std::ptrdiff_t>(filled), '=');
  if (filled < width) {
    out[filled] = '>';
  }
  return "[" + out + "]";
}

/// "34.5/71.9 GB": both in the unit of the total.
std::string share_of_bytes(const ProgressState& state, std::string_view of) {
  const std::string total = human_bytes(state.total_bytes);
  const std::size_t blank = total.find(' ');
  const double whole = std::max(1.0, static_cast<double>(state.total_bytes));
  double unit = 1;
  while (whole / unit >= 1000.0 && unit < 1e12) {
    unit *= 1000;
  }
  const double done = static_cast<double>(state.done_bytes) / unit;
  return unit > 1 ? fmt::format("{:.1f}{}{}", done, of, total)
                  : fmt::format("{}{}{}{}", state.done_bytes, of, state.total_bytes,
                                total.substr(std::min(blank, total.size())));
}

/// What a phase counts.
std::string_view counted_in(std::string_view phase) {
  return phase == "mutants"      ? "places"
         : phase == "registries" ? "rows"
         : phase == "forward"    ? "layouts"
                                 : "tensors";
}

}  // namespace

std::string eta_text(double seconds) {
  auto whole = static_cast<std::int64_t>(std::ceil(std::clamp(seconds, 0.0, 359999.0)));
  if (whole > 60) {
    whole = div_ceil(whole, 5) * 5;
  }
  const std::int64_t hours = whole / 3600;
  const std::int64_t minutes = whole / 60 % 60;
  return hours > 0 ? fmt::format("{}:{:02}:{:02}", hours, minutes, whole % 60)
                   : fmt::format("{}:{:02}", minutes, whole % 60);
}

std::string progress_line(const ProgressState& state, int width, bool ascii) {
  const auto room = static_cast<std::size_t>(std::max(width, 20));
  const double share = fraction(state);
  std::vector<std::string> parts;
  if (state.total_bytes > 0) {
    parts.push_back(share_of_bytes(state, "/"));
  }
  parts.push_back(fmt::format("{}/{} {}", thousands(state.done), thousands(state.total),
                              counted_in(state.phase)));
  if (state.bytes_per_second > 0) {
    parts.push_back(human_bytes(static_cast<std::uint64_t>(state.bytes_per_second)) + "/s");
  }
  if (state.eta_seconds) {
    parts.push_back("ETA " + eta_text(*state.eta_seconds));
  }
  const std::string head = fmt::format("{:<10}", state.phase);
  const std::string percent = fmt::format("{:>2} %", static_cast<int>(share * 100));
  const auto rest = [&] {
    std::size_t columns = percent.size();
    for (const std::string& part : parts) {
      columns += 2 + part.size();
    }
    return columns;
  };
  while (!parts.empty() && head.size() + rest() > room) {
    parts.pop_back();
  }
  const std::size_t free = room - std::min(room, head.size() + rest());
  std::string out = head;
  if (free >= kBarMin + 3) {
    out += bar(share, std::min(kBarMax, free - 3)) + " ";
  }
  out += percent;
  for (const std::string& part : parts) {
    out += "  " + part;
  }
  const std::string current = reports::printable(state.current, ascii);
  if (!current.empty() && out.size() + 14 < room) {
    out += "  " + shortened(current, room - out.size() - 2, true);
  }
  return out.size() > room ? out.substr(0, room) : out;
}

std::string progress_words(const ProgressState& state) {
  std::string out = state.phase + ":";
  if (state.total_bytes > 0) {
    out += " " + share_of_bytes(state, " of ") + ",";
  }
  out += fmt::format(" {} of {} {}", thousands(state.done), thousands(state.total),
                     counted_in(state.phase));
  if (state.bytes_per_second > 0) {
    out += fmt::format(", {}/s", human_bytes(static_cast<std::uint64_t>(state.bytes_per_second)));
  }
  if (state.eta_seconds && *state.eta_seconds > 0) {
    out += ", " + eta_text(*state.eta_seconds) + " left";
  }
  return out;
}

std::string progress_json(const ProgressState& state) {
  const nlohmann::ordered_json out = {
      {"phase", state.phase},
      {"done_bytes", state.done_bytes},
      {"total_bytes", state.total_bytes},
      {"done", state.done},
      {"total", state.total},
      {"bytes_per_s", static_cast<std::uint64_t>(std::max(state.bytes_per_second, 0.0))},
      {"eta_s", state.eta_seconds ? nlohmann::ordered_json(std::ceil(*state.eta_seconds))
                                  : nlohmann::ordered_json(nullptr)},
      {"current", state.current}};
  return json_text(out, -1);
}

ProgressMode progress_mode(std::string_view flag, bool terminal, int verbosity) {
  if (flag == "json") {
    return ProgressMode::Json;
  }
  if (flag == "always") {
    return ProgressMode::Line;
  }
  if (flag == "never" || verbosity < 0) {
    return ProgressMode::Off;
  }
  return terminal ? ProgressMode::Line : ProgressMode::Plain;
}

void Progress::start(std::string phase, std::uint64_t total_bytes, std::int64_t total) {
  const std::lock_guard lock(mutex_);
  const double now = clock_();
  state_ = {};
  state_.phase = std::move(phase);
  state_.total_bytes = total_bytes;
  state_.total = total;
  recent_ = {{now, 0}};
  began_ = now;
  running_ = true;
  said_ = false;
  show(now, true);
}

void Progress::add(std::uint64_t bytes, std::int64_t tensors, std::string_view current) {
  const std::lock_guard lock(mutex_);
  if (!running_) {
    return;
  }
  const double now = clock_();
  state_.done_bytes += bytes;
  state_.done += tensors;
  state_.current = current;
  if (now - recent_.back().first < kRedrawSeconds / 2 && recent_.size() > 1) {
    recent_.back().second = state_.done_bytes;  // bounded: at most 20 entries a second
  } else {
    recent_.emplace_back(now, state_.done_bytes);
  }
  while (recent_.size() > 2 && recent_[1].first <= now - kWindowSeconds) {
    recent_.pop_front();
  }
  show(now, false);
}

void Progress::tick() {
  const std::lock_guard lock(mutex_);
  if (running_) {
    show(clock_(), false);
  }
}

void Progress::show_status() {
  const std::lock_guard lock(mutex_);
  if (line_on_screen_) {
    sink_("\r\x1b[K");
    line_on_screen_ = false;
  }
  sink_(progress_line(state_at(clock_()), width(), look_.ascii) + "\n");
}

void Progress::finish() {
  const std::lock_guard lock(mutex_);
  if (!running_) {
    return;
  }
  running_ = false;
  if (line_on_screen_) {
    sink_("\r\x1b[K");
    line_on_screen_ = false;
  } else {
    show(clock_(), true);
  }
}

ProgressState Progress::state() const {
  const std::lock_guard lock(mutex_);
  return state_at(clock_());
}

ProgressState Progress::state_at(double now) const {
  ProgressState out = state_;
  const double span = recent_.empty() ? 0 : now - recent_.front().first;
  if (span > 0) {
    out.bytes_per_second = static_cast<double>(state_.done_bytes - recent_.front().second) / span;
  }
  if (now - began_ >= kEtaAfterSeconds && out.bytes_per_second > 0 &&
      state_.total_bytes >= state_.done_bytes) {
    out.eta_seconds =
        static_cast<double>(state_.total_bytes - state_.done_bytes) / out.bytes_per_second;
  }
  return out;
}

int Progress::width() const {
  return look_.width ? look_.width() : 100;
}

/// When the phase last said something: at first, when it began.
double Progress::said_at() const {
  return said_ ? shown_ : began_;
}

void Progress::show(double now, bool forced) {
  const auto due = [&](double period) { return forced || now - shown_ >= period; };
  switch (look_.mode) {
    case ProgressMode::Off:
      return;
    case ProgressMode::Line:
      if (due(kRedrawSeconds) && running_) {
        sink_("\r" + progress_line(state_at(now), width() - 1, look_.ascii) + "\x1b[K");
        line_on_screen_ = true;
        shown_ = now;
      }
      return;
    case ProgressMode::Plain:
      if (!running_ ? said_ : now - said_at() >= (said_ ? kPlainSeconds : kSilentSeconds)) {
        sink_(progress_words(state_at(now)) + "\n");
        shown_ = now;
        said_ = true;
      }
      return;
    case ProgressMode::Json:
      if (due(kJsonSeconds)) {
        sink_(progress_json(state_at(now)) + "\n");
        shown_ = now;
      }
      return;
  }
}

}  // namespace bv::cli
