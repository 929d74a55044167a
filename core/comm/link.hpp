#pragma once
// One rank of a world, and how it reaches the others. Every wait ends: a rank that ended, does not
// move any more or does something else is named with its coordinates, and all others fail with the
// same error.

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"

namespace bv::comm {

class CarrierMaker;

using Bytes = std::vector<std::byte>;
using Milliseconds = std::chrono::milliseconds;

[[nodiscard]] Bytes bytes_of(std::string_view text);
[[nodiscard]] std::string text_of(std::span<const std::byte> bytes);

/// Of the last message of a rank to rank 0.
inline constexpr std::string_view kAllDone = "all work is done";

/// What a rank is doing, as it tells the others.
struct Doing {
  std::int64_t progress = 0;  // grows while it works and with every message that it gets
  int waits_for = -1;         // a rank; -1: it works
  std::string in;             // the label that it waits for
  bool operator==(const Doing&) const = default;
};

/// What came while a rank waited.
struct Arrival {
  enum class Kind { Nothing, Message, Left, Lost, Failed, Stuck };
  Kind kind = Kind::Nothing;
  int from = -1;
  std::string label;       // of a message; of Left: the last word
  Bytes bytes;             // of a message
  Error why;               // of Failed: what the rank stopped with; of Stuck: who does not move
  bool passed_on = false;  // of Failed: `why` is not its own, and names who it is about
};

/// Point to point. Messages of one rank to another arrive in order, and sending does not wait.
/// `advance`, `doing` and `world_is_broken` may be called on any thread, everything else on one.
class Link {
 public:
  /// `patience`: how long another rank may neither move nor answer.
  Link(int rank, int size, Milliseconds patience);
  virtual ~Link() = default;
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;
  Link(Link&&) = delete;
  Link& operator=(Link&&) = delete;

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] Milliseconds patience() const { return patience_; }

  /// What stands behind "rank 3" in messages: "tp1 pp0 ep0", one for each rank, or nothing.
  void name_coordinates(std::vector<std::string> coordinates);
  /// "rank 3 (tp1 pp0 ep0) on host gpu7".
  [[nodiscard]] std::string name_of(int rank) const;

  /// `label` says what is sent; the other side must wait for just that. Errors: failure().
  [[nodiscard]] Status send(int to, std::string_view label, std::span<const std::byte> bytes);
  /// The next message of `from`. Errors: RankLost for a rank that ended or does not move;
  /// RankDiverged for one that sent something else, left, or waits for this one in another place.
  /// What this rank waits for may wait itself: the one that is named is the one at the end of the
  /// chain.
  [[nodiscard]] Result<Bytes> receive(int from, std::string_view label);

  /// For waits that are not for a message. Errors: RankLost and what a rank said that failed, for
  /// the whole world; one that hangs is not seen.
  [[nodiscard]] Status all_are_here();
  /// The error that names who of `ranks` is gone or does not answer; `why` when all do.
  [[nodiscard]] Error blame(std::span<const int> ranks, Error why);

  /// This rank moves: to be called now and then during long work.
  void advance() { ++progress_; }
  /// The work that follows cannot tell how far it is: while this holds, the rank counts as moving
  /// as long as the process takes time of a processor, beyond that of answers.
  void work_untold(bool untold) { untold_ = untold; }
  [[nodiscard]] Doing doing();

  /// Another rank has failed, or is lost before its work was done: whatever this one does is for
  /// nothing. On any thread, and at no cost.
  [[nodiscard]] bool world_is_broken() const { return broken_; }
  /// Called when that is so and this rank neither moves nor looks for as long as the patience
  /// lasts: it is stuck in a call that does not return. On another thread; not to return.
  void when_stuck(std::function<void()> end) { when_stuck_ = std::move(end); }

  /// Groups that are made from now on leave the bytes of their collectives to its carriers.
  void carry_by(std::shared_ptr<CarrierMaker> maker) { carriers_ = std::move(maker); }
  [[nodiscard]] const std::shared_ptr<CarrierMaker>& carriers() const { return carriers_; }

