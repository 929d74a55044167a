#pragma once
// Ctrl-C, SIGTERM and SIGHUP: the first asks the run to stop after the current tensor, the second
// ends the process; where the inputs are still read, five seconds after the first do as well.

#include <string>
#include <utility>
#include <vector>

namespace bv::cli {

/// Closed standard streams get /dev/null, so that no file of ours is opened under their numbers and
/// written into by the progress text. To be called before anything is opened.
void open_standard_streams();
/// Installs the handlers: SIGINT prints "stopping, press again to quit now" at once; SIGPIPE and
/// SIGXFSZ are ignored, and SIGHUP where it was ignored before; SIGBUS (a mapped file truncated by
/// someone else) ends the process with the INPUT exit code.
void install_signal_handlers();
/// By the signal that asked for the stop.
using StopWords = std::vector<std::pair<int, std::string>>;
/// What a run writes to stdout, its last line or its document, that ends because a file was cut
/// short under it (SIGBUS), because memory ran out where no error can be returned, or because a
/// stop was not looked at. Nothing at first.
void set_last_words(std::string file_lost, std::string no_memory, StopWords stopped);
/// An exception that nothing catches (the first lines of main, a destructor that allocates) ends
/// the process with a message and a documented exit code: 5 for std::bad_alloc, else 4.
void install_terminate_handler();
/// 0, or the signal that asked to stop (1, 2, 15).
[[nodiscard]] int stop_requested();
/// From here on the work asks stop_requested() again and again, and ends in its own time.
void look_at_stops();
/// True once after each SIGUSR1: print one status line.
[[nodiscard]] bool status_requested();

}  // namespace bv::cli
