#include "core/comm/rendezvous.hpp"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <map>
#include <set>
#include <thread>

#include "core/base/text.hpp"
#include "core/comm/door.hpp"
#include "core/comm/joining.hpp"
#include "core/comm/sockets.hpp"

namespace bv::comm {
namespace {

/// Of who listens where this rank 0 would have: a stranger that is silent costs no more.
constexpr Milliseconds kFirstAnswerTime{250};
constexpr Milliseconds kBetweenTries{100};

std::set<int> ranks_from(int first, int end) {
  std::set<int> out;
  for (int rank = first; rank < end; ++rank) {
    out.insert(rank);
  }
  return out;
}

Error not_all_came(const Launch& launch, const Door& door, Milliseconds patience) {
  const std::set<int>& missing = door.missing();
  std::vector<std::string> names;
  for (const int rank : missing) {
    if (names.size() == 8) {
      names.emplace_back("...");
      break;
    }
    names.push_back(std::to_string(rank));
  }
  Error out =
      fail(Code::RankLost,
           fmt::format("{} of the {} processes of this world did not come within {} s: rank {}",
                       missing.size(), launch.size, std::chrono::duration<double>(patience).count(),
                       join(names, ", ")))
          .fact(fmt::format("rank 0 waited at {}, from port {} on", readable(launch.address),
                            launch.port))
          .advise("start as many processes as the launcher announced; to run alone: " +
                  launch.alone);
  out.facts.insert(out.facts.end(), door.turned_away().begin(), door.turned_away().end());
  return out;
}

/// The first port that rank 0 may take.
int first_port(const Launch& launch) {
  return launch.port + (launch.port_is_taken ? 1 : 0);
}

/// In a world of one host nobody else can come.
std::optional<Listener> own_listener(const Launch& launch, int port) {
  return all_on_this_host(launch) ? listen_on(launch.address, port) : listen_at(port, false);
}

Status check_address(const Launch& launch) {
  return addresses_of(launch.address).empty()
             ? Status(
                   fail(Code::BadValue, fmt::format("the host {} of MASTER_ADDR is not known here",
                                                    readable(launch.address)))
                       .advise("set MASTER_ADDR to the host or address of rank 0"))
             : Status(Done{});
}

/// Who listens at the ports that rank 0 tried before its own: "" but for another rank 0 of this
/// world.
std::string other_host(const Launch& launch, int own_port) {
  for (int port = first_port(launch); port < own_port; ++port) {
    const auto soon = Clock::now() + kFirstAnswerTime;
    auto socket = connect_to(all_on_this_host(launch) ? launch.address : "127.0.0.1", port, soon);
    FrameReader reader(kHelloBytesMax);
    if (socket && tell(*socket, Frame::Kind::Hello, hello_of(launch, own_port), soon)) {
      const auto answer = frame_from(socket->number(), reader, soon);
      if (answer && answer->kind == Frame::Kind::Failed) {
        return error_from(text_of(answer->bytes)).message;
      }
      const Fields fields = answer ? fields_from(text_of(answer->bytes)) : Fields{};
      if (field(fields, "why") == "rank 0 is here already") {
        return fmt::format("another rank 0 of {} processes listens at port {}", launch.size, port);
      }
    }
  }
  return "";
}

Result<std::vector<Peer>> host_world(const Launch& launch, Milliseconds patience) {
  std::optional<Listener> listener;
  for (int i = 0; i < kPortsTried && !listener; ++i) {
    listener = own_listener(launch, first_port(launch) + i);
  }
  if (!listener) {
    BV_CHECK(check_open_files(launch));
    return fail(Code::BadValue,
                fmt::format("no port from {} to {} is free for rank 0", first_port(launch),
                            first_port(launch) + kPortsTried - 1))
        .advise("set MASTER_PORT to a free port, the same for all processes");
  }
  Door door(launch, listener->socket.number(), Frame::Kind::Hello, ranks_from(1, launch.size));
  const std::string other = other_host(launch, listener->port);
  if (!other.empty() && !launch.run.empty()) {  // a run that has a name is one world
    return fail(Code::RankDiverged, "two processes say that they are rank 0 of this world")
        .fact(other)
        .advise("give every process its own RANK");
  }
  if (const Status open = door.open_until(Clock::now() + patience); !open) {
    door.turn_all_away(open.error());
    return open.error();
  }
  const auto soon = Clock::now() + kAnswerTime;
  if (!door.missing().empty()) {
    Error missing = not_all_came(launch, door, patience);
    if (!other.empty()) {
      missing.facts.push_back(other);
    }
    if (const Status known = check_address(launch); !known) {
      missing.facts.push_back(known.error().message);
    }
    for (const auto& [rank, guest] : door.guests()) {
      static_cast<void>(tell_error(guest.socket, missing));
    }
    return missing;
  }
  Fields table = {{"host0", launch.host}};
  for (const auto& [rank, guest] : door.guests()) {
    table.emplace_back(fmt::format("host{}", rank), guest.host);
    table.emplace_back(fmt::format("address{}", rank), guest.address);
    table.emplace_back(fmt::format("port{}", rank), std::to_string(guest.port));
  }
  std::vector<Peer> out(static_cast<std::size_t>(launch.size));
  out[0].host = launch.host;
  for (auto& [rank, guest] : door.guests()) {
    static_cast<void>(tell(guest.socket, Frame::Kind::Table, table, soon));  // else lost later
    out[static_cast<std::size_t>(rank)] = {std::move(guest.socket), guest.host,
                                           std::move(guest.reader)};
  }
  BV_CHECK(begin_together(out, Clock::now() + patience + kGrace));
  return out;
}

/// Rank 0, found at one of the ports, and the reader that has begun with what it says.
struct Host {
  io::Descriptor socket;
  FrameReader reader;
};

/// All ports at once, and none is given up while it is silent: rank 0 may be slow, and would take
/// for the rank whom it never reached.
class Search {
 public:
  Search(const Launch& launch, int own_port, Clock::time_point until)
      : launch_(launch), own_port_(own_port), until_(until) {}

