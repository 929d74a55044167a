#pragma once
// Who comes to a world that comes together: ranks that say who they are, and strangers.

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/comm/rendezvous.hpp"
#include "core/comm/sockets.hpp"

namespace bv::comm {

inline constexpr std::uint64_t kHelloBytesMax = std::uint64_t{1} << 12;
/// Of a rank that is asked something while the world comes together.
inline constexpr Milliseconds kAnswerTime{3000};

/// A process that said who it is.
struct Guest {
  io::Descriptor socket;
  FrameReader reader;
  std::string host;
  std::string address;
  int port = 0;
};

[[nodiscard]] Fields hello_of(const Launch& launch, int port);
[[nodiscard]] bool tell(const io::Descriptor& socket, Frame::Kind kind, const Fields& fields,
                        Clock::time_point until);
bool tell_error(const io::Descriptor& socket, const Error& why);

/// After a connection that was not made or taken. Errors: RankLost when this process may open no
/// more files.
[[nodiscard]] Status check_open_files(const Launch& launch);

/// Connections that have not said yet who they are, and those that have.
class Door {
 public:
  /// Frames of this kind say who it is; `launch` must outlive the door.
  Door(const Launch& launch, int listener, Frame::Kind kind, std::set<int> wanted)
      : launch_(launch), listener_(listener), kind_(kind), wanted_(std::move(wanted)) {}

  /// A connection that may end the wait: `look` is called now and then, and when bytes came.
  struct Watch {
    int socket = -1;
    std::function<Status()> look = {};
  };
  /// Until all are here or the time is over; then `missing` says who is not. Errors: RankDiverged
  /// for a rank of this run that has another version or another size of the world, or that is
  /// there twice (it was told); RankLost when this process may open no more files; those of
  /// `watch`.
  [[nodiscard]] Status open_until(Clock::time_point until, const Watch& watch);
  [[nodiscard]] Status open_until(Clock::time_point until) { return open_until(until, Watch()); }
  /// After an error: tells all who came, and as many as are still to come when they come soon.
  void turn_all_away(const Error& why);

  [[nodiscard]] const std::set<int>& missing() const { return wanted_; }
  std::map<int, Guest>& guests() { return guests_; }
  /// Of those that were turned away, a sentence each: perhaps one of them is who is missing.
  [[nodiscard]] const std::set<std::string>& turned_away() const { return turned_away_; }

 private:
  struct Knock {
    Guest guest;
    Fields hello;
  };
  /// Takes out those that said who they are, and those that went away or said something else.
  std::vector<Knock> heard();
  /// False for one of another run, who is told nothing.
  bool tell_of_run(const Knock& knock, const Error& why) const;
  Status let_in(Clock::time_point until, int watched);
  Status listen_to_strangers();
  Status take(Guest guest, const Fields& hello);
  [[nodiscard]] std::string why_not(const Fields& hello);
  [[nodiscard]] bool is_of_run(const Fields& hello) const;

  const Launch& launch_;
  int listener_;
  Frame::Kind kind_;
  std::set<int> wanted_;
  std::vector<Guest> strangers_;
  std::map<int, Guest> guests_;
  std::set<std::string> turned_away_;
  std::size_t misfits_ = 0;  // of this run, and told why they cannot belong to it
};

}  // namespace bv::comm
