#include "tests/support/process.hpp"

#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <fstream>
#include <regex>
#include <sstream>

namespace bv::support {
namespace fs = std::filesystem;

namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

void limit(decltype(RLIMIT_AS) resource, std::uint64_t value) {
  const rlimit both{value, value};
  if (value != 0 && ::setrlimit(resource, &both) != 0) {
    ::_exit(126);
  }
}

/// What root may do beyond the modes of files ends with the next exec.
void drop_privileges() {
  for (const int one : {CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER}) {
    if (::geteuid() == 0 &&
        ::prctl(PR_CAPBSET_DROP, static_cast<unsigned long>(one), 0UL, 0UL, 0UL) != 0) {
      ::_exit(126);
    }
  }
}

/// The child's side: never returns.
[[noreturn]] void become(const std::vector<std::string>& arguments,
                         const std::vector<std::string>& environment, const Setting& setting,
                         int out, int err) {
  limit(RLIMIT_AS, setting.limits.memory_bytes);
  limit(RLIMIT_NOFILE, setting.limits.open_files);
  if (setting.limits.without_privileges) {
    drop_privileges();
  }
  if (!setting.folder.empty() && ::chdir(setting.folder.c_str()) != 0) {
    ::_exit(126);
  }
  ::dup2(out, STDOUT_FILENO);
  ::dup2(err, STDERR_FILENO);
  std::vector<char*> words;
  std::string binary = setting.program.empty() ? BV_BINARY : setting.program;
  words.push_back(binary.data());
  for (const std::string& word : arguments) {
    words.push_back(const_cast<char*>(word.c_str()));
  }
  words.push_back(nullptr);
  std::vector<char*> variables;
  for (const std::string& one : environment) {
    variables.push_back(const_cast<char*>(one.c_str()));
  }
  variables.push_back(nullptr);
  ::execve(binary.c_str(), words.data(), variables.data());
  ::_exit(127);
}

/// Moves what is there into `text`; false at the end of the stream.
bool drain(int descriptor, std::string& text) {
  std::array<char, 65536> buffer;
  while (true) {
    const ssize_t got = ::read(descriptor, buffer.data(), buffer.size());
    if (got > 0) {
      text.append(buffer.data(), static_cast<std::size_t>(got));
      continue;
    }
    return got < 0 && (errno == EAGAIN || errno == EINTR);
  }
}

}  // namespace

std::string Ended::last_line() const {
  const std::size_t end = out.find_last_not_of('\n');
  if (end == std::string::npos) {
    return "";
  }
  const std::size_t begin = out.rfind('\n', end);
  return out.substr(begin + 1, end - begin);
}

std::string Ended::word() const {
  const std::string line = last_line();
  constexpr std::string_view kStart = "bridge-verify: ";
  return line.starts_with(kStart)
             ? line.substr(kStart.size(), line.find(' ', kStart.size()) - kStart.size())
             : "";
}

std::string Ended::flat() const {
  return unwrapped(out + "\n" + err);
}

Ended run(const std::vector<std::string>& arguments, const Variables& variables,
          const std::function<void(pid_t)>& watch, double limit_seconds) {
  return run_in({variables, watch, limit_seconds, {}, {}}, arguments);
}

std::uint64_t resident_peak(pid_t child) {
  std::ifstream status("/proc/" + std::to_string(child) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) {
      return std::stoull(line.substr(6)) << 10;
    }
  }
  return 0;
}

Limits hostile_limits() {
  Limits limits;
  limits.open_files = 256;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  limits.memory_bytes = std::uint64_t{2} << 30;
#endif
  return limits;
}

Ended run_hostile(const std::vector<std::string>& arguments, const Variables& variables) {
  const Ended ended = run_in({variables, {}, 60, hostile_limits(), {}}, arguments);
  EXPECT_LT(ended.code, 128) << "a crash: " << ended.all();
  EXPECT_NE(ended.code, 4) << "a fault of ours: " << ended.all();
  EXPECT_EQ(ended.err.find("ERROR: "), std::string::npos) << "a sanitizer: " << ended.err;
  EXPECT_EQ(ended.err.find("runtime error: "), std::string::npos) << "a sanitizer: " << ended.err;
  return ended;
}