  /// Nothing when the time is over; then `answers` says what was at the ports. Errors: what rank 0
  /// said.
  Result<std::optional<Host>> run() {
    while (Clock::now() < until_) {
      ask();
      if (const Status open = check_open_files(launch_); !open) {
        for (const auto& [port, host] : asked_) {
          tell_error(host.socket, open.error());
        }
        return open.error();
      }
      std::vector<pollfd> all;
      for (const auto& [port, host] : asked_) {
        all.push_back({host.socket.number(), POLLIN, 0});
      }
      static_cast<void>(::poll(all.data(), all.size(), static_cast<int>(kBetweenTries.count())));
      for (auto at = asked_.begin(); at != asked_.end();) {
        const bool open = read_some(at->second.socket.number(), at->second.reader);
        const auto answer = at->second.reader.next();
        if (answer && answer->kind == Frame::Kind::Welcome) {
          at->second.reader.allow(kFrameBytesMax);
          return std::optional(std::move(at->second));
        }
        if (answer && answer->kind == Frame::Kind::Failed) {
          return error_from(text_of(answer->bytes));
        }
        if (answer || !open) {
          const std::string why =
              answer ? readable(field(fields_from(text_of(answer->bytes)), "why")) : "";
          answers_[at->first] = why.empty() ? "what listens there is not rank 0" : why;
        }
        at = answer || !open ? asked_.erase(at) : std::next(at);
      }
      std::this_thread::sleep_for(kBetweenTries / 10);
    }
    return std::optional<Host>();
  }

  /// A sentence for each port where somebody was.
  [[nodiscard]] std::vector<std::string> answers() const {
    std::map<int, std::string> all = answers_;
    for (const auto& [port, host] : asked_) {
      all.try_emplace(port, "what listens there does not answer");
    }
    std::vector<std::string> out;
    for (const auto& [port, answer] : all) {
      out.push_back(fmt::format("port {}: {}", port, answer));
    }
    return out;
  }

 private:
  void ask() {
    for (int i = 0; i < kPortsTried; ++i) {
      const int port = first_port(launch_) + i;
      const auto soon = std::min(until_, Clock::now() + kAnswerTime);
      if (asked_.contains(port)) {
        continue;
      }
      auto socket = connect_to(launch_.address, port, soon);
      if (socket && tell(*socket, Frame::Kind::Hello, hello_of(launch_, own_port_), soon)) {
        asked_.emplace(port, Host{std::move(*socket), FrameReader(kHelloBytesMax)});
      }
    }
  }

  const Launch& launch_;
  int own_port_;
  Clock::time_point until_;
  std::map<int, Host> asked_;
  std::map<int, std::string> answers_;
};

Result<Host> find_host(const Launch& launch, int own_port, Clock::time_point until,
                       Milliseconds patience) {
  BV_CHECK(check_address(launch));
  Search search(launch, own_port, until);
  BV_TRY(found, search.run());
  if (found) {
    return std::move(*found);
  }
  Error out =
      fail(Code::RankLost,
           fmt::format("rank 0 is not at {}, ports {} to {}, after {} s", readable(launch.address),
                       first_port(launch), first_port(launch) + kPortsTried - 1,
                       std::chrono::duration<double>(patience + kGrace).count()))
          .advise(
              "check that rank 0 runs, and that MASTER_ADDR and MASTER_PORT are the same "
              "for all");
  out.facts = search.answers();
  return out;
}

Result<std::vector<Peer>> join_world(const Launch& launch, Milliseconds patience) {
  const auto until = Clock::now() + patience + kGrace;
  auto listener = own_listener(launch, 0);
  if (!listener) {
    BV_CHECK(check_open_files(launch));
    BV_CHECK(check_address(launch));
    return fail(Code::RankLost, fmt::format("rank {} cannot listen on any port", launch.rank))
        .advise("allow the process to open sockets");
  }
  BV_TRY(host, find_host(launch, listener->port, until, patience));
  const auto told = frame_from(host.socket.number(), host.reader, until);
  if (told && told->kind == Frame::Kind::Failed) {
    return error_from(text_of(told->bytes));
  }
  if (!told || told->kind != Frame::Kind::Table) {
    return lost_between(0, "", launch.rank);
  }
  const Fields table = fields_from(text_of(told->bytes));
  std::vector<Peer> out(static_cast<std::size_t>(launch.size));
  for (int rank = 0; rank < launch.size; ++rank) {
    out[static_cast<std::size_t>(rank)].host = field(table, fmt::format("host{}", rank));
  }
  out[0].socket = std::move(host.socket);
  out[0].reader = std::move(host.reader);
  BV_CHECK(join_others(launch, table, listener->socket.number(), patience, out));
  return out;
}

}  // namespace

Result<std::vector<Peer>> meet(const Launch& launch, Milliseconds patience) {
  return launch.rank == 0 ? host_world(launch, patience) : join_world(launch, patience);
}

}  // namespace bv::comm
