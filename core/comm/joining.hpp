#pragma once
// Every two ranks of a world connect, and all begin together. What keeps one from it is told to
// rank 0, which tells all: they end with the same error.

#include <string>
#include <string_view>
#include <vector>

#include "core/comm/rendezvous.hpp"
#include "core/comm/sockets.hpp"

namespace bv::comm {

/// Rank 0 gives up first, and says who is missing; who misses a rank leaves that one so long to say
/// itself why it stopped.
inline constexpr Milliseconds kGrace{3000};

/// Said by the address: the name of a host may mean itself there, and the host elsewhere.
[[nodiscard]] bool all_on_this_host(const Launch& launch);

/// The error of a world that loses `rank` before it begins.
[[nodiscard]] Error lost_between(int rank, std::string_view host, int seen_by);

/// On rank 0, whose `peers` are all connected: until every rank has said that it is connected to
/// all others, or why it is not; then all are told. Errors: what the first rank that stopped said
/// of itself; RankLost for one that is missed and says nothing, or went away.
[[nodiscard]] Status begin_together(std::vector<Peer>& peers, Clock::time_point until);

/// On the others, connected to rank 0 (peers[0]): connects to all the rest, where `table` says that
/// they are, and waits for rank 0 to let all begin. Errors: what rank 0 says; this rank's own when
/// that one is gone.
[[nodiscard]] Status join_others(const Launch& launch, const Fields& table, int listener,
                                 Milliseconds patience, std::vector<Peer>& peers);

}  // namespace bv::comm
