#include "core/comm/sockets.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>

namespace bv::comm {
namespace {

constexpr std::size_t kReadBytes = std::size_t{1} << 16;

struct FreeAddresses {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using AddressList = std::unique_ptr<addrinfo, FreeAddresses>;

AddressList look_up(const std::string& host, int port) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  const std::string service = std::to_string(port);
  return ::getaddrinfo(host.c_str(), service.c_str(), &hints, &list) == 0 ? AddressList(list)
                                                                          : AddressList();
}

std::string numeric(const sockaddr* address, socklen_t size) {
  std::array<char, NI_MAXHOST> out{};
  return ::getnameinfo(address, size, out.data(), static_cast<socklen_t>(out.size()), nullptr, 0,
                       NI_NUMERICHOST) == 0
             ? std::string(out.data())
             : "";
}

void set_option(int socket, int level, int name) {
  const int on = 1;
  ::setsockopt(socket, level, name, &on, sizeof on);
}

bool wait_for(int socket, short events, Clock::time_point until) {
  pollfd one{socket, events, 0};
  for (;;) {
    const int ready = ::poll(&one, 1, until_ms(until));
    if (ready > 0) {
      return true;
    }
    if (ready == 0 || errno != EINTR) {
      return false;
    }
  }
}

std::optional<io::Descriptor> connect_one(const addrinfo& where, Clock::time_point until) {
  io::Descriptor socket(::socket(where.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (socket.number() < 0) {
    return std::nullopt;
  }
  if (::connect(socket.number(), where.ai_addr, where.ai_addrlen) != 0) {
    int failed = errno;
    socklen_t size = sizeof failed;
    if (failed != EINPROGRESS || !wait_for(socket.number(), POLLOUT, until) ||
        ::getsockopt(socket.number(), SOL_SOCKET, SO_ERROR, &failed, &size) != 0 || failed != 0) {
      return std::nullopt;
    }
  }
  set_option(socket.number(), IPPROTO_TCP, TCP_NODELAY);
  set_option(socket.number(), SOL_SOCKET, SO_KEEPALIVE);
  return socket;
}

/// What TCP makes of a port that nobody listens at, when it takes just that one for this side.
bool is_connected_to_itself(int socket) {
  sockaddr_storage ends[2] = {};
  socklen_t sizes[2] = {sizeof ends[0], sizeof ends[1]};
  return ::getsockname(socket, reinterpret_cast<sockaddr*>(&ends[0]), &sizes[0]) == 0 &&
         ::getpeername(socket, reinterpret_cast<sockaddr*>(&ends[1]), &sizes[1]) == 0 &&
         sizes[0] == sizes[1] && std::memcmp(&ends[0], &ends[1], sizes[0]) == 0;
}

/// Nothing when that address cannot be had; `taken` when another process has the port.
std::optional<Listener> listening(const sockaddr* where, socklen_t size, bool& taken) {
  io::Descriptor socket(::socket(where->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (socket.number() < 0) {
    return std::nullopt;
  }
  set_option(socket.number(), SOL_SOCKET, SO_REUSEADDR);
  if (where->sa_family == AF_INET6) {
    const int both = 0;
    ::setsockopt(socket.number(), IPPROTO_IPV6, IPV6_V6ONLY, &both, sizeof both);
  }
  if (::bind(socket.number(), where, size) != 0 || ::listen(socket.number(), SOMAXCONN) != 0) {
    taken = errno == EADDRINUSE;
    return std::nullopt;
  }
  sockaddr_storage bound{};
  socklen_t got = sizeof bound;
  ::getsockname(socket.number(), reinterpret_cast<sockaddr*>(&bound), &got);
  std::uint16_t port = 0;
  if (bound.ss_family == AF_INET6) {
    sockaddr_in6 six{};
    std::memcpy(&six, &bound, sizeof six);
    port = six.sin6_port;
  } else {
    sockaddr_in four{};
    std::memcpy(&four, &bound, sizeof four);
    port = four.sin_port;
  }
  return Listener{std::move(socket), ntohs(port)};
}

}  // namespace

int until_ms(Clock::time_point until) {
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count() + 1;
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, std::numeric_limits<int>::max()));
}

std::optional<Listener> listen_at(int port, bool loopback) {
  sockaddr_in6 six{};
  six.sin6_family = AF_INET6;
  six.sin6_port = htons(static_cast<std::uint16_t>(port));
  sockaddr_in four{};
  four.sin_family = AF_INET;
  four.sin_port = six.sin6_port;
  four.sin_addr.s_addr = htonl(loopback ? INADDR_LOOPBACK : INADDR_ANY);
  bool taken = false;
  std::optional<Listener> out;
  if (!loopback) {
    out = listening(reinterpret_cast<const sockaddr*>(&six), sizeof six, taken);
  }
  return out || taken ? std::move(out)
                      : listening(reinterpret_cast<const sockaddr*>(&four), sizeof four, taken);
}

std::optional<Listener> listen_on(const std::string& host, int port) {
  const AddressList list = look_up(host, port);
  bool taken = false;
  std::optional<Listener> out;
  for (const addrinfo* at = list.get(); at != nullptr && !out && !taken; at = at->ai_next) {
    out = listening(at->ai_addr, at->ai_addrlen, taken);
  }
  return out;
}

std::vector<std::string> addresses_of(const std::string& host) {
  std::vector<std::string> out;
  const AddressList list = look_up(host, 0);
  for (const addrinfo* at = list.get(); at != nullptr; at = at->ai_next) {
    out.push_back(numeric(at->ai_addr, at->ai_addrlen));
  }
  return out;
}

bool is_loopback(const std::string& address) {
  return address.starts_with("127.") || address == "::1";
}

std::optional<io::Descriptor> connect_to(const std::string& address, int port,
                                         Clock::time_point until) {
  const AddressList list = look_up(address, port);
  for (const addrinfo* at = list.get(); at != nullptr; at = at->ai_next) {
    auto socket = connect_one(*at, until);
    if (socket && !is_connected_to_itself(socket->number())) {
      return socket;
    }
  }
  return std::nullopt;
}

std::optional<io::Descriptor> accepted(int listener) {
  io::Descriptor socket(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (socket.number() < 0) {
    return std::nullopt;
  }
  set_option(socket.number(), IPPROTO_TCP, TCP_NODELAY);
  set_option(socket.number(), SOL_SOCKET, SO_KEEPALIVE);
  return socket;
}

std::string address_of_peer(int socket) {
  sockaddr_storage where{};
  socklen_t size = sizeof where;
  if (::getpeername(socket, reinterpret_cast<sockaddr*>(&where), &size) != 0) {
    return "";
  }
  std::string out = numeric(reinterpret_cast<const sockaddr*>(&where), size);
  constexpr std::string_view kMapped = "::ffff:";  // an IPv4 address on an IPv6 socket
  return out.starts_with(kMapped) ? out.substr(kMapped.size()) : out;
}

bool send_all(int socket, std::span<const std::byte> bytes, Clock::time_point until) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(sent));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      if (!wait_for(socket, POLLOUT, until)) {
        return false;
      }
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

bool read_some(int socket, FrameReader& reader) {
  std::array<std::byte, kReadBytes> buffer;
  for (;;) {
    const ssize_t got = ::recv(socket, buffer.data(), buffer.size(), 0);
    if (got > 0) {
      return reader.feed({buffer.data(), static_cast<std::size_t>(got)});
    }
    if (got == 0) {
      return false;
    }
    if (errno != EINTR) {
      return errno == EAGAIN || errno == EWOULDBLOCK;
    }
  }
}

void hear_out(std::span<const int> sockets, Clock::time_point until) {
  for (const int socket : sockets) {
    ::shutdown(socket, SHUT_WR);
  }
  std::array<char, 4096> rest{};
  for (const int socket : sockets) {
    ssize_t got = 1;
    while (got > 0) {
      pollfd one{socket, POLLIN, 0};
      got = ::poll(&one, 1, until_ms(until)) > 0
                ? ::recv(socket, rest.data(), rest.size(), MSG_DONTWAIT)
                : 0;
    }
  }
}

std::optional<Frame> frame_from(int socket, FrameReader& reader, Clock::time_point until) {
  for (;;) {
    if (auto frame = reader.next()) {
      return frame;
    }
    if (!wait_for(socket, POLLIN, until) || !read_some(socket, reader)) {
      return reader.next();
    }
  }
}

}  // namespace bv::comm
