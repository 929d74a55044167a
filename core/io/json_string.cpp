#include "core/io/json_string.hpp"

namespace bv::io {

unsigned hex_digit(char digit) {
  if (digit >= '0' && digit <= '9') {
    return static_cast<unsigned>(digit - '0');
  }
  if (digit >= 'a' && digit <= 'f') {
    return static_cast<unsigned>(digit - 'a') + 10;
  }
  return digit >= 'A' && digit <= 'F' ? static_cast<unsigned>(digit - 'A') + 10 : 16;
}

unsigned hex4_of(std::string_view digits) {
  return (hex_digit(digits[0]) << 12) | (hex_digit(digits[1]) << 8) | (hex_digit(digits[2]) << 4) |
         hex_digit(digits[3]);
}

namespace {

void append_utf8(std::string& out, unsigned code) {
  const auto push = [&out](unsigned byte) {
    out += static_cast<char>(static_cast<unsigned char>(byte));
  };
  if (code < 0x80) {
    push(code);
  } else if (code < 0x800) {
    push(0xc0 | (code >> 6));
    push(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    push(0xe0 | (code >> 12));
    push(0x80 | ((code >> 6) & 0x3f));
    push(0x80 | (code & 0x3f));
  } else {
    push(0xf0 | (code >> 18));
    push(0x80 | ((code >> 12) & 0x3f));
    push(0x80 | ((code >> 6) & 0x3f));
    push(0x80 | (code & 0x3f));
  }
}

char simple_escape(char letter) {
  switch (letter) {
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    default:
      return letter;  // quote, backslash, slash
  }
}

}  // namespace

std::string unescaped(const JsonString& text) {
  if (!text.has_escape) {
    return std::string(text.raw);
  }
  std::string out;
  out.reserve(text.raw.size());
  for (std::size_t at = 0; at < text.raw.size(); ++at) {
    if (text.raw[at] != '\\') {
      out += text.raw[at];
      continue;
    }
    const char letter = text.raw[++at];
    if (letter != 'u') {
      out += simple_escape(letter);
      continue;
    }
    unsigned code = hex4_of(text.raw.substr(at + 1));
    at += 4;
    if (code >= 0xd800 && code < 0xdc00) {
      code = 0x10000 + ((code - 0xd800) << 10) + (hex4_of(text.raw.substr(at + 3)) - 0xdc00);
      at += 6;
    }
    append_utf8(out, code);
  }
  return out;
}

bool says(const JsonString& text, std::string_view wanted) {
  return text.has_escape ? unescaped(text) == wanted : text.raw == wanted;
}

}  // namespace bv::io
