#include "tests/e2e/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <fstream>
#include <iterator>

namespace bv::e2e {
namespace fs = std::filesystem;

namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// The child's side: never returns.
[[noreturn]] void become(const std::vector<std::string>& arguments,
                         const std::vector<std::string>& environment, int out, int err) {
  ::dup2(out, STDOUT_FILENO);
  ::dup2(err, STDERR_FILENO);
  std::vector<char*> words;
  std::string binary = BV_BINARY;
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

Ended run(const std::vector<std::string>& arguments, const Variables& variables,
          const std::function<void(pid_t)>& watch, double limit_seconds) {
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
    become(arguments, environment, out[1], err[1]);
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
  ::waitpid(child, &status, 0);
  ended.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  ::close(out[0]);
  ::close(err[0]);
  return ended;
}

TempFolder::TempFolder() {
  std::string name = (fs::temp_directory_path() / "bv-e2e-XXXXXX").string();
  path_ = fs::canonical(::mkdtemp(name.data()));
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string file_text(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void write_text(const fs::path& file, std::string_view text) {
  fs::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary) << text;
}

}  // namespace bv::e2e
