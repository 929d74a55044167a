#include "ci/cli/session/signals.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <utility>

namespace bv::cli {
namespace {

// A handler gets no argument, so what it sets has to be static; only this file writes it.
std::atomic<int> g_stop_signal{0};  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)
std::atomic<bool> g_status_wanted{
    false};  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)
// Does the work look at the stop signal?
std::atomic<bool> g_looked_at{false};  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)
std::atomic<bool> g_file_lost{false};  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)
// Text for stdout when the process ends from a handler; never freed once it is set.
struct LastWords {
  std::string file_lost, no_memory;
  StopWords stopped;
};
std::atomic<const LastWords*> g_last_words{
    nullptr};  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

constexpr unsigned kSecondsUntilLooked = 5;

/// What a handler calls may change errno under the code that it interrupted.
class KeepErrno {
 public:
  KeepErrno() = default;
  KeepErrno(const KeepErrno&) = delete;
  KeepErrno& operator=(const KeepErrno&) = delete;
  ~KeepErrno() { errno = before_; }

 private:
  int before_ = errno;
};

void on_stop(int signal) {
  const KeepErrno keep;
  g_stop_signal.store(signal);
  if (signal == SIGINT) {
    constexpr std::string_view kText = "\nstopping, press again to quit now\n";
    const auto written = ::write(STDERR_FILENO, kText.data(), kText.size());
    static_cast<void>(written);
  }
  if (!g_looked_at.load()) {
    ::alarm(kSecondsUntilLooked);
  }
}

void handle_default(int signal) {
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, nullptr);
}

[[noreturn]] void end_with(int code, std::string_view error, std::string_view last) {
  const auto text = ::write(STDERR_FILENO, error.data(), error.size());
  const auto words = ::write(STDOUT_FILENO, last.data(), last.size());
  static_cast<void>(text);
  static_cast<void>(words);
  ::_exit(code);
}

/// A stop was asked for while a checkpoint or a family was read, and nobody has looked since:
/// nothing is half done under a final name.
void on_not_looked(int) {
  const int signal = g_stop_signal.load();
  std::string_view last;
  if (const LastWords* words = g_last_words.load()) {
    for (const auto& [of, text] : words->stopped) {
      last = of == signal ? std::string_view(text) : last;
    }
  }
  end_with(128 + signal, "\nstopped while the inputs were read\n", last);
}

/// A mapped file was cut short by another process while it was read. Outputs appear by rename, so
/// nothing half done is left under a final name.
void on_bus_error(int, siginfo_t* what, void*) {
  if (what->si_code != BUS_ADRERR) {  // no file behind it: a fault of ours, which ends as one
    handle_default(SIGBUS);
    ::raise(SIGBUS);
    return;
  }
  if (g_file_lost.exchange(true)) {  // another thread already says so and ends the process
    for (;;) {
      ::pause();
    }
  }
  constexpr std::string_view kText =
      "\nerror[BV7007]: a file of the model was truncated while it was read\n"
      "   = help    let the other program finish, then run this again\n";
  const LastWords* words = g_last_words.load();
  end_with(5, kText, words == nullptr ? std::string_view() : words->file_lost);
}

// Set by the new handler: where a function that must not throw has clean-ups, the end comes before
// anybody catches, and no exception can be looked at.
std::atomic<bool> g_memory_refused{
    false};  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)

void on_no_memory() {
  g_memory_refused = true;
  throw std::bad_alloc();
}

/// Of the exception that nothing caught.
bool is_memory() {
  try {
    if (const std::exception_ptr thrown = std::current_exception()) {
      std::rethrow_exception(thrown);
    }
    return g_memory_refused;
  } catch (const std::bad_alloc&) {
    return true;
  } catch (...) {
    return false;
  }
}

[[noreturn]] void on_terminate() {
  if (!is_memory()) {
    end_with(4,
             "\nbridge-verify: BROKEN  an exception that nothing catches\n"
             "error[BV9001]: this is a fault of bridge-verify, not of the checkpoint\n",
             {});
  }
  const LastWords* words = g_last_words.load();
  end_with(5,
           "\nerror[BV8002]: memory ran out\n"
           "   = help    take fewer jobs with -j, or a larger machine\n",
           words == nullptr ? std::string_view() : words->no_memory);
}

void on_status(int) {
  g_status_wanted.store(true);
}

void handle(int signal, void (*handler)(int), int flags) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, nullptr);
}

bool is_ignored(int signal) {
  struct sigaction action {};
  return sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

}  // namespace

void open_standard_streams() {
  for (const int number : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(number, F_GETFD) < 0 && errno == EBADF) {
      // The lowest free number is this one: those below it are open by now. A write to it fails,
      // as it did before.
      const int opened = ::open("/dev/null", O_RDONLY);
      static_cast<void>(opened);
    }
  }
}

void install_signal_handlers() {
  handle(SIGINT, on_stop, static_cast<int>(SA_RESETHAND));
  handle(SIGTERM, on_stop, static_cast<int>(SA_RESETHAND));
  if (!is_ignored(SIGHUP)) {  // nohup
    handle(SIGHUP, on_stop, static_cast<int>(SA_RESETHAND));
  }
  handle(SIGALRM, on_not_looked, 0);
  handle(SIGUSR1, on_status, SA_RESTART);
  handle(SIGPIPE, SIG_IGN, 0);
  handle(SIGXFSZ, SIG_IGN, 0);  // a write above the limit (ulimit -f) then fails as on a full disk
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, nullptr);
}

void set_last_words(std::string file_lost, std::string no_memory, StopWords stopped) {
  g_last_words.store(new LastWords{std::move(file_lost), std::move(no_memory),
                                   std::move(stopped)});  // a handler may still read the one before
}

void install_terminate_handler() {
  std::set_new_handler(on_no_memory);
  std::set_terminate(on_terminate);
}

int stop_requested() {
  const int signal = g_stop_signal.load();
  if (signal != 0) {
    ::alarm(0);
  }
  return signal;
}

void look_at_stops() {
  g_looked_at.store(true);
}

bool status_requested() {
  return g_status_wanted.exchange(false);
}

}  // namespace bv::cli
