#include "core/comm/joining.hpp"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/base/text.hpp"
#include "core/comm/door.hpp"

namespace bv::comm {
namespace {

constexpr Milliseconds kHearOut{300};
/// The field of a rank's error that is about another one.
constexpr const char* kMisses = "misses";

/// Why the world does not begin, as rank 0 hears it.
class Reports {
 public:
  explicit Reports(std::vector<Peer>& peers) : peers_(peers) {
    for (std::size_t rank = 1; rank < peers.size(); ++rank) {
      awaited_.insert(static_cast<int>(rank));
    }
  }

  Status hear_all(Clock::time_point until) {
    while (!awaited_.empty() && Clock::now() < until) {
      std::vector<pollfd> all;
      for (const int rank : awaited_) {
        all.push_back({peer(rank).socket.number(), POLLIN, 0});
      }
      static_cast<void>(::poll(all.data(), all.size(), std::min(until_ms(until), 200)));
      const bool knew = !missed_.empty();
      for (const int rank : std::set(awaited_)) {
        BV_CHECK(hear(rank));
      }
      if (!knew && !missed_.empty()) {
        until = std::min(until, Clock::now() + kGrace);
      }
    }
    if (!missed_.empty()) {
      return who_is_missed();
    }
    return awaited_.empty() ? Status(Done{}) : Status(lost(*awaited_.begin(), 0));
  }

 private:
  Peer& peer(int rank) { return peers_[static_cast<std::size_t>(rank)]; }
  Error lost(int rank, int seen_by) { return lost_between(rank, peer(rank).host, seen_by); }

  Status hear(int rank) {
    const bool open = read_some(peer(rank).socket.number(), peer(rank).reader);
    const auto frame = peer(rank).reader.next();
    if (!frame && open) {
      return Done{};
    }
    awaited_.erase(rank);
    if (!frame || (frame->kind != Frame::Kind::Failed && frame->kind != Frame::Kind::Welcome)) {
      return lost(rank, 0);
    }
    if (frame->kind == Frame::Kind::Failed) {
      const std::string text = text_of(frame->bytes);
      const auto other =
          number_field(fields_from(text), kMisses, static_cast<std::int64_t>(peers_.size()) - 1);
      if (!other) {
        return error_from(text);
      }
      missed_.emplace(rank, static_cast<int>(*other));
    }
    return Done{};
  }

  /// One that said nothing rather than one that misses a rank itself.
  Error who_is_missed() {
    const auto silent = std::find_if(missed_.begin(), missed_.end(), [&](const auto& one) {
      return !missed_.contains(one.second);
    });
    const auto& [seen_by, rank] = silent == missed_.end() ? *missed_.begin() : *silent;
    return lost(rank, seen_by);
  }

  std::vector<Peer>& peers_;
  std::set<int> awaited_;
  std::map<int, int> missed_;  // by rank: whom it could not connect to
};

/// A rank that connects to the others, and what rank 0 says meanwhile.
class Joining {
 public:
  Joining(const Launch& launch, std::vector<Peer>& peers, Clock::time_point until)
      : launch_(launch), peers_(peers), until_(until) {}

  Status connect(const Fields& table, int listener) {
    for (int rank = 1; rank < launch_.rank; ++rank) {
      BV_CHECK(connect_down(rank, table));
    }
    Door door(launch_, listener, Frame::Kind::Peer, above());
    BV_CHECK(door.open_until(until_, {host().socket.number(), [this] { return heed_host(); }}));
    if (!door.missing().empty()) {
      return misses(*door.missing().begin());
    }
    for (auto& [rank, guest] : door.guests()) {
      peer(rank).socket = std::move(guest.socket);
      peer(rank).reader = std::move(guest.reader);
    }
    return Done{};
  }

  /// Tells rank 0 how it went, and waits for what it says to all.
  Status end(const Status& joined, Clock::time_point until) {
    if (host_has_ended_) {
      return joined;
    }
    const std::string text =
        (joined ? "" : error_fields(joined.error())) +
        (missed_ < 0 ? std::string() : fields_text({{kMisses, std::to_string(missed_)}}));
    const Frame::Kind kind = joined ? Frame::Kind::Welcome : Frame::Kind::Failed;
    const auto word = send_all(host().socket.number(), encoded(kind, "", bytes_of(text)), until)
                          ? frame_from(host().socket.number(), host().reader, until)
                          : std::nullopt;
    if (word && word->kind == Frame::Kind::Failed) {
      return error_from(text_of(word->bytes));
    }
    const bool begins = word && word->kind == Frame::Kind::Welcome;
    return joined && !begins ? Status(lost_between(0, host().host, launch_.rank)) : joined;
  }

