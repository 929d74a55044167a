#pragma once
// How the processes of a world find each other: rank 0 listens at an address that all know, tells
// each where the others are, and every two of them connect.

#include <string>
#include <vector>

#include "core/comm/frame.hpp"
#include "core/io/mapped_file.hpp"

namespace bv::comm {

/// What a launcher said.
struct Launch {
  int rank = 0;
  int size = 1;
  std::string address = "127.0.0.1";  // of rank 0
  int port = 29500;
  /// A store of the launcher listens at that port (torchrun): the ports behind it are taken.
  bool port_is_taken = false;
  std::string run;      // two worlds that share a host are told apart by it; "": nobody names it
  std::string version;  // of the program: all must be one
  std::string host;     // of this process, for messages
  std::string command = {};  // of a run without a name: what all of its processes do alike
  std::string alone = {};    // for messages: how this process runs alone
};

/// Ports from `port` on, one after the other, are tried until rank 0 is found.
inline constexpr int kPortsTried = 16;

struct Peer {
  io::Descriptor socket;  // of the rank itself: none
  std::string host;
  FrameReader reader;  // may hold what came early
};

/// One connection to every other rank, by rank. Strangers that connect are turned away and hold
/// nothing up. Errors: RankLost when some did not come within `patience`, with their ranks;
/// RankDiverged for another version; BadValue for an address that does not exist.
[[nodiscard]] Result<std::vector<Peer>> meet(const Launch& launch, Milliseconds patience);

}  // namespace bv::comm
