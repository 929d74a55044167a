#include "core/comm/link.hpp"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "core/base/text.hpp"

namespace bv::comm {

using Clock = std::chrono::steady_clock;

namespace {

std::int64_t nanoseconds(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

Bytes bytes_of(std::string_view text) {
  Bytes out(text.size());
  std::memcpy(out.data(), text.data(), text.size());
  return out;
}

std::string text_of(std::span<const std::byte> bytes) {
  std::string out(bytes.size(), '\0');
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

/// The rank at the end of a chain of ranks that wait for each other.
struct Link::Suspect {
  enum class Kind { Silent, Works, Ring };  // Ring: the chain comes back to a rank of it
  Kind kind = Kind::Works;
  int rank = -1;
  Doing doing;
  bool operator==(const Suspect&) const = default;
};

Link::Link(int rank, int size, Milliseconds patience)
    : rank_(rank), size_(size), patience_(patience) {
  BV_ASSERT(rank >= 0 && rank < size);
}

void Link::name_coordinates(std::vector<std::string> coordinates) {
  coordinates_ = std::move(coordinates);
}

std::string Link::name_of(int rank) const {
  const auto at = static_cast<std::size_t>(rank);
  const bool known = at < coordinates_.size() && !coordinates_[at].empty();
  const std::string host = host_of(rank);
  return fmt::format("rank {}{}{}", rank, known ? fmt::format(" ({})", coordinates_[at]) : "",
                     host.empty() ? "" : fmt::format(" on host {}", readable(host)));
}

void Link::publish(int waits_for, std::string_view label) {
  const std::lock_guard lock(doing_mutex_);
  waits_for_ = waits_for;
  waits_in_ = label;
}

Doing Link::doing() {
  const std::lock_guard lock(doing_mutex_);
  if (untold_ && waits_for_ < 0) {
    // A process that waits for a file which does not come takes no time, but for a thread that
    // shows how far it is: far less than a slow disk costs.
    constexpr std::int64_t kLeast = 1'000'000;
    constexpr std::int64_t kShare = 500;
    const std::int64_t now = nanoseconds(CLOCK_MONOTONIC);
    const std::int64_t worked = nanoseconds(CLOCK_PROCESS_CPUTIME_ID) -
                                nanoseconds(CLOCK_THREAD_CPUTIME_ID);  // that of who answers
    if (worked < worked_ || worked - worked_ >= std::max(kLeast, (now - worked_at_) / kShare)) {
      worked_ = worked;
      worked_at_ = now;
      progress_ += 1;
    }
  }
  return {progress_.load(), waits_for_, waits_in_};
}

void Link::look_whether_stuck() {
  const Doing now = doing();
  // Who waits for another rank ends by itself.
  if (!broken_ || now.waits_for >= 0 || !(now == last_seen_)) {
    last_seen_ = now;
    moved_at_ = Clock::now();
  } else if (when_stuck_ && Clock::now() - moved_at_ >= patience_) {
    when_stuck_();
  }
}

Error Link::note(Error why) {
  if (!failure_) {
    failure_ = why;
    tell_failure(why, true);
  }
  return why;
}

void Link::fail_all(const Error& why) {
  if (!failure_) {
    failure_ = why;
    tell_failure(why, false);
  }
}

Status Link::send(int to, std::string_view label, std::span<const std::byte> bytes) {
  if (failure_) {
    return *failure_;
  }
  BV_ASSERT(to >= 0 && to < size_ && to != rank_);
  post(to, label, bytes);
  return Done{};
}

Arrival Link::await(int from, std::string_view label, News news) {
  BV_ASSERT(from >= 0 && from < size_ && from != rank_);
  publish(from, label);
  const Milliseconds step = std::max(Milliseconds(1), patience_ / 8);
  auto since = Clock::now();
  Suspect last;
  for (;;) {
    Arrival arrival = take(from, step, news);
    if (arrival.kind != Arrival::Kind::Nothing) {
      publish(-1, "");
      return arrival;
    }
    Suspect suspect = follow(from);
    if (suspect != last) {
      last = std::move(suspect);
      since = Clock::now();
    } else if (Clock::now() - since >= patience_) {
      return {Arrival::Kind::Stuck, last.rank, "", {}, stuck(last, label)};
    }
  }
}

Result<Bytes> Link::receive(int from, std::string_view label) {
  if (failure_) {
    return *failure_;
  }
  Arrival arrival = await(from, label, News::OfAll);
  if (arrival.kind == Arrival::Kind::Message && arrival.label == label) {
    advance();
    return std::move(arrival.bytes);
  }
  return note(error_of(arrival, label));
}

Status Link::all_are_here() {
  if (failure_) {
    return *failure_;
  }
  const Arrival arrival = take(rank_, Milliseconds(0), News::OfAll);  // nobody sends to itself
  const bool gone = arrival.kind == Arrival::Kind::Lost || arrival.kind == Arrival::Kind::Failed;
  return gone ? Status(note(error_of(arrival, "bytes of a collective"))) : Status(Done{});
}

Error Link::blame(std::span<const int> ranks, Error why) {
  if (auto here = all_are_here(); !here) {
    return here.error();
  }
  for (const int rank : ranks) {
    if (rank != rank_ && !ask(rank, std::max(Milliseconds(1), patience_ / 4))) {
      if (auto here = all_are_here(); !here) {  // it ended meanwhile
        return here.error();
      }
      return note(stuck({Suspect::Kind::Silent, rank, {}}, "bytes of a collective"));
    }
  }
  return why;
}

Link::Suspect Link::follow(int from) {
  const Milliseconds most = std::max(Milliseconds(1), patience_ / 4);
  std::set<int> passed = {rank_};
  for (int at = from;;) {
    const std::optional<Doing> doing = ask(at, most);
    if (!doing) {
      return {Suspect::Kind::Silent, at, {}};
    }
    if (doing->waits_for < 0 || doing->waits_for >= size_) {
      return {Suspect::Kind::Works, at, *doing};
    }
    passed.insert(at);
    if (passed.contains(doing->waits_for)) {
      return {Suspect::Kind::Ring, at, *doing};
    }
    at = doing->waits_for;
  }
}

/// The code is that of the cause, and so is the exit code of all; to be told to stop is no verdict.
Error Link::stopped_with(const Arrival& arrival) const {
  Error out = arrival.why;
  if (arrival.passed_on || out.code == Code::RankLost || out.code == Code::RankDiverged) {
    return out;
  }
  out.code = out.code == Code::Stopped ? Code::RankLost : out.code;
  out.message = fmt::format("{} stopped: {}", name_of(arrival.from), out.message);
  out.help = out.help.empty() ? "look at the output of that process, then run again" : out.help;
  return out;
}

Error Link::error_of(const Arrival& arrival, std::string_view label) const {
  const std::string who = name_of(arrival.from);
  switch (arrival.kind) {
    case Arrival::Kind::Failed:
      return stopped_with(arrival);
    case Arrival::Kind::Lost:
      return fail(Code::RankLost, fmt::format("{} ended while the others were at work", who))
          .fact(fmt::format("{} was waiting for: {}", name_of(rank_), label))
          .advise("look at the output of that process and at the log of its host, then run again");
    case Arrival::Kind::Left:
      return fail(Code::RankDiverged,
                  fmt::format("{} is finished, and {} still waits for it", who, name_of(rank_)))
          .pair("its end", std::string(label))
          .advise("start every process with the same command line and the same files");
    case Arrival::Kind::Stuck:
      return arrival.why;
    case Arrival::Kind::Message:
    case Arrival::Kind::Nothing:
      break;
  }
  if (arrival.from == 0) {  // the others do what rank 0 does
    return fail(Code::RankDiverged,
                fmt::format("{} does something else than {}", name_of(rank_), who))
        .pair(std::string(label), readable(arrival.label))
        .advise("start every process with the same command line and the same files");
  }
  return fail(Code::RankDiverged,
              fmt::format("{} does something else than {}", who, name_of(rank_)))
      .pair(readable(arrival.label), std::string(label))
      .advise("start every process with the same command line and the same files");
}

Error Link::stuck(const Suspect& suspect, std::string_view label) const {
  const double seconds = std::chrono::duration<double>(patience_).count();
  const std::string who = name_of(suspect.rank);
  if (suspect.kind == Suspect::Kind::Ring) {
    return fail(Code::RankDiverged, fmt::format("{} waits for {}, and that one waits too", who,
                                                name_of(suspect.doing.waits_for)))
        .pair(readable(suspect.doing.in), std::string(label))
        .advise("start every process with the same command line and the same files");
  }
  return fail(Code::RankLost, fmt::format("{} {} for {} s", who,
                                          suspect.kind == Suspect::Kind::Silent ? "does not answer"
                                                                                : "does not move",
                                          seconds))
      .fact(fmt::format("{} was waiting for: {}", name_of(rank_), label))
      .advise("look at that process and its host; --patience SECONDS allows for slower ones");
}

}  // namespace bv::comm
