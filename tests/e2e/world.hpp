#pragma once
// Real processes that do one command together.

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "tests/e2e/process.hpp"

namespace bv::e2e {

/// A port that was free a moment ago.
inline int free_port() {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  EXPECT_EQ(::bind(socket, reinterpret_cast<sockaddr*>(&at), size), 0);
  EXPECT_EQ(::getsockname(socket, reinterpret_cast<sockaddr*>(&at), &size), 0);
  ::close(socket);
  return ntohs(at.sin_port);
}

/// What one process of a world gets beside the common arguments.
struct Special {
  std::function<void(pid_t)> watch = {};
  std::vector<std::string> arguments = {};  // in place of the common ones
  Variables variables = {};                 // beside those of the launcher
  std::filesystem::path folder = {};        // where it starts
};

using Named = std::function<Variables(int rank, int size, int port)>;

inline Variables torchrun(int rank, int size, int port) {
  return {{"RANK", std::to_string(rank)},       {"WORLD_SIZE", std::to_string(size)},
          {"LOCAL_RANK", std::to_string(rank)}, {"LOCAL_WORLD_SIZE", std::to_string(size)},
          {"MASTER_ADDR", "127.0.0.1"},         {"MASTER_PORT", std::to_string(port)}};
}

inline std::vector<Ended> run_world(int size, const std::vector<std::string>& arguments,
                                    const std::map<int, Special>& special = {},
                                    const Named& variables = torchrun,
                                    const std::string& program = "") {
  std::vector<Ended> out(static_cast<std::size_t>(size));
  std::vector<std::thread> threads;
  const int port = free_port();
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      const auto own = special.find(rank);
      const Special& mine = own == special.end() ? Special{} : own->second;
      Setting setting;
      setting.variables = variables(rank, size, port);
      setting.variables.insert(mine.variables.begin(), mine.variables.end());
      setting.watch = mine.watch;
      setting.folder = mine.folder;
      setting.program = program;
      out[static_cast<std::size_t>(rank)] =
          run_in(setting, mine.arguments.empty() ? arguments : mine.arguments);
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  return out;
}

inline std::map<std::string, std::string> contents(const std::filesystem::path& folder) {
  std::map<std::string, std::string> out;
  for (const std::string& name : files_below(folder)) {
    out[name] = file_text(folder / name);
  }
  return out;
}

}  // namespace bv::e2e
