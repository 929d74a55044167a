#include "ci/signals.hpp"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <string_view>

namespace bv::cli {
namespace {

// A handler gets no argument, so what it sets has to be static; only this file writes it.
std::atomic<int> g_stop_signal{0};  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)
std::atomic<bool> g_status_wanted{
    false};  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

void on_stop(int signal) {
  g_stop_signal.store(signal);
  if (signal == SIGINT) {
    constexpr std::string_view kText = "\nstopping, press again to quit now\n";
    const auto written = ::write(STDERR_FILENO, kText.data(), kText.size());
    static_cast<void>(written);
  }
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

}  // namespace

void install_signal_handlers() {
  handle(SIGINT, on_stop, static_cast<int>(SA_RESETHAND));
  handle(SIGTERM, on_stop, static_cast<int>(SA_RESETHAND));
  handle(SIGUSR1, on_status, SA_RESTART);
  handle(SIGPIPE, SIG_IGN, 0);
}

int stop_requested() {
  return g_stop_signal.load();
}

bool status_requested() {
  return g_status_wanted.exchange(false);
}

}  // namespace bv::cli
