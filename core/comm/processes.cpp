#include "core/comm/processes.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <system_error>
#include <thread>

#include "core/base/text.hpp"
#include "core/comm/sockets.hpp"

namespace bv::comm {
namespace {

/// How long the last words of a rank may take to be sent.
constexpr Milliseconds kLastWords{2000};
constexpr Milliseconds kHearOut{300};
/// A line of an error that is not the sender's own.
constexpr const char* kPassedOn = "passed on\n";

std::string doing_text(const Doing& doing) {
  return fields_text({{"progress", std::to_string(doing.progress)},
                      {"waits", doing.waits_for < 0 ? "" : std::to_string(doing.waits_for)},
                      {"in", doing.in}});
}

Doing doing_from(std::string_view text) {
  constexpr std::int64_t kMost = std::int64_t{1} << 62;
  const Fields fields = fields_from(text);
  Doing out;
  out.progress = number_field(fields, "progress", kMost).value_or(0);
  out.waits_for = static_cast<int>(number_field(fields, "waits", 1 << 30).value_or(-1));
  out.in = field(fields, "in");
  return out;
}

class SocketLink : public Link {
 public:
  SocketLink(const Launch& launch, std::vector<Peer> peers, Milliseconds patience)
      : Link(launch.rank, launch.size, patience),
        seats_(static_cast<std::size_t>(launch.size)),
        wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    for (std::size_t i = 0; i < peers.size(); ++i) {
      seats_[i].socket = std::move(peers[i].socket);
      seats_[i].reader = std::move(peers[i].reader);
      seats_[i].host = std::move(peers[i].host);
      several_hosts_ = several_hosts_ || seats_[i].host != launch.host;
    }
    for (std::size_t i = 0; i < seats_.size(); ++i) {
      take_frames(seats_[i]);  // what came early
    }
  }
  SocketLink(const SocketLink&) = delete;
  SocketLink& operator=(const SocketLink&) = delete;
  SocketLink(SocketLink&&) = delete;
  SocketLink& operator=(SocketLink&&) = delete;
  ~SocketLink() override {
    {
      const std::lock_guard lock(mutex_);
      ends_at_ = Clock::now() + kLastWords;
    }
    wake();
    if (carrier_.joinable()) {
      carrier_.join();
    }
  }

  /// Sends and hears from now on. Throws std::system_error where the system has no thread.
  void start() {
    carrier_ = std::thread([this] { carry(); });
  }

  /// Without start(): the others are told all the same.
  Error end_without_carrier(Error why) {
    std::vector<int> open;
    for (const Seat& seat : seats_) {
      if (seat.socket.number() >= 0) {
        open.push_back(seat.socket.number());
        static_cast<void>(send_all(seat.socket.number(),
                                   encoded(Frame::Kind::Failed, "", bytes_of(error_fields(why))),
                                   Clock::now() + kLastWords));
      }
    }
    hear_out(open, Clock::now() + kHearOut);
    return why;
  }

  void leave(std::string_view word) override { to_all(Frame::Kind::Left, word); }

 protected:
  void post(int to, std::string_view label, std::span<const std::byte> bytes) override {
    queue(static_cast<std::size_t>(to), encoded(Frame::Kind::Message, label, bytes));
    wake();
  }

  Arrival take(int from, Milliseconds most, News news) override {
    std::unique_lock lock(mutex_);
    Arrival out;
    changed_.wait_for(lock, most, [&] {
      out = look(from, news);
      return out.kind != Arrival::Kind::Nothing;
    });
    return out;
  }

  std::optional<Doing> ask(int rank, Milliseconds most) override {
    Seat& seat = seats_[static_cast<std::size_t>(rank)];
    std::unique_lock lock(mutex_);
    seat.answer.reset();
    seat.out.push_back(encoded(Frame::Kind::Ask, "", {}));
    wake();
    changed_.wait_for(lock, most, [&] { return seat.answer.has_value() || is_over(seat); });
    return seat.answer;
  }

  void tell_failure(const Error& why, bool passed_on) override {
    to_all(Frame::Kind::Failed, error_fields(why) + (passed_on ? kPassedOn : ""));
  }

  [[nodiscard]] std::string host_of(int rank) const override {
    return several_hosts_ ? seats_[static_cast<std::size_t>(rank)].host : "";
  }

