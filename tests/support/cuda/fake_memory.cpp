#include "tests/support/cuda/fake_memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace bv::fake_cuda {
namespace {

constexpr std::size_t kGuardedMost = 64;
constexpr std::size_t kAlignment = 256;  // as cudaMalloc gives
constexpr int kPoison = 0xA5;
/// Of both ends; zeros in between. Each page that was touched is opened and closed with every copy
/// and kernel: with 4 MiB that was four fifths of the time of the tests.
constexpr std::size_t kPoisonedMost = std::size_t{128} << 10;

std::size_t page() {
  static const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return size;
}
std::size_t rounded(std::size_t bytes, std::size_t to) {
  return (bytes + to - 1) / to * to;
}

void protect_one(const Memories::Block& block, bool open) {
  if (block.device >= 0 && block.guarded) {
    ::mprotect(block.mapped + page(), block.mapped_bytes - 2 * page(),
               open ? PROT_READ | PROT_WRITE : PROT_NONE);
  }
}

}  // namespace

std::byte* Memories::take(int device, std::size_t bytes) {
  Block block;
  block.device = device;
  block.bytes = bytes;
  const std::size_t room = rounded(std::max<std::size_t>(bytes, 1), kAlignment);
  const std::size_t open = rounded(room, page());
  block.mapped_bytes = open + 2 * page();
  void* const mapped = ::mmap(nullptr, block.mapped_bytes, PROT_NONE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) {
    std::abort();
  }
  block.mapped = static_cast<std::byte*>(mapped);
  std::byte* const first = block.mapped + page() + (open - room);
  ::mprotect(block.mapped + page(), open, PROT_READ | PROT_WRITE);
  const std::size_t end = std::min(open, kPoisonedMost);
  std::memset(block.mapped + page(), kPoison, end);
  std::memset(block.mapped + page() + open - end, kPoison, end);
  // Benchmarks hold thousands, and each would be opened and closed for every kernel.
  block.guarded = blocks_.size() < kGuardedMost;
  if (device >= 0 && block.guarded) {
    ::mprotect(block.mapped + page(), open, PROT_NONE);
  }
  blocks_[first] = block;
  return first;
}

bool Memories::give_back(void* first, bool pinned) {
  const auto found = blocks_.find(static_cast<const std::byte*>(first));
  if (found == blocks_.end() || (found->second.device < 0) != pinned) {
    return false;
  }
  const Block block = found->second;
  ::mprotect(block.mapped + page(), block.mapped_bytes - 2 * page(), PROT_READ | PROT_WRITE);
  for (const std::byte* at = found->first + block.bytes;
       at < block.mapped + block.mapped_bytes - page(); ++at) {
    if (*at != std::byte{kPoison}) {
      std::abort();  // somebody wrote behind the end
    }
  }
  for (const std::byte* at = block.mapped + page(); at < found->first; ++at) {
    if (*at != std::byte{kPoison}) {
      std::abort();  // or before the beginning
    }
  }
  ::munmap(block.mapped, block.mapped_bytes);
  blocks_.erase(found);
  return true;
}

const Memories::Block* Memories::holds(const void* first, std::size_t bytes) const {
  const auto* at = static_cast<const std::byte*>(first);
  auto found = blocks_.upper_bound(at);
  if (found == blocks_.begin()) {
    return nullptr;
  }
  --found;
  return at + bytes <= found->first + found->second.bytes ? &found->second : nullptr;
}

std::size_t Memories::taken(int device) const {
  std::size_t out = 0;
  for (const auto& [first, block] : blocks_) {
    out += block.device == device ? block.bytes : 0;
  }
  return out;
}

std::string Memories::left() const {
  std::string out;
  for (const auto& [first, block] : blocks_) {
    out += std::to_string(block.bytes) +
           (block.device < 0 ? " bytes of pinned memory; " : " bytes of a device; ");
  }
  return out;
}

void Memories::protect(bool open) const {
  for (const auto& [first, block] : blocks_) {
    protect_one(block, open);
  }
}

void Memories::protect_ends(const std::array<const void*, 2>& ends, bool open) const {
  for (const void* const end : ends) {
    if (const Block* const block = holds(end, 0)) {
      protect_one(*block, open);
    }
  }
}

}  // namespace bv::fake_cuda
