// The command: collects what the world offers and hands it over.

#include <malloc.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <chrono>
#include <ctime>
#include <filesystem>
#include <string>

#include "ci/cli/command.hpp"
#include "ci/cli/session/context.hpp"
#include "ci/cli/session/signals.hpp"

namespace {

/// A check takes and gives back the same few megabytes thousands of times, and has a million small
/// pieces: memory stays with the process, and pieces are joined where they are given back. With the
/// defaults of glibc the kernel clears the same pages again and again, which takes longer than a
/// whole check.
void keep_memory() {
#ifdef __GLIBC__
  constexpr int kMiB = 1 << 20;
  ::mallopt(M_TRIM_THRESHOLD, 64 * kMiB);
  ::mallopt(M_MMAP_THRESHOLD, 32 * kMiB);
  ::mallopt(M_MXFAST, 0);
#endif
}

int terminal_width() {
  for (const int stream : {STDOUT_FILENO, STDERR_FILENO}) {
    winsize size{};
    if (::ioctl(stream, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
      return size.ws_col;
    }
  }
  return 0;
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  std::string text(20, '\0');
  text.resize(std::strftime(text.data(), text.size() + 1, "%Y-%m-%dT%H:%M:%SZ", &parts));
  return text;
}

bv::cli::Environment environment() {
  bv::cli::Environment out;
  for (char** entry = ::environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const std::size_t equals = text.find('=');
    if (equals != std::string::npos) {
      out.emplace(text.substr(0, equals), text.substr(equals + 1));
    }
  }
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  keep_memory();
  bv::cli::open_standard_streams();
  bv::cli::install_terminate_handler();
  const auto begin = std::chrono::steady_clock::now();
  const std::string started = utc_now();
  bv::cli::install_signal_handlers();
  bv::cli::Streams streams(
      [](std::string_view text) { return bv::cli::write_all(STDOUT_FILENO, text); },
      [](std::string_view text) { bv::cli::write_all(STDERR_FILENO, text); });
  std::error_code unknown;
  bv::cli::Context context{
      .streams = streams,
      .environment = environment(),
      .seconds =
          [begin] {
            return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
          },
      .started = [started] { return started; },
      .argv0 = argc > 0 ? argv[0] : "bridge-verify",
      .arguments = {argv + (argc > 0 ? 1 : 0), argv + argc},
      .out_is_terminal = ::isatty(STDOUT_FILENO) == 1,
      .err_is_terminal = ::isatty(STDERR_FILENO) == 1,
      .terminal_width = terminal_width,
      .folder = std::filesystem::current_path(unknown),
      .ends_process = true};
  return bv::cli::run_command_line(context);
}
