#pragma once
// A world of threads: one link each, in one process.

#include <functional>
#include <memory>
#include <vector>

#include "core/comm/link.hpp"

namespace bv::comm {

class ThreadWorld {
 public:
  ThreadWorld(int size, Milliseconds patience);
  ~ThreadWorld();
  /// The link of a rank; once for each. Links may outlive the world.
  [[nodiscard]] std::unique_ptr<Link> link(int rank);

  struct Board;

 private:
  std::shared_ptr<Board> board_;
};

/// Runs `work` once for each rank, each on a thread of its own, and leaves the world for those that
/// end well. What each ended with, by rank. A rank whose work returns an error tells it to the
/// others; one whose work throws is lost.
[[nodiscard]] std::vector<Status> run_world(int size, Milliseconds patience,
                                            const std::function<Status(Link&)>& work);

}  // namespace bv::comm
