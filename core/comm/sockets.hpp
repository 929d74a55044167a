#pragma once
// Sockets as values: listening, connecting and waiting until a time.

#include <chrono>
#include <span>
#include <string>
#include <vector>

#include "core/comm/frame.hpp"
#include "core/io/mapped_file.hpp"

namespace bv::comm {

using Clock = std::chrono::steady_clock;

struct Listener {
  io::Descriptor socket;
  int port = 0;
};
/// At a port of its own choice (`port` 0) or at that one; nothing when it is taken. `loopback`:
/// reachable from this host alone.
[[nodiscard]] std::optional<Listener> listen_at(int port, bool loopback);
/// The same at an address of this host that a name has: who is elsewhere does not reach it.
[[nodiscard]] std::optional<Listener> listen_on(const std::string& host, int port);

/// Numeric addresses of a host name. Empty: nobody knows it.
[[nodiscard]] std::vector<std::string> addresses_of(const std::string& host);
[[nodiscard]] bool is_loopback(const std::string& address);

/// Nothing when nobody listens there or answers until then.
[[nodiscard]] std::optional<io::Descriptor> connect_to(const std::string& address, int port,
                                                       Clock::time_point until);
/// Takes one connection that waits; nothing when there is none.
[[nodiscard]] std::optional<io::Descriptor> accepted(int listener);
/// "10.0.0.7" of the other side.
[[nodiscard]] std::string address_of_peer(int socket);

/// All bytes, or false.
[[nodiscard]] bool send_all(int socket, std::span<const std::byte> bytes, Clock::time_point until);
/// The next frame; nothing when the other side goes away, sends something else or is silent.
[[nodiscard]] std::optional<Frame> frame_from(int socket, FrameReader& reader,
                                              Clock::time_point until);
/// What is there to be read, fed to the reader. False when the connection is over or speaks another
/// language.
[[nodiscard]] bool read_some(int socket, FrameReader& reader);
/// Says no more, and reads what still comes: bytes that nobody read would make the system take back
/// what was sent last.
void hear_out(std::span<const int> sockets, Clock::time_point until);
/// Milliseconds from now, for poll: 0 when it has passed.
[[nodiscard]] int until_ms(Clock::time_point until);

}  // namespace bv::comm
