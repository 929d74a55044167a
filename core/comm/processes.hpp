#pragma once
// A world of processes: one link in each, over sockets.

#include <memory>

#include "core/comm/rendezvous.hpp"

namespace bv::comm {

/// Meets the others and keeps one thread that carries bytes and answers for this rank, whatever its
/// other threads do. Errors: those of meet.
[[nodiscard]] Result<std::unique_ptr<Link>> enter(const Launch& launch, Milliseconds patience);

}  // namespace bv::comm
