#pragma once
// Who carries the bytes of a group's collectives in place of its link. Sizes and the order of the
// calls are agreed on over the link first, so that ranks at different places are told apart before
// anything is carried.

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "core/comm/link.hpp"

namespace bv::comm {

/// Of one group. All members call the same functions in the same order, with sizes that fit.
class Carrier {
 public:
  Carrier() = default;
  Carrier(const Carrier&) = delete;
  Carrier& operator=(const Carrier&) = delete;
  Carrier(Carrier&&) = delete;
  Carrier& operator=(Carrier&&) = delete;
  virtual ~Carrier() = default;

  /// The root's bytes to all others, in place.
  [[nodiscard]] virtual Status broadcast(int root, std::span<std::byte> bytes) = 0;
  /// `all` is as long as what every member gives, and all give as much.
  [[nodiscard]] virtual Status all_gather(std::span<const std::byte> mine,
                                          std::span<std::byte> all) = 0;
  /// Member i gets the part i of the root; `parts` of others is empty.
  [[nodiscard]] virtual Status scatter(int root, std::span<const Bytes> parts,
                                       std::span<std::byte> mine) = 0;
};

class CarrierMaker {
 public:
  CarrierMaker() = default;
  CarrierMaker(const CarrierMaker&) = delete;
  CarrierMaker& operator=(const CarrierMaker&) = delete;
  CarrierMaker(CarrierMaker&&) = delete;
  CarrierMaker& operator=(CarrierMaker&&) = delete;
  virtual ~CarrierMaker() = default;
  /// 128 bytes that the first member makes and all get: they name the group to the library.
  using Identity = std::vector<std::byte>;
  [[nodiscard]] virtual Result<Identity> identity() = 0;
  /// Errors: those of Link::all_are_here. It is asked while a carrier waits.
  using AllAreHere = std::function<Status()>;
  /// All members call it at the same time.
  [[nodiscard]] virtual Result<std::unique_ptr<Carrier>> make(const Identity& identity, int place,
                                                              int size,
                                                              AllAreHere all_are_here) = 0;
};

}  // namespace bv::comm
