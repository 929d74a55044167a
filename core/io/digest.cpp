#include "core/io/digest.hpp"

#include <fmt/format.h>
#include <xxhash.h>
#if defined(BV_XXH_DISPATCH)
#include <xxh_x86dispatch.h>  // the update for the widest vectors of this processor
#endif

#include "core/base/assert.hpp"

namespace bv::io {

struct Digest::State {
  XXH3_state_t* xxh = XXH3_createState();
  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { XXH3_freeState(xxh); }
};

Digest::Digest() : state_(std::make_unique<State>()) {
  BV_ASSERT(state_->xxh != nullptr);
  XXH3_128bits_reset(state_->xxh);
}
Digest::Digest(Digest&&) noexcept = default;
Digest& Digest::operator=(Digest&&) noexcept = default;
Digest::~Digest() = default;

void Digest::add(std::span<const std::byte> bytes) {
  XXH3_128bits_update(state_->xxh, bytes.data(), bytes.size());
}
void Digest::add(std::string_view text) {
  XXH3_128bits_update(state_->xxh, text.data(), text.size());
}

std::string Digest::hex() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(state_->xxh);
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace bv::io
