#pragma once
// XXH3-128: fingerprints at memory speed. Not a cryptographic claim.

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace bv::exec {

/// 32 lower-case hex digits.
class Digest {
 public:
  Digest();
  Digest(Digest&&) noexcept;
  Digest& operator=(Digest&&) noexcept;
  ~Digest();
  void add(std::span<const std::byte> bytes);
  void add(std::string_view text);
  [[nodiscard]] std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace bv::exec