std::string unwrapped(const std::string& text) {
  static const std::regex kMessage(
      "(error|warning|undecided|unsupported)\\[BV.*|[^ ].*\\.json:( [0-9]+ rules?, .*)?");
  static const std::regex kLead("   [=|] .*|(note|open) .*");
  std::string out;
  bool title = false;
  bool lead = false;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t indent = std::min(line.find_first_not_of(' '), line.size());
    const bool fact = line.starts_with("   |      ");
    if (title && indent == 2 && !line.starts_with("  -->")) {
      out += line.substr(1);
    } else if (lead && (fact || (indent > 6 && indent < line.size()))) {
      out += line.substr(fact ? 9 : indent - 1);
    } else {
      title = std::regex_match(line, kMessage);
      lead = std::regex_match(line, kLead);
      out += (out.empty() ? "" : "\n") + line;
    }
  }
  return out + (text.ends_with('\n') ? "\n" : "");
}

std::string without_places(std::string text) {
  const std::string scratch = (fs::canonical(fs::temp_directory_path()) / "bv-test-").string();
  text = std::regex_replace(text, std::regex(scratch + "[A-Za-z0-9]{6}"), "SCRATCH");
  for (std::size_t at = text.find(BV_FIXTURES); at != std::string::npos;
       at = text.find(BV_FIXTURES, at)) {
    text.replace(at, std::string_view(BV_FIXTURES).size(), "FIXTURES");
  }
  const std::string here = fs::current_path().string() + "/";
  for (std::size_t at = text.find(here); at != std::string::npos; at = text.find(here, at)) {
    text.replace(at, here.size(), "HERE/");
  }
  return std::regex_replace(text, std::regex("  [0-9]+\\.[0-9] s\n"), "  0.0 s\n");
}

Ended run_in(const Setting& setting, const std::vector<std::string>& arguments) {
  const auto& [variables, watch, limit_seconds, limits, folder, program] = setting;
  std::array<int, 2> out{};
  std::array<int, 2> err{};
  EXPECT_EQ(::pipe2(out.data(), O_CLOEXEC | O_NONBLOCK), 0);
  EXPECT_EQ(::pipe2(err.data(), O_CLOEXEC | O_NONBLOCK), 0);
  ::fcntl(out[1], F_SETFL, 0);
  ::fcntl(err[1], F_SETFL, 0);
  Variables all = {{"LANG", "C.UTF-8"}, {"HOME", "/nonexistent"}, {"PATH", "/usr/bin:/bin"}};
  for (const auto& [name, value] : variables) {
    all[name] = value;
  }
  std::vector<std::string> environment;
  for (const auto& [name, value] : all) {
    environment.push_back(name + "=" + value);
  }
  const auto begin = Clock::now();
  const pid_t child = ::fork();
  if (child == 0) {
    become(arguments, environment, setting, out[1], err[1]);
  }
  ::close(out[1]);
  ::close(err[1]);
  Ended ended;
  bool out_open = true;
  bool err_open = true;
  while (out_open || err_open) {
    std::array<pollfd, 2> waits = {
        {{out_open ? out[0] : -1, POLLIN, 0}, {err_open ? err[0] : -1, POLLIN, 0}}};
    ::poll(waits.data(), waits.size(), watch ? 1 : 100);
    out_open = out_open && drain(out[0], ended.out);
    err_open = err_open && drain(err[0], ended.err);
    if (ended.first_output_seconds < 0 && !ended.all().empty()) {
      ended.first_output_seconds = since(begin);
    }
    if (watch) {
      watch(child);
    }
    if (since(begin) > limit_seconds) {
      ADD_FAILURE() << "the process did not end within " << limit_seconds << " s";
      ::kill(child, SIGKILL);
      break;
    }
  }
  int status = 0;
  rusage usage{};
  ::wait4(child, &status, 0, &usage);
  ended.peak_bytes = static_cast<std::uint64_t>(usage.ru_maxrss) << 10U;
  ended.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  ::close(out[0]);
  ::close(err[0]);
  return ended;
}

}  // namespace bv::support
