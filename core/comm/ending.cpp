// How the ranks of a world end alike: all say that they are done, rank 0 says the last word, and
// whoever loses rank 0 in between asks the others for it.

#include <algorithm>

#include "core/comm/link.hpp"

namespace bv::comm {
namespace {

constexpr std::string_view kLastWord = "the last word of rank 0";
/// How long rank 0 waits to be heard: the word stands, and what is slow then only ends later.
constexpr Milliseconds kHeard{2000};

using Clock = std::chrono::steady_clock;

Milliseconds left_until(Clock::time_point until) {
  return std::max(Milliseconds(0), std::chrono::duration_cast<Milliseconds>(until - Clock::now()));
}

}  // namespace

Status Link::all_done() {
  if (failure_) {
    return *failure_;
  }
  if (done_) {
    return Done{};
  }
  done_ = true;
  if (rank_ != 0) {
    return send(0, kAllDone, {});
  }
  for (int rank = 1; rank < size_; ++rank) {
    BV_CHECK(receive(rank, kAllDone));
  }
  return Done{};
}

Result<std::string> Link::last_word(std::string_view mine) {
  BV_ASSERT(!mine.empty());
  BV_CHECK(all_done());
  if (rank_ == 0) {
    leave(mine);
    BV_CHECK(wait_until_heard());
    return std::string(mine);
  }
  BV_TRY(word, word_of_host());
  leave(word);
  return std::move(word);
}

/// The end of any other rank is none of this rank's business: rank 0 knows whether it was needed.
Result<std::string> Link::word_of_host() {
  Arrival arrival = await(0, kLastWord, News::OfOne);
  const bool host_is_gone = arrival.kind == Arrival::Kind::Lost ||
                            (arrival.kind == Arrival::Kind::Stuck && arrival.from == 0);
  if (host_is_gone) {
    return word_of_others(error_of(arrival, kLastWord));
  }
  if (arrival.kind == Arrival::Kind::Left && !arrival.label.empty()) {
    return std::move(arrival.label);
  }
  return note(error_of(arrival, kLastWord));
}

/// All that have not heard the word say so at once, and wait for the others to say the same: one
/// that has heard it told all before it ended.
Result<std::string> Link::word_of_others(Error why) {
  static_cast<void>(note(why));
  const auto until = Clock::now() + patience_;
  for (int rank = 1; rank < size_; ++rank) {
    Arrival arrival;
    do {
      arrival = rank == rank_ ? Arrival{} : take(rank, left_until(until), News::OfOne);
    } while (arrival.kind == Arrival::Kind::Message);
    if (arrival.kind == Arrival::Kind::Left && !arrival.label.empty()) {
      failure_.reset();
      return std::move(arrival.label);
    }
  }
  return why;
}

Status Link::wait_until_heard() {
  const auto until = Clock::now() + std::min(patience_, kHeard);
  for (int rank = 1; rank < size_; ++rank) {
    Arrival arrival;
    do {
      arrival = take(rank, left_until(until), News::OfOne);
    } while (arrival.kind == Arrival::Kind::Message);
    if (arrival.kind == Arrival::Kind::Failed) {
      return note(error_of(arrival, kLastWord));
    }
  }
  return Done{};
}

}  // namespace bv::comm
