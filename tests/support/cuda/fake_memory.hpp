#pragma once
// Memory of the devices that the host plays. Device memory can be touched by copies and kernels
// alone: at any other time it is unmapped for the process, so that host code that follows a pointer
// of a device ends there. It begins at 256 bytes and ends at a page that nobody may touch.

#include <array>
#include <cstddef>
#include <map>
#include <string>

namespace bv::fake_cuda {

class Memories {
 public:
  struct Block {
    std::byte* mapped = nullptr;
    std::size_t mapped_bytes = 0;
    std::size_t bytes = 0;
    int device = -1;      // -1: pinned memory of the host
    bool guarded = true;  // closed to the host while no kernel runs
  };

  [[nodiscard]] std::byte* take(int device, std::size_t bytes);
  /// False for what was not given, or was given to another kind.
  [[nodiscard]] bool give_back(void* first, bool pinned);
  /// The block that holds [first, first + bytes); null: none does.
  [[nodiscard]] const Block* holds(const void* first, std::size_t bytes) const;
  [[nodiscard]] std::size_t taken(int device) const;
  [[nodiscard]] std::string left() const;

  /// Device memory may be touched while one of these lives.
  class Open {
   public:
    explicit Open(const Memories& all) : all_(all) { all_.protect(true); }
    /// That of a copy alone, both ends: programs of thousands of blocks copy into each.
    Open(const Memories& all, const void* to, const void* from) : all_(all), ends_{to, from} {
      all_.protect_ends(ends_, true);
    }
    Open(const Open&) = delete;
    Open& operator=(const Open&) = delete;
    Open(Open&&) = delete;
    Open& operator=(Open&&) = delete;
    ~Open() {
      if (ends_[0] == nullptr) {
        all_.protect(false);
      } else {
        all_.protect_ends(ends_, false);
      }
    }

   private:
    const Memories& all_;
    std::array<const void*, 2> ends_{};
  };

 private:
  void protect(bool open) const;
  void protect_ends(const std::array<const void*, 2>& ends, bool open) const;

  std::map<const std::byte*, Block> blocks_;  // by their first byte
};

}  // namespace bv::fake_cuda
