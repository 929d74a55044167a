#pragma once
// Worlds over sockets whose ranks are threads of the test.

#include <functional>
#include <thread>
#include <vector>

#include "core/comm/processes.hpp"
#include "core/comm/sockets.hpp"

namespace bv::comm {

inline constexpr Milliseconds kSocketPatience{5000};

/// A world on this host; every rank is a thread with a link of its own, as a process would have.
inline std::vector<Status> on_sockets(const std::vector<Launch>& launches, Milliseconds patience,
                                      const std::function<Status(Link&)>& work) {
  std::vector<Status> out(launches.size(), Status(Done{}));
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < launches.size(); ++i) {
    threads.emplace_back([&, i] {
      auto link = enter(launches[i], patience);
      if (!link) {
        out[i] = std::move(link).error();
        return;
      }
      out[i] = work(**link);
      if (out[i]) {
        (*link)->leave();
      } else if (out[i].error().code != Code::Assertion) {
        (*link)->fail_all(out[i].error());
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  return out;
}

/// A port that was free a moment ago.
inline int free_port() {
  return listen_at(0, true)->port;
}

inline std::vector<Launch> launches(int size) {
  std::vector<Launch> out;
  const int port = free_port();
  for (int rank = 0; rank < size; ++rank) {
    out.push_back({rank, size, "127.0.0.1", port, false, "run", "1.0", "here"});
  }
  return out;
}

}  // namespace bv::comm