 private:
  enum class State { Open, Left, Lost, Failed };
  /// What is known of another rank. Guarded by mutex_, but for `socket`, `reader` and `host`.
  struct Seat {
    io::Descriptor socket;
    FrameReader reader;  // of the carrier
    std::string host;
    State state = State::Open;
    Error why;
    bool passed_on = false;  // of `why`
    std::string word;        // of Left
    std::deque<Frame> in;
    std::deque<Bytes> out;
    std::size_t sent = 0;  // of out.front()
    std::optional<Doing> answer;
  };

  /// One that has failed answers as long as it is there.
  [[nodiscard]] static bool is_over(const Seat& seat) {
    return seat.state == State::Left || seat.state == State::Lost || seat.socket.number() < 0;
  }

  void wake() const {
    const std::uint64_t one = 1;
    static_cast<void>(!::write(wake_.number(), &one, sizeof one));
  }

  void queue(std::size_t to, Bytes frame) {
    const std::lock_guard lock(mutex_);
    if (seats_[to].socket.number() >= 0) {
      seats_[to].out.push_back(std::move(frame));
    }
  }

  void to_all(Frame::Kind kind, std::string_view text) {
    for (std::size_t i = 0; i < seats_.size(); ++i) {
      if (static_cast<int>(i) != rank()) {
        queue(i, encoded(kind, "", bytes_of(text)));
      }
    }
    wake();
  }

  Arrival look(int from, News news) {
    Seat& seat = seats_[static_cast<std::size_t>(from)];
    Arrival out;
    if (!seat.in.empty()) {
      out.kind = Arrival::Kind::Message;
      out.from = from;
      out.label = std::move(seat.in.front().label);
      out.bytes = std::move(seat.in.front().bytes);
      seat.in.pop_front();
      return out;
    }
    // Who says why it stops knows more than the closing of a connection.
    for (const State state : {State::Failed, State::Lost}) {
      for (std::size_t i = 0; i < seats_.size(); ++i) {
        const bool counts = news == News::OfAll || static_cast<int>(i) == from;
        // A word is an end; whoever waits for more than that rank hears of the failure all the
        // same.
        const bool is_news = state == State::Lost || news == News::OfAll ||
                             (news == News::OfOne && seats_[i].word.empty());
        if (counts && is_news && seats_[i].state == state) {
          out.kind = state == State::Failed ? Arrival::Kind::Failed : Arrival::Kind::Lost;
          out.from = static_cast<int>(i);
          out.why = seats_[i].why;
          out.passed_on = seats_[i].passed_on;
          return out;
        }
      }
    }
    out.from = from;
    out.label = seat.word;
    out.why = seat.why;
    const bool left = seat.state == State::Left || !seat.word.empty();
    out.kind = left ? Arrival::Kind::Left : Arrival::Kind::Nothing;
    if (!left && seat.state == State::Failed && seat.socket.number() < 0) {
      out.kind = Arrival::Kind::Lost;  // it failed, and went without a word
    }
    return out;
  }

  // The carrier: the one thread that reads and writes sockets.

  void carry() {
    while (!is_done()) {
      std::vector<pollfd> all = {{wake_.number(), POLLIN, 0}};
      {
        const std::lock_guard lock(mutex_);
        for (const Seat& seat : seats_) {
          const bool open = seat.socket.number() >= 0 && !is_gone(seat);
          const short writes = static_cast<short>(seat.out.empty() ? 0 : POLLOUT);
          all.push_back({open ? seat.socket.number() : -1, static_cast<short>(POLLIN | writes), 0});
        }
      }
      const int ready = ::poll(all.data(), all.size(), 100);
      look_whether_stuck();
      if (ready < 0) {
        continue;
      }
      std::uint64_t count = 0;
      static_cast<void>(!::read(wake_.number(), &count, sizeof count));
      for (std::size_t i = 0; i < seats_.size(); ++i) {
        const short events = all[i + 1].revents;
        if ((events & POLLOUT) != 0) {
          write_to(seats_[i]);
        }
        if ((events & (POLLIN | POLLHUP | POLLERR)) != 0) {
          read_from(seats_[i]);
        }
      }
    }
    std::vector<int> open;
    for (const Seat& seat : seats_) {
      if (seat.socket.number() >= 0) {
        open.push_back(seat.socket.number());
      }
    }
    hear_out(open, std::min(Clock::now() + kHearOut, *ends_at_));
  }

