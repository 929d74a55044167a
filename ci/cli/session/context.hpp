#pragma once
// What a command gets from the world: streams, environment, clock, terminal. Nothing below ci/ sees
// it.

#include <functional>
#include <string>
#include <string_view>

#include "ci/cli/options/options.hpp"
#include "reports/style.hpp"

namespace bv::cli {

/// Text for stdout is collected and written once at the end, so that a reader never sees half a
/// report; text for stderr goes out at once.
class Streams {
 public:
  /// False when the text could not be written; a reader that went away counts as written.
  using Sink = std::function<bool(std::string_view)>;
  using ErrorSink = std::function<void(std::string_view)>;
  /// `sink` takes stdout text at flush(), `error_sink` takes stderr text as it comes.
  Streams(Sink sink, ErrorSink error_sink)
      : sink_(std::move(sink)), error_sink_(std::move(error_sink)) {}

  void out(std::string_view text) { pending_ += text; }
  void err(std::string_view text) { error_sink_(text); }
  /// Hands over everything collected; later calls hand over only what came since. False when it did
  /// not arrive.
  [[nodiscard]] bool flush();
  /// Forgets what was collected: half a report is none.
  void discard() { pending_.clear(); }

 private:
  Sink sink_;
  ErrorSink error_sink_;
  std::string pending_;
};

/// Writes all of `text` to a file descriptor. A closed pipe ends it quietly; false on any other
/// failure.
bool write_all(int descriptor, std::string_view text);

struct Context {
  Streams& streams;
  Environment environment;
  std::function<double()> seconds;       // monotonic, from the start of the process
  std::function<std::string()> started;  // RFC 3339 time of the start
  std::string argv0;
  std::vector<std::string> arguments;  // as given, for `command.argv` and replay lines
  bool out_is_terminal = false;
  bool err_is_terminal = false;
  int terminal_width = 0;  // 0 when stdout is no terminal
};

/// Colour, width and ASCII from flags, NO_COLOR, CLICOLOR_FORCE, FORCE_COLOR, TERM and the locale.
/// `terminal` says whether the stream that will show the text is one.
[[nodiscard]] reports::TextStyle style_for(const Context& context, const Options& options,
                                           bool terminal);
/// The variable, or "" when unset.
[[nodiscard]] std::string_view variable(const Environment& environment, std::string_view name);

}  // namespace bv::cli
