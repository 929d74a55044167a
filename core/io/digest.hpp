#pragma once
// XXH3-128: fingerprints at memory speed. Not a cryptographic claim.

#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace bv::io {

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

/// tensor name -> XXH3-128, by file.
using Digests = std::map<std::string, std::map<std::string, std::string>>;

}  // namespace bv::io
