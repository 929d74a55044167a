#pragma once
// What a command gets from the world: streams, environment, clock, terminal. Nothing below ci/ sees
// it.

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "ci/cli/options/options.hpp"
#include "core/verdict/waive.hpp"
#include "reports/formats.hpp"
#include "reports/style.hpp"

namespace bv::cli {

/// Text for stdout is collected and written at flush(): the header of a report when it is known,
/// the rest at the end. Text for stderr goes out at once.
class Streams {
 public:
  /// False when the text could not be written; a reader that went away counts as written.
  using Sink = std::function<bool(std::string_view)>;
  using ErrorSink = std::function<void(std::string_view)>;
  /// `sink` takes stdout text at flush(), `error_sink` takes stderr text as it comes.
  Streams(Sink sink, ErrorSink error_sink)
      : sink_(std::move(sink)), error_sink_(std::move(error_sink)) {}

  void out(std::string_view text) { pending_ += muted_ ? std::string_view() : text; }
  void err(std::string_view text) {
    if (!silent_) {
      error_sink_(text);
    }
  }
  /// Hands over everything collected; later calls hand over only what came since. False when it did
  /// not arrive.
  [[nodiscard]] bool flush();
  /// Text for stdout is dropped from now on (-qq).
  void mute() { muted_ = true; }
  /// Nothing goes out from now on, or something does again: of a world one process speaks.
  void be_silent(bool silent) {
    muted_ = silent;
    silent_ = silent;
  }
  /// Forgets what was collected: half a report is worse than none.
  void discard() { pending_.clear(); }

 private:
  Sink sink_;
  ErrorSink error_sink_;
  std::string pending_;
  bool muted_ = false;
  bool silent_ = false;
};

/// Writes all of `text` to a file descriptor. A closed pipe ends it quietly; false on any other
/// failure.
bool write_all(int descriptor, std::string_view text);

/// What was asked of the end of the run, read before any work.
struct Gate {
  std::vector<Waiver> waivers;           // of --waivers
  std::vector<reports::Wanted> reports;  // of --report
};

struct Context {
  Streams& streams;
  Environment environment;
  std::function<double()> seconds;       // monotonic, from the start of the process
  std::function<std::string()> started;  // RFC 3339 time of the start
  std::string argv0;
  std::vector<std::string> arguments;  // as given, for `run.argv`
  bool out_is_terminal = false;
  bool err_is_terminal = false;
  std::function<int()> terminal_width = nullptr;  // columns at this moment; 0 when unknown
  std::filesystem::path folder = {};  // where settings files are looked for; empty: nowhere
  Gate gate = {};
  bool header_shown = false;  // of the report, before the work
  bool ends_process = false;  // the command is all that the process does: memory need not come back
};

/// Colour, width and ASCII from flags, NO_COLOR, CLICOLOR_FORCE, FORCE_COLOR, TERM and the locale.
/// `terminal` says whether the stream that will show the text is one.
[[nodiscard]] reports::TextStyle style_for(const Context& context, const Options& options,
                                           bool terminal);
/// Columns of the terminal at this moment, 100 when there is none.
[[nodiscard]] int width_of(const Context& context);
/// The variable, or "" when unset.
[[nodiscard]] std::string_view variable(const Environment& environment, std::string_view name);

}  // namespace bv::cli
