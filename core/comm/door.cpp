#include "core/comm/door.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <thread>

#include "core/base/text.hpp"

namespace bv::comm {
namespace {

constexpr std::string_view kHere = " is here already";
constexpr int kFilesBeside = 64;
constexpr Milliseconds kFullTime{20};  // between looks whether files can be opened again
constexpr std::size_t kStrangersMax = 1024;
constexpr std::size_t kTurnedAwayMax = 4;
constexpr Milliseconds kLate{5000};  // who comes so much later is told what was wrong

/// "rank 1 of 3 processes on host gpu7".
std::string who(const Fields& hello) {
  return fmt::format("rank {} of {} processes on host {}", readable(field(hello, "rank")),
                     readable(field(hello, "size")), readable(field(hello, "host")));
}

Error diverged(std::string message, std::string_view found, std::string wanted, std::string help) {
  return fail(Code::RankDiverged, std::move(message))
      .pair(readable(found), std::move(wanted))
      .advise(std::move(help));
}

}  // namespace

Fields hello_of(const Launch& launch, int port) {
  return {{"rank", std::to_string(launch.rank)},
          {"size", std::to_string(launch.size)},
          {"run", launch.run},
          {"command", launch.command},
          {"version", launch.version},
          {"host", launch.host},
          {"port", std::to_string(port)}};
}

bool tell(const io::Descriptor& socket, Frame::Kind kind, const Fields& fields,
          Clock::time_point until) {
  return send_all(socket.number(), encoded(kind, "", bytes_of(fields_text(fields))), until);
}

bool tell_error(const io::Descriptor& socket, const Error& why) {
  return send_all(socket.number(), encoded(Frame::Kind::Failed, "", bytes_of(error_fields(why))),
                  Clock::now() + kAnswerTime);
}

Status check_open_files(const Launch& launch) {
  const io::Descriptor one(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (one.number() >= 0 || (errno != EMFILE && errno != ENFILE)) {
    return Done{};
  }
  rlimit limit{};
  const bool of_process = errno == EMFILE && ::getrlimit(RLIMIT_NOFILE, &limit) == 0;
  return fail(Code::RankLost,
              fmt::format("rank {} on host {} can open no more files, and a world of {} processes "
                          "needs a connection between every two",
                          launch.rank, readable(launch.host), launch.size))
      .pair(of_process ? fmt::format("at most {} open files", limit.rlim_cur)
                       : "the limit of the whole host",
            fmt::format("some {} more than processes", kFilesBeside))
      .advise("raise the limit of open files (ulimit -n, and its ceiling ulimit -Hn)");
}

Status Door::open_until(Clock::time_point until, const Watch& watch) {
  while (!wanted_.empty() && Clock::now() < until) {
    BV_CHECK(let_in(until, watch.socket));
    BV_CHECK(listen_to_strangers());
    if (watch.look) {
      BV_CHECK(watch.look());
    }
  }
  return Done{};
}

Status Door::let_in(Clock::time_point until, int watched) {
  std::vector<pollfd> all = {{listener_, POLLIN, 0}, {watched, POLLIN, 0}};
  for (const Guest& stranger : strangers_) {
    all.push_back({stranger.socket.number(), POLLIN, 0});
  }
  static_cast<void>(::poll(all.data(), all.size(), std::min(until_ms(until), 200)));
  while (auto socket = accepted(listener_)) {
    if (strangers_.size() == kStrangersMax) {  // the one that has been silent longest
      strangers_.erase(strangers_.begin());
    }
    strangers_.push_back({std::move(*socket), FrameReader(kHelloBytesMax), "", "", 0});
  }
  return check_open_files(launch_);
}

std::vector<Door::Knock> Door::heard() {
  std::vector<Knock> out;
  for (std::size_t i = 0; i < strangers_.size();) {
    Guest& stranger = strangers_[i];
    const bool open = read_some(stranger.socket.number(), stranger.reader);
    auto frame = stranger.reader.next();
    if (!frame && open) {
      ++i;
      continue;
    }
    if (frame && frame->kind == kind_) {
      out.push_back({std::move(stranger), fields_from(text_of(frame->bytes))});
    }
    strangers_.erase(strangers_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  return out;
}

Status Door::listen_to_strangers() {
  Status all = Done{};
  for (Knock& knock : heard()) {
    if (!all) {
      misfits_ += tell_of_run(knock, all.error()) ? 1U : 0U;
    } else if (all = take(std::move(knock.guest), knock.hello); !all) {
      misfits_ += 1;
    }
  }
  return all;
}

bool Door::tell_of_run(const Knock& knock, const Error& why) const {
  const bool ours = is_of_run(knock.hello);
  if (ours) {
    tell_error(knock.guest.socket, why);
  }
  return ours;
}

/// "" for one of ours that is missing.
std::string Door::why_not(const Fields& hello) {
  const auto rank = number_field(hello, "rank", launch_.size - 1);
  if (!is_of_run(hello)) {
    return field(hello, "command") == launch_.command ? "it is of another run"
                                                      : "it was started with another command";
  }
  if (number_field(hello, "size", std::int64_t{1} << 30) != launch_.size) {
    return fmt::format("this world has {} processes", launch_.size);
  }
  if (!rank || !number_field(hello, "port", 65535)) {
    return "it does not say who it is";
  }
  const int number = static_cast<int>(*rank);
  if (const auto before = guests_.find(number); before != guests_.end()) {
    FrameReader ignored(kHelloBytesMax);
    if (!read_some(before->second.socket.number(), ignored)) {  // it gave up, and comes again
      guests_.erase(before);
      wanted_.insert(number);
    }
  }
  return wanted_.contains(number) ? "" : fmt::format("rank {}{}", number, kHere);
}

/// One of ours joins; what is of another world is turned away. A run that has a name is one world:
/// what does not fit into it is wrong. Without a name it may be another one at the same port.
Status Door::take(Guest guest, const Fields& hello) {
  if (const std::string why = why_not(hello); !why.empty()) {
    if (!launch_.run.empty() && is_of_run(hello)) {
      const bool twice = why.ends_with(kHere);
      Error wrong = diverged(fmt::format("{} does not belong to this world: {}{}", who(hello), why,
                                         twice ? ", so two processes say that they are it" : ""),
                             who(hello), fmt::format("ranks 0 to {}, each once", launch_.size - 1),
                             "give every process its own RANK, and all the same WORLD_SIZE");
      tell_error(guest.socket, wrong);
      return wrong;
    }
    if (turned_away_.size() < kTurnedAwayMax) {
      turned_away_.insert(fmt::format("{} was turned away: {}", who(hello), why));
    }
    static_cast<void>(
        tell(guest.socket, Frame::Kind::Left, {{"why", why}}, Clock::now() + kAnswerTime));
    return Done{};
  }
  const int number = static_cast<int>(*number_field(hello, "rank", launch_.size - 1));
  if (field(hello, "version") != launch_.version) {
    Error wrong =
        diverged(fmt::format("rank {} on host {} runs another version than rank {}", number,
                             readable(field(hello, "host")), launch_.rank),
                 field(hello, "version"), launch_.version, "install one version on all hosts");
    tell_error(guest.socket, wrong);
    return wrong;
  }
  if (!tell(guest.socket, Frame::Kind::Welcome, {}, Clock::now() + kAnswerTime)) {
    return Done{};
  }
  guest.host = field(hello, "host");
  guest.address = address_of_peer(guest.socket.number());
  guest.port = static_cast<int>(*number_field(hello, "port", 65535));
  guest.reader.allow(kFrameBytesMax);
  wanted_.erase(number);
  guests_.emplace(number, std::move(guest));
  return Done{};
}

void Door::turn_all_away(const Error& why) {
  for (const auto& [rank, guest] : guests_) {
    tell_error(guest.socket, why);
  }
  guests_.clear();
  const auto until = Clock::now() + kLate;
  std::size_t to_come = wanted_.size() - std::min(wanted_.size(), misfits_);
  while (to_come > 0 && Clock::now() < until) {
    if (!let_in(until, -1)) {
      std::this_thread::sleep_for(kFullTime);
    }
    for (const Knock& knock : heard()) {
      to_come -= tell_of_run(knock, why) && to_come > 0 ? 1U : 0U;
    }
  }
}

/// A version that does not say its command says less of its run: the beginning of the name.
bool Door::is_of_run(const Fields& hello) const {
  const std::string_view run = field(hello, "run");
  const bool is_older = std::none_of(hello.begin(), hello.end(),
                                     [](const auto& one) { return one.first == "command"; });
  return is_older ? launch_.run.starts_with(run)
                  : run == launch_.run && field(hello, "command") == launch_.command;
}

}  // namespace bv::comm
