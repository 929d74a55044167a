#include "core/pickle/pickle_writer.hpp"

#include <bit>

#include "core/base/assert.hpp"
#include "core/pickle/little_endian.hpp"

namespace bv::pickle {

PickleWriter::PickleWriter() : out_("\x80\x02") {}

PickleWriter& PickleWriter::none() {
  out_ += 'N';
  return *this;
}

PickleWriter& PickleWriter::boolean(bool value) {
  out_ += value ? '\x88' : '\x89';
  return *this;
}

PickleWriter& PickleWriter::number(std::int64_t value) {
  if (value >= 0 && value <= 0xff) {
    out_ += 'K' + little_endian<std::uint8_t>(value);
  } else if (value >= 0 && value <= 0xffff) {
    out_ += 'M' + little_endian<std::uint16_t>(value);
  } else if (value >= INT32_MIN && value <= INT32_MAX) {
    out_ += 'J' + little_endian<std::uint32_t>(value);
  } else {
    std::string bytes = little_endian<std::uint64_t>(value);
    const auto spare = [&] {  // the last byte repeats the sign of the one before
      const bool negative = (static_cast<unsigned char>(bytes[bytes.size() - 2]) & 0x80U) != 0;
      return bytes.back() == (negative ? '\xff' : '\0');
    };
    while (spare()) {
      bytes.pop_back();
    }
    out_ += '\x8a' + little_endian<std::uint8_t>(std::ssize(bytes)) + bytes;
  }
  return *this;
}

PickleWriter& PickleWriter::real(double value) {
  const std::string bytes = little_endian<std::uint64_t>(std::bit_cast<std::int64_t>(value));
  out_ += 'G' + std::string(bytes.rbegin(), bytes.rend());
  return *this;
}

PickleWriter& PickleWriter::text(std::string_view value) {
  return remembered('X' + little_endian<std::uint32_t>(std::ssize(value)) + std::string(value));
}

PickleWriter& PickleWriter::global(std::string_view module, std::string_view name) {
  BV_ASSERT(module.find('\n') == std::string_view::npos &&
            name.find('\n') == std::string_view::npos);
  return remembered('c' + std::string(module) + '\n' + std::string(name) + '\n');
}

PickleWriter& PickleWriter::remembered(std::string bytes) {
  const auto next = static_cast<std::uint32_t>(memo_.size());
  const auto found = memo_.find(bytes);
  const std::uint32_t place = found == memo_.end() ? next : found->second;
  const bool is_new = found == memo_.end();
  out_ += is_new ? bytes : "";
  if (place <= 0xff) {
    out_ += (is_new ? 'q' : 'h') + little_endian<std::uint8_t>(place);
  } else {
    out_ += (is_new ? 'r' : 'j') + little_endian<std::uint32_t>(place);
  }
  if (is_new) {
    memo_.emplace(std::move(bytes), next);
  }
  return *this;
}

PickleWriter& PickleWriter::begin_tuple() {
  out_ += '(';
  return *this;
}

PickleWriter& PickleWriter::end_tuple() {
  out_ += 't';
  return *this;
}

PickleWriter& PickleWriter::begin_list() {
  out_ += "](";
  return *this;
}

PickleWriter& PickleWriter::end_list() {
  out_ += 'e';
  return *this;
}

PickleWriter& PickleWriter::begin_dict() {
  out_ += "}(";
  return *this;
}

PickleWriter& PickleWriter::end_dict() {
  out_ += 'u';
  return *this;
}

PickleWriter& PickleWriter::numbers(std::span<const std::int64_t> values) {
  begin_tuple();
  for (const std::int64_t value : values) {
    number(value);
  }
  return end_tuple();
}

PickleWriter& PickleWriter::reduce() {
  out_ += 'R';
  return *this;
}

PickleWriter& PickleWriter::object() {
  out_ += ")\x81";
  return *this;
}

PickleWriter& PickleWriter::build() {
  out_ += 'b';
  return *this;
}

PickleWriter& PickleWriter::persistent() {
  out_ += 'Q';
  return *this;
}

std::string PickleWriter::finished() && {
  out_ += '.';
  return std::move(out_);
}

}  // namespace bv::pickle
