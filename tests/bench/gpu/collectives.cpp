#include "tests/bench/gpu/collectives.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "core/comm/group.hpp"
#include "core/comm/nccl.hpp"
#include "core/comm/processes.hpp"
#include "core/comm/sockets.hpp"

namespace bv::cuda {
namespace {

constexpr comm::Milliseconds kWait{60000};
constexpr int kTimes = 4;  // the first one warms up
constexpr std::array kNames = {"all_gather", "broadcast", "scatter"};
using Seconds = std::array<double, kNames.size()>;

comm::Bytes bytes_from(int rank, std::size_t size) {
  return comm::Bytes(size, static_cast<std::byte>(rank + 1));
}

Error other_bytes(std::string_view name) {
  return fail(Code::BytesDiffer, std::string(name) + " brings other bytes")
      .advise("report it with the output of bridge-verify doctor");
}

/// One collective; what arrives must be what was sent.
Status once(comm::Group& world, std::size_t which, std::size_t size) {
  const int place = world.place();
  if (which == 0) {
    BV_TRY(all, world.all_gather(bytes_from(place, size), kNames[0]));
    for (int i = 0; i < world.size(); ++i) {
      if (all[static_cast<std::size_t>(i)] != bytes_from(i, size)) {
        return other_bytes(kNames[0]);
      }
    }
    return Done{};
  }
  if (which == 1) {
    BV_TRY(told, world.broadcast(0, place == 0 ? bytes_from(0, size) : comm::Bytes(), kNames[1]));
    return told == bytes_from(0, size) ? Status(Done{}) : other_bytes(kNames[1]);
  }
  std::vector<comm::Bytes> parts;
  for (int i = 0; place == 0 && i < world.size(); ++i) {
    parts.push_back(bytes_from(i, size));
  }
  BV_TRY(mine, world.scatter(0, parts, kNames[2]));
  return mine == bytes_from(place, size) ? Status(Done{}) : other_bytes(kNames[2]);
}

/// The least time of each collective, as this rank sees it.
Result<Seconds> timed(comm::Link& link, std::size_t size) {
  comm::Group world = comm::whole_world(link);
  Seconds out{};
  for (std::size_t which = 0; which < kNames.size(); ++which) {
    for (int time = 0; time < kTimes; ++time) {
      BV_CHECK(once(world, 0, 0));  // all begin together
      const auto began = std::chrono::steady_clock::now();
      BV_CHECK(once(world, which, size));
      const double seconds =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
      out[which] = time == 1 || (time > 1 && seconds < out[which]) ? seconds : out[which];
    }
  }
  return out;
}

/// The slowest rank of each collective, over sockets; `prepare` may give a link its carriers.
Result<Seconds> in_world(int ranks, std::size_t size,
                         const std::function<Status(comm::Link&)>& prepare) {
  const auto listener = comm::listen_at(0, true);
  const int port = listener ? listener->port + 1 : 29500;  // 16 of them are tried
  std::vector<Result<Seconds>> ends(static_cast<std::size_t>(ranks), Seconds{});
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      Result<Seconds>& end = ends[static_cast<std::size_t>(rank)];
      auto link = comm::enter({rank, ranks, "127.0.0.1", port, false, "bench", "1", "here"}, kWait);
      if (!link) {
        end = std::move(link).error();
        return;
      }
      const Status prepared = prepare(**link);
      end = prepared ? timed(**link, size) : Result<Seconds>(prepared.error());
      if (end) {
        (*link)->leave();
      } else {
        (*link)->fail_all(end.error());
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  Seconds out{};
  for (Result<Seconds>& end : ends) {
    if (!end) {
      return std::move(end).error();
    }
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = std::max(out[i], (*end)[i]);
    }
  }
  return out;
}

}  // namespace

Result<nlohmann::ordered_json> collective_rows(int ranks, std::size_t bytes, bool with_nccl) {
  BV_TRY(sockets, in_world(ranks, bytes, [](comm::Link&) { return Status(Done{}); }));
  Result<Seconds> nccl = fail(Code::NoGpu, "NCCL is not asked in a dry run").advise("use a GPU");
  if (with_nccl) {
    nccl = in_world(ranks, bytes, [](comm::Link& link) -> Status {
      BV_TRY(maker, comm::open_nccl(link.rank(), kWait));
      link.carry_by(maker);
      return Done{};
    });
  }
  auto out = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    nlohmann::ordered_json row{{"collective", kNames[i]}, {"ranks", ranks}, {"bytes", bytes}};
    row["sockets_seconds"] = with_nccl ? sockets[i] : 0;
    if (nccl) {
      row["nccl_seconds"] = (*nccl)[i];
      row["ratio"] = (*nccl)[i] > 0 ? sockets[i] / (*nccl)[i] : 0;
    } else {
      row["nccl"] = nccl.error().message + ": " + nccl.error().found;
    }
    out.push_back(std::move(row));
  }
  return out;
}

}  // namespace bv::cuda
