// How the ranks of a world that has failed end alike: rank 0 says which error is told and how all
// end; the others wait for it.

#include <algorithm>

#include "core/comm/link.hpp"

namespace bv::comm {

std::optional<Link::FailedEnd> Link::end_of_failed_host() {
  const auto until = std::chrono::steady_clock::now() + patience_;
  const Milliseconds step = std::max(Milliseconds(1), patience_ / 8);
  while (rank_ != 0 && std::chrono::steady_clock::now() < until) {
    Arrival arrival = take(0, step, News::OfItsEnd);
    if (arrival.kind == Arrival::Kind::Left && !arrival.label.empty()) {
      const bool said = !arrival.why.message.empty();
      return FailedEnd{std::move(arrival.label),
                       said ? std::optional(std::move(arrival.why)) : std::nullopt};
    }
    const bool waits = arrival.kind == Arrival::Kind::Message ||
                       (arrival.kind == Arrival::Kind::Nothing && ask(0, patience_ / 4));
    if (!waits) {
      return std::nullopt;
    }
  }
  return std::nullopt;
}

}  // namespace bv::comm
