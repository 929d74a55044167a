#pragma once
// What goes over a socket: frames of a fixed head, a label and bytes. Nothing that comes is
// trusted.

#include <cstdint>
#include <optional>
#include <string>

#include "core/comm/link.hpp"

namespace bv::comm {

struct Frame {
  enum class Kind : std::uint8_t {
    Hello = 1,  // a rank to rank 0: who it is
    Welcome,    // the right place; then: connected to all, and: begin
    Table,      // rank 0: where all ranks listen
    Peer,       // a rank to a lower one
    Message,    // Link::send
    Ask,        // what are you doing?
    Answer,
    Failed,  // the sender stops, and why
    Left,    // the sender is finished
  };
  Kind kind = Kind::Message;
  std::string label;
  Bytes bytes;
};

inline constexpr std::uint64_t kLabelBytesMax = std::uint64_t{1} << 16;
inline constexpr std::uint64_t kFrameBytesMax = std::uint64_t{1} << 40;
inline constexpr std::size_t kFrameHeadBytes = 24;

[[nodiscard]] Bytes encoded(Frame::Kind kind, std::string_view label,
                            std::span<const std::byte> bytes);

/// Frames out of a stream that comes in pieces of any size. Memory grows with what came, never with
/// what a head announces.
class FrameReader {
 public:
  /// `bytes_max` bounds the frames that are taken: strangers get little.
  explicit FrameReader(std::uint64_t bytes_max = kFrameBytesMax) : bytes_max_(bytes_max) {}
  /// False when these bytes are not frames of ours; the stream is of no use then.
  [[nodiscard]] bool feed(std::span<const std::byte> bytes);
  /// The next whole frame.
  [[nodiscard]] std::optional<Frame> next();
  void allow(std::uint64_t bytes_max) { bytes_max_ = bytes_max; }

 private:
  [[nodiscard]] bool head_is_right() const;

  std::uint64_t bytes_max_;
  Bytes held_;
  std::size_t taken_ = 0;  // of held_
};

/// Lines "key value" of a hello or an answer.
using Fields = std::vector<std::pair<std::string, std::string>>;
[[nodiscard]] std::string fields_text(const Fields& fields);
[[nodiscard]] Fields fields_from(std::string_view text);
/// The value of a key, "" when there is none.
[[nodiscard]] std::string_view field(const Fields& fields, std::string_view key);
/// The value as a number in 0..most.
[[nodiscard]] std::optional<std::int64_t> number_field(const Fields& fields, std::string_view key,
                                                       std::int64_t most);

/// An error as a rank tells it to others, and back. Unknown codes become RankLost.
[[nodiscard]] std::string error_fields(const Error& why);
[[nodiscard]] Error error_from(std::string_view text);

}  // namespace bv::comm
