#pragma once
// The progress line: stderr only, thread-safe, at most ten redraws a second.

#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace bv::cli {

/// A moment of one phase.
struct ProgressState {
  std::string phase;
  std::uint64_t done_bytes = 0, total_bytes = 0;
  std::int64_t done = 0, total = 0;  // tensors; places of mutants, layouts of forward
  double bytes_per_second = 0;
  std::optional<double> eta_seconds;  // unset in the first 3 s and without a rate
  std::string current;                // the tensor at hand
};

/// "bytes     [====>   ] 48 %  34.5/71.9 GB  502/1,045 tensors  1.42 GB/s  ETA 0:26  layers.17..."
/// in at most `width` columns: the name at the end gives way first, then the bar, then the counts
/// from the right.
[[nodiscard]] std::string progress_line(const ProgressState& state, int width, bool ascii);
/// The same in words, for a log: "bytes: 34.5 of 71.9 GB, 502 of 1,045 tensors, 1.42 GB/s".
[[nodiscard]] std::string progress_words(const ProgressState& state);
/// One object: phase, done_bytes, total_bytes, done, total, bytes_per_s, eta_s, current.
[[nodiscard]] std::string progress_json(const ProgressState& state);
/// "0:26", "1:05:00"; above a minute rounded up to 5 s.
[[nodiscard]] std::string eta_text(double seconds);

enum class ProgressMode { Off, Line, Plain, Json };
/// --progress and whether stderr is a terminal: auto is Line on one and Plain off it; -q silences
/// all but `always`.
[[nodiscard]] ProgressMode progress_mode(std::string_view flag, bool terminal, int verbosity);

/// Collects what worker threads finish and shows it. Line: redrawn in place, erased at the end.
/// Plain: words at the start, every 30 s and at the end; a phase of less than 2 s says nothing.
/// Json: one object a second. The rate is an average over the last 5 s.
class Progress {
 public:
  using Clock = std::function<double()>;               // seconds, monotonic
  using Sink = std::function<void(std::string_view)>;  // stderr

  struct Look {
    ProgressMode mode = ProgressMode::Off;
    std::function<int()> width = nullptr;  // columns at this moment; 100 without
    bool ascii = false;
  };

  Progress(Look look, Clock clock, Sink sink)
      : look_(std::move(look)), clock_(std::move(clock)), sink_(std::move(sink)) {}
  ~Progress() { finish(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void start(std::string phase, std::uint64_t total_bytes, std::int64_t total);
  /// A tensor or a piece of one is done.
  void add(std::uint64_t bytes, std::int64_t tensors, std::string_view current);
  /// Shows the state when it is due although nothing was added: nothing is silent for longer than 2
  /// s.
  void tick();
  /// One status line now, whatever the mode (SIGUSR1).
  void show_status();
  void finish();
  [[nodiscard]] ProgressState state() const;

 private:
  [[nodiscard]] ProgressState state_at(double now) const;
  void show(double now, bool forced);
  [[nodiscard]] int width() const;
  [[nodiscard]] double said_at() const;

  Look look_;
  Clock clock_;
  Sink sink_;
  mutable std::mutex mutex_;
  ProgressState state_;
  std::deque<std::pair<double, std::uint64_t>>
      recent_;  // (time, done_bytes) of the last 5 s and one before
  double began_ = 0;
  double shown_ = 0;
  bool running_ = false;
  bool line_on_screen_ = false;
  bool said_ = false;  // Plain: this phase has written a line
};

}  // namespace bv::cli