  [[nodiscard]] static bool has_done(const Seat& seat) {
    return std::any_of(seat.in.begin(), seat.in.end(),
                       [](const Frame& one) { return one.label == kAllDone; });
  }
  [[nodiscard]] static bool is_gone(const Seat& seat) { return seat.state == State::Lost; }

  /// At the end everything that was said goes out first, within a short time.
  [[nodiscard]] bool is_done() {
    const std::lock_guard lock(mutex_);
    if (!ends_at_) {
      return false;
    }
    const bool quiet = std::all_of(seats_.begin(), seats_.end(), [](const Seat& seat) {
      return seat.out.empty() || is_gone(seat);
    });
    return quiet || Clock::now() >= *ends_at_;
  }

  void write_to(Seat& seat) {
    const std::lock_guard lock(mutex_);
    while (!seat.out.empty()) {
      const Bytes& frame = seat.out.front();
      const ssize_t sent = ::send(seat.socket.number(), frame.data() + seat.sent,
                                  frame.size() - seat.sent, MSG_NOSIGNAL);
      if (sent < 0) {
        return;  // full, or over: the reading side tells which
      }
      seat.sent += static_cast<std::size_t>(sent);
      if (seat.sent < frame.size()) {
        return;
      }
      seat.out.pop_front();
      seat.sent = 0;
    }
  }

  void read_from(Seat& seat) {
    const bool open = read_some(seat.socket.number(), seat.reader);
    take_frames(seat);
    if (!open) {
      const std::lock_guard lock(mutex_);
      seat.state = seat.state == State::Open ? State::Lost : seat.state;
      // Rank 0 knows whether the part of another one was done.
      const bool counts = rank() == 0 ? !has_done(seat) : &seat == &seats_.front();
      if (seat.state == State::Lost && counts) {
        world_breaks();
      }
      seat.out.clear();
      seat.socket = io::Descriptor();
      changed_.notify_all();
    }
  }

  void take_frames(Seat& seat) {
    while (auto frame = seat.reader.next()) {
      const std::string answer =
          frame->kind == Frame::Kind::Ask ? doing_text(doing()) : std::string();
      const std::lock_guard lock(mutex_);
      switch (frame->kind) {
        case Frame::Kind::Message:
          seat.in.push_back(std::move(*frame));
          break;
        case Frame::Kind::Ask:
          seat.out.push_back(encoded(Frame::Kind::Answer, "", bytes_of(answer)));
          break;
        case Frame::Kind::Answer:
          seat.answer = doing_from(text_of(frame->bytes));
          break;
        case Frame::Kind::Failed:
          seat.state = State::Failed;
          world_breaks();
          seat.why = error_from(text_of(frame->bytes));
          seat.passed_on = text_of(frame->bytes).ends_with(std::string("\n") + kPassedOn);
          break;
        case Frame::Kind::Left:
          seat.state = seat.state == State::Failed ? State::Failed : State::Left;
          seat.word = frame->bytes.empty() ? seat.word : text_of(frame->bytes);
          break;
        case Frame::Kind::Hello:
        case Frame::Kind::Welcome:
        case Frame::Kind::Table:
        case Frame::Kind::Peer:
          break;  // too late to mean anything
      }
    }
    changed_.notify_all();
  }

  std::vector<Seat> seats_;
  io::Descriptor wake_;
  bool several_hosts_ = false;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Clock::time_point> ends_at_;
  std::thread carrier_;
};

}  // namespace

Result<std::unique_ptr<Link>> enter(const Launch& launch, Milliseconds patience) {
  BV_TRY(peers, meet(launch, patience));
  auto link = std::make_unique<SocketLink>(launch, std::move(peers), patience);
  try {
    link->start();
  } catch (const std::system_error&) {
    return link->end_without_carrier(
        fail(Code::RankLost, fmt::format("rank {} on host {} can start no thread, and a process of "
                                         "a world needs one for its connections",
                                         launch.rank, readable(launch.host)))
            .advise("raise the limit of processes (ulimit -u, or pids.max of the cgroup)"));
  }
  return std::unique_ptr<Link>(std::move(link));
}

}  // namespace bv::comm