 private:
  Peer& peer(int rank) { return peers_[static_cast<std::size_t>(rank)]; }
  Peer& host() { return peers_[0]; }

  [[nodiscard]] std::set<int> above() const {
    std::set<int> out;
    for (int rank = launch_.rank + 1; rank < launch_.size; ++rank) {
      out.insert(rank);
    }
    return out;
  }

  Error misses(int rank) {
    missed_ = rank;
    return lost_between(rank, peer(rank).host, launch_.rank);
  }

  /// Errors: what rank 0 said that ends the world; RankLost when it is gone.
  Status heed_host() {
    const bool open = read_some(host().socket.number(), host().reader);
    const auto frame = host().reader.next();
    host_has_ended_ = !open || frame;
    if (frame && frame->kind == Frame::Kind::Failed) {
      return error_from(text_of(frame->bytes));
    }
    return host_has_ended_ ? Status(lost_between(0, host().host, launch_.rank)) : Status(Done{});
  }

  Status connect_down(int rank, const Fields& table) {
    const std::string address(
        all_on_this_host(launch_) ? launch_.address : field(table, fmt::format("address{}", rank)));
    const auto port = number_field(table, fmt::format("port{}", rank), 65535);
    auto socket = port ? connect_to(address, static_cast<int>(*port), until_) : std::nullopt;
    BV_CHECK(check_open_files(launch_));
    if (!socket || !tell(*socket, Frame::Kind::Peer, hello_of(launch_, 0), until_)) {
      return misses(rank);
    }
    FrameReader reader(kHelloBytesMax);
    BV_TRY(answer, answer_of(socket->number(), reader));
    if (answer && answer->kind == Frame::Kind::Failed) {
      return error_from(text_of(answer->bytes));
    }
    if (!answer || answer->kind != Frame::Kind::Welcome) {
      return misses(rank);
    }
    peer(rank).socket = std::move(*socket);
    reader.allow(kFrameBytesMax);
    peer(rank).reader = std::move(reader);
    return Done{};
  }

  /// Nothing when the other side goes away or is silent. Errors: those of heed_host.
  Result<std::optional<Frame>> answer_of(int socket, FrameReader& reader) {
    bool open = true;
    while (open && Clock::now() < until_) {
      pollfd both[] = {{socket, POLLIN, 0}, {host().socket.number(), POLLIN, 0}};
      static_cast<void>(::poll(both, 2, until_ms(until_)));
      BV_CHECK(heed_host());
      open = read_some(socket, reader);
      if (auto frame = reader.next()) {
        return frame;
      }
    }
    return std::optional<Frame>();
  }

  const Launch& launch_;
  std::vector<Peer>& peers_;
  Clock::time_point until_;
  int missed_ = -1;  // the rank that the error is about
  bool host_has_ended_ = false;
};

}  // namespace

bool all_on_this_host(const Launch& launch) {
  return launch.address == "localhost" || is_loopback(launch.address);
}

Error lost_between(int rank, std::string_view host, int seen_by) {
  return fail(Code::RankLost,
              fmt::format("rank {}{} went away or stopped while the world came together", rank,
                          host.empty() ? "" : fmt::format(" on host {}", readable(host))))
      .fact(fmt::format("seen by rank {}", seen_by))
      .advise("look at the output of that process and at the log of its host, then run again");
}

Status begin_together(std::vector<Peer>& peers, Clock::time_point until) {
  const Status joined = Reports(peers).hear_all(until);
  std::vector<int> sockets;
  for (std::size_t rank = 1; rank < peers.size(); ++rank) {
    sockets.push_back(peers[rank].socket.number());
    if (joined) {  // who does not hear it is lost later
      static_cast<void>(
          tell(peers[rank].socket, Frame::Kind::Welcome, {}, Clock::now() + kAnswerTime));
    } else {
      static_cast<void>(tell_error(peers[rank].socket, joined.error()));
    }
  }
  if (!joined) {
    hear_out(sockets, Clock::now() + kHearOut);
  }
  return joined;
}

Status join_others(const Launch& launch, const Fields& table, int listener, Milliseconds patience,
                   std::vector<Peer>& peers) {
  Joining joining(launch, peers, Clock::now() + patience);  // before rank 0 gives up
  const Status joined = joining.connect(table, listener);
  return joining.end(joined, Clock::now() + patience + 2 * kGrace);  // after rank 0 gave up
}

}  // namespace bv::comm
