#include "core/comm/frame.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>

#include "core/base/text.hpp"

namespace bv::comm {
namespace {

constexpr std::uint32_t kMagic = 0x31575642;  // "BVW1"; all hosts of a world have one byte order

/// The first bytes of every frame.
struct Head {
  std::uint32_t magic = kMagic;
  std::uint8_t kind = 0;
  std::uint8_t zero[3] = {0, 0, 0};
  std::uint64_t label_bytes = 0;
  std::uint64_t bytes = 0;
};
static_assert(sizeof(Head) == kFrameHeadBytes);

Head head_at(const std::byte* at) {
  Head out;
  std::memcpy(&out, at, sizeof out);
  return out;
}

std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

}  // namespace

Bytes encoded(Frame::Kind kind, std::string_view label, std::span<const std::byte> bytes) {
  Head head;
  head.kind = static_cast<std::uint8_t>(kind);
  label = label.substr(0, kLabelBytesMax);
  head.label_bytes = label.size();
  head.bytes = bytes.size();
  Bytes out(sizeof head + label.size() + bytes.size());
  std::memcpy(out.data(), &head, sizeof head);
  if (!label.empty()) {
    std::memcpy(out.data() + sizeof head, label.data(), label.size());
  }
  if (!bytes.empty()) {
    std::memcpy(out.data() + sizeof head + label.size(), bytes.data(), bytes.size());
  }
  return out;
}

bool FrameReader::head_is_right() const {
  if (held_.size() - taken_ < kFrameHeadBytes) {
    return true;  // not known yet
  }
  const Head head = head_at(held_.data() + taken_);
  return head.magic == kMagic && head.kind >= static_cast<std::uint8_t>(Frame::Kind::Hello) &&
         head.kind <= static_cast<std::uint8_t>(Frame::Kind::Left) && head.zero[0] == 0 &&
         head.zero[1] == 0 && head.zero[2] == 0 && head.label_bytes <= kLabelBytesMax &&
         head.bytes <= bytes_max_;
}

bool FrameReader::feed(std::span<const std::byte> bytes) {
  if (taken_ > held_.size() / 2) {  // what is left is moved less often than it is read
    held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(taken_));
    taken_ = 0;
  }
  held_.insert(held_.end(), bytes.begin(), bytes.end());
  return head_is_right();
}

std::optional<Frame> FrameReader::next() {
  const std::size_t there = held_.size() - taken_;
  if (there < kFrameHeadBytes || !head_is_right()) {
    return std::nullopt;
  }
  const Head head = head_at(held_.data() + taken_);
  if (there - kFrameHeadBytes < head.label_bytes + head.bytes) {
    return std::nullopt;
  }
  const std::byte* at = held_.data() + taken_ + kFrameHeadBytes;
  Frame out;
  out.kind = static_cast<Frame::Kind>(head.kind);
  out.label = text_of({at, static_cast<std::size_t>(head.label_bytes)});
  at += head.label_bytes;
  out.bytes.assign(at, at + head.bytes);
  taken_ += kFrameHeadBytes + static_cast<std::size_t>(head.label_bytes + head.bytes);
  if (taken_ == held_.size()) {
    held_.clear();
    taken_ = 0;
  }
  return out;
}

std::string fields_text(const Fields& fields) {
  std::string out;
  for (const auto& [key, value] : fields) {
    out += key + " " + one_line(value) + "\n";
  }
  return out;
}

Fields fields_from(std::string_view text) {
  Fields out;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    const std::size_t blank = std::min(line.find(' '), line.size());
    out.emplace_back(line.substr(0, blank), line.substr(std::min(blank + 1, line.size())));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

std::string_view field(const Fields& fields, std::string_view key) {
  const auto found =
      std::find_if(fields.begin(), fields.end(), [&](const auto& one) { return one.first == key; });
  return found == fields.end() ? std::string_view() : std::string_view(found->second);
}

std::optional<std::int64_t> number_field(const Fields& fields, std::string_view key,
                                         std::int64_t most) {
  const std::string_view text = field(fields, key);
  std::int64_t out = -1;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), out);
  const bool whole = read.ec == std::errc() && read.ptr == text.data() + text.size();
  return whole && out >= 0 && out <= most ? std::optional(out) : std::nullopt;
}

std::string error_fields(const Error& why) {
  Fields out = {{"code", label(why.code)}, {"message", why.message}, {"where", why.where},
                {"found", why.found},      {"wanted", why.wanted},   {"help", why.help}};
  for (const std::string& fact : why.facts) {
    out.emplace_back("fact", fact);
  }
  return fields_text(out);
}

Error error_from(std::string_view text) {
  const Fields fields = fields_from(text);
  const auto shown = [&](std::string_view key) { return readable(field(fields, key)); };
  const auto code = code_from_text(field(fields, "code"));
  Error out = fail(code.value_or(Code::RankLost), shown("message"));
  out.where = shown("where");
  out.found = shown("found");
  out.wanted = shown("wanted");
  out.help = shown("help");
  for (const auto& [key, value] : fields) {
    if (key == "fact" && out.facts.size() < 8) {
      out.facts.push_back(readable(value));
    }
  }
  return out;
}

}  // namespace bv::comm