  /// The first error of the world; every later call fails with it.
  [[nodiscard]] const std::optional<Error>& failure() const { return failure_; }
  /// This rank cannot go on: tells all others why. They stop with it.
  void fail_all(const Error& why);
  /// What rank 0 says when it ends in a world that has failed.
  struct FailedEnd {
    std::string word;          // of Link::leave
    std::optional<Error> why;  // what it stopped with, as far as it said so
  };
  /// For the other ranks, after failure(): waits for rank 0 to end. Nothing when rank 0 is gone, or
  /// does not answer, or says no word within the patience.
  [[nodiscard]] std::optional<FailedEnd> end_of_failed_host();

  /// This rank has done all of its work; from now on it does nothing but end. On rank 0: returns
  /// when all have. A second call does nothing. Errors: those of receive.
  [[nodiscard]] Status all_done();
  /// The end of the world's work: what rank 0 says last, on all ranks. Rank 0 says it when all are
  /// done; a rank that is lost after that takes nothing from it. Whoever loses rank 0 before its
  /// word asks the others for it: all that are left end alike. When it returns on rank 0, all that
  /// are there have heard the word. Errors: those of receive, for all ranks.
  [[nodiscard]] Result<std::string> last_word(std::string_view mine);
  /// The normal end. A link that goes without it is a lost rank to the others. `word`: the last
  /// word of rank 0, for those who have not heard it.
  virtual void leave(std::string_view word = "") = 0;

 protected:
  void world_breaks() { broken_ = true; }
  /// Of a link that has a thread of its own, now and then.
  void look_whether_stuck();
  virtual void post(int to, std::string_view label, std::span<const std::byte> bytes) = 0;
  /// What ends a wait: the end or failure of anybody, of the rank alone that is waited for, or only
  /// that this rank has ended.
  enum class News { OfAll, OfOne, OfItsEnd };
  /// Waits at most `most` for a message of `from`, or for news that end the wait.
  virtual Arrival take(int from, Milliseconds most, News news) = 0;
  /// What another rank says that it does; nothing when it does not answer within `most`.
  virtual std::optional<Doing> ask(int rank, Milliseconds most) = 0;
  /// `passed_on`: the error of another rank, which it names.
  virtual void tell_failure(const Error& why, bool passed_on) = 0;
  /// "gpu7"; "" when all ranks are on one host.
  [[nodiscard]] virtual std::string host_of(int rank) const = 0;

 private:
  struct Suspect;
  /// What ends the wait; Stuck when nothing moves for as long as the patience lasts.
  [[nodiscard]] Arrival await(int from, std::string_view label, News news);
  [[nodiscard]] Suspect follow(int from);
  [[nodiscard]] Error error_of(const Arrival& arrival, std::string_view label) const;
  [[nodiscard]] Error stopped_with(const Arrival& arrival) const;
  [[nodiscard]] Error stuck(const Suspect& suspect, std::string_view label) const;
  Error note(Error why);  // of another rank
  [[nodiscard]] Result<std::string> word_of_host();
  [[nodiscard]] Result<std::string> word_of_others(Error why);
  [[nodiscard]] Status wait_until_heard();
  void publish(int waits_for, std::string_view label);

  int rank_;
  int size_;
  Milliseconds patience_;
  std::vector<std::string> coordinates_;
  std::optional<Error> failure_;
  bool done_ = false;  // all_done
  std::shared_ptr<CarrierMaker> carriers_;
  std::atomic<std::int64_t> progress_{0};
  std::atomic<bool> untold_{false};
  std::atomic<bool> broken_{false};
  std::function<void()> when_stuck_;
  Doing last_seen_;  // of look_whether_stuck
  std::chrono::steady_clock::time_point moved_at_ = std::chrono::steady_clock::now();
  /// Nanoseconds of processors and of the clock, when they counted as progress last.
  std::int64_t worked_ = 0;
  std::int64_t worked_at_ = 0;
  std::mutex doing_mutex_;
  int waits_for_ = -1;
  std::string waits_in_;
};

}  // namespace bv::comm
