#include "core/comm/threads.hpp"

#include <condition_variable>
#include <deque>
#include <thread>

namespace bv::comm {

/// What all ranks see.
struct ThreadWorld::Board {
  enum class State { Running, Left, Lost, Failed };
  struct Seat {
    State state = State::Running;
    Error why;
    bool passed_on = false;  // of `why`
    std::string word;        // of Left
    Link* link = nullptr;
    std::vector<std::deque<std::pair<std::string, Bytes>>> from;  // by sender
  };

  std::mutex mutex;
  std::condition_variable changed;
  std::vector<Seat> seats;
  Milliseconds patience{0};
};

namespace {

using Board = ThreadWorld::Board;

class ThreadLink : public Link {
 public:
  ThreadLink(int rank, int size, const std::shared_ptr<Board>& board)
      : Link(rank, size, board->patience), board_(board) {
    const std::lock_guard lock(board_->mutex);
    seat().link = this;
  }
  ThreadLink(const ThreadLink&) = delete;
  ThreadLink& operator=(const ThreadLink&) = delete;
  ThreadLink(ThreadLink&&) = delete;
  ThreadLink& operator=(ThreadLink&&) = delete;
  ~ThreadLink() override { end_with(Board::State::Lost, {}); }

  void leave(std::string_view word) override {
    {
      const std::lock_guard lock(board_->mutex);
      seat().word = word.empty() ? seat().word : word;
    }
    end_with(Board::State::Left, {});
  }

 protected:
  void post(int to, std::string_view label, std::span<const std::byte> bytes) override {
    {
      const std::lock_guard lock(board_->mutex);
      seat_of(to).from[static_cast<std::size_t>(rank())].emplace_back(
          std::string(label), Bytes(bytes.begin(), bytes.end()));
    }
    board_->changed.notify_all();
  }

  Arrival take(int from, Milliseconds most, News news) override {
    std::unique_lock lock(board_->mutex);
    Arrival out;
    board_->changed.wait_for(lock, most, [&] {
      out = look(from, news);
      return out.kind != Arrival::Kind::Nothing;
    });
    return out;
  }

  std::optional<Doing> ask(int rank, Milliseconds /*most*/) override {
    const std::lock_guard lock(board_->mutex);
    Link* other = seat_of(rank).link;
    return other == nullptr ? std::nullopt : std::optional(other->doing());
  }

  void tell_failure(const Error& why, bool passed_on) override {
    end_with(Board::State::Failed, why, passed_on);
  }
  [[nodiscard]] std::string host_of(int /*rank*/) const override { return ""; }

 private:
  Board::Seat& seat_of(int rank) { return board_->seats[static_cast<std::size_t>(rank)]; }
  Board::Seat& seat() { return seat_of(rank()); }

  Arrival look(int from, News news) {
    auto& queue = seat().from[static_cast<std::size_t>(from)];
    Arrival out;
    if (!queue.empty()) {
      out.kind = Arrival::Kind::Message;
      out.from = from;
      out.label = std::move(queue.front().first);
      out.bytes = std::move(queue.front().second);
      queue.pop_front();
      return out;
    }
    for (int other = 0; other < size(); ++other) {
      const Board::Seat& one = seat_of(other);
      if (news != News::OfAll && other != from) {
        continue;
      }
      out.from = other;
      out.why = one.why;
      out.passed_on = one.passed_on;
      // A word is an end; whoever waits for more than that rank hears of the failure all the same.
      const bool is_news = news == News::OfAll || (news == News::OfOne && one.word.empty());
      if (one.state == Board::State::Failed && other != rank() && is_news) {
        out.kind = Arrival::Kind::Failed;
        return out;
      }
      const bool gone = one.state == Board::State::Failed && one.link == nullptr;
      if (one.state == Board::State::Lost || (gone && one.word.empty())) {
        out.kind = Arrival::Kind::Lost;
        return out;
      }
    }
    const Board::Seat& one = seat_of(from);
    const bool left = one.state == Board::State::Left || !one.word.empty();
    out.from = from;
    out.label = one.word;
    out.why = one.why;
    out.kind = left ? Arrival::Kind::Left : Arrival::Kind::Nothing;
    return out;
  }

  /// The first end of a rank is the one that counts.
  void end_with(Board::State state, const Error& why, bool passed_on = false) {
    {
      const std::lock_guard lock(board_->mutex);
      if (state != Board::State::Failed) {
        seat().link = nullptr;
      }
      if (seat().state == Board::State::Running) {
        seat().state = state;
        seat().why = why;
        seat().passed_on = passed_on;
      }
    }
    board_->changed.notify_all();
  }

  std::shared_ptr<Board> board_;
};

}  // namespace

ThreadWorld::ThreadWorld(int size, Milliseconds patience) : board_(std::make_shared<Board>()) {
  board_->patience = patience;
  board_->seats.resize(static_cast<std::size_t>(size));
  for (Board::Seat& seat : board_->seats) {
    seat.from.resize(static_cast<std::size_t>(size));
  }
}

ThreadWorld::~ThreadWorld() = default;

std::unique_ptr<Link> ThreadWorld::link(int rank) {
  return std::make_unique<ThreadLink>(rank, static_cast<int>(board_->seats.size()), board_);
}

std::vector<Status> run_world(int size, Milliseconds patience,
                              const std::function<Status(Link&)>& work) {
  ThreadWorld world(size, patience);
  std::vector<std::unique_ptr<Link>> links;
  for (int rank = 0; rank < size; ++rank) {
    links.push_back(world.link(rank));
  }
  std::vector<Status> out(static_cast<std::size_t>(size), Status(Done{}));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    const auto at = static_cast<std::size_t>(rank);
    threads.emplace_back([&, at] {
      try {
        out[at] = work(*links[at]);
      } catch (const std::exception& thrown) {
        out[at] = fail(Code::Assertion, thrown.what());
        links[at].reset();
        return;
      }
      if (out[at]) {
        links[at]->leave();
      } else {
        links[at]->fail_all(out[at].error());
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  return out;
}

}  // namespace bv::comm
