#pragma once
// What a long run tells its caller while it works. Called from several threads.

#include <cstdint>
#include <string_view>

namespace bv {

class ProgressSink {
 public:
  ProgressSink() = default;
  ProgressSink(const ProgressSink&) = delete;
  ProgressSink& operator=(const ProgressSink&) = delete;
  virtual ~ProgressSink() = default;
  virtual void start(std::string_view phase, std::uint64_t total_bytes,
                     std::uint64_t total_tensors) = 0;
  virtual void advance(std::uint64_t bytes, std::uint64_t tensors, std::string_view current) = 0;
  /// True once the user asked to stop; work ends at the next tensor.
  [[nodiscard]] virtual bool stop_requested() const = 0;
};

}  // namespace bv
