#pragma once
// What the operations of a pickle work on: its bytes, a stack of values, and the marks in it.

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/pickle/pickle.hpp"

namespace bv::pickle {

class ValueStack {
 protected:
  using Value = Pickle::Value;

  ValueStack(std::span<const std::byte> bytes, const std::string& file, const Limits& limits)
      : bytes_(bytes), file_(file), limits_(limits) {}

  [[nodiscard]] Error refuse(const std::string& what) const {
    return fail(Code::PickleInvalid, fmt::format("{}: the pickle cannot be read: {}", file_, what))
        .at(fmt::format("{}, byte {} of the pickle", file_, start_))
        .advise("save the checkpoint again; a file from strangers should not be loaded at all");
  }
  [[nodiscard]] Error cut() const { return refuse("it is cut"); }

  Result<std::string_view> take(std::uint64_t size) {
    if (size > bytes_.size() - at_) {
      return cut();
    }
    const std::string_view out(reinterpret_cast<const char*>(bytes_.data()) + at_, size);
    at_ += size;
    return out;
  }

  /// A little-endian number.
  template <class T>
  Result<T> number() {
    BV_TRY(raw, take(sizeof(T)));
    std::uint64_t out = 0;
    for (std::size_t i = sizeof(T); i-- > 0;) {
      out = out << 8 | static_cast<unsigned char>(raw[i]);
    }
    return static_cast<T>(out);
  }

  // --- values

  Status push(Value value) {
    stack_.push_back(static_cast<Id>(out_.values_.size()));
    out_.values_.push_back(value);
    return Done{};
  }
  Status push_plain(Kind kind, std::int64_t number = 0) {
    Value value;
    value.kind = kind;
    value.number = number;
    return push(value);
  }
  Status push_list(Kind kind, std::vector<Id> items) {
    Value value;
    value.kind = kind;
    value.list = static_cast<std::uint32_t>(out_.lists_.size());
    out_.lists_.push_back(std::move(items));
    return push(value);
  }
  Status push_text(Kind kind, std::uint64_t size) {
    if (size > limits_.text_bytes) {
      return refuse(fmt::format("it holds a text of {} bytes", size));
    }
    BV_TRY(text, take(size));
    return push_view(kind, text);
  }
  Status push_view(Kind kind, std::string_view text) {
    Value value;
    value.kind = kind;
    value.list = static_cast<std::uint32_t>(text.size());
    value.text = text.data();
    return push(value);
  }
  template <class Size>
  Status push_sized(Kind kind) {
    BV_TRY(size, number<Size>());
    return push_text(kind, size);
  }

  // --- the stack; what is below the innermost mark is out of reach

  [[nodiscard]] std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  Result<Id> pop() {
    if (stack_.size() <= floor()) {
      return refuse("it takes a value that is not there");
    }
    const Id out = stack_.back();
    stack_.pop_back();
    return out;
  }
  Result<Id> top() {
    if (stack_.size() <= floor()) {
      return refuse("it takes a value that is not there");
    }
    return stack_.back();
  }
  Result<std::vector<Id>> pop_mark() {
    if (marks_.empty()) {
      return refuse("it takes values up to a mark that is not there");
    }
    const auto first = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<Id> out(first, stack_.end());
    stack_.erase(first, stack_.end());
    marks_.pop_back();
    return out;
  }
  Status push_tuple(std::size_t size) {
    std::vector<Id> items(size);
    for (std::size_t i = size; i-- > 0;) {
      BV_TRY(item, pop());
      items[i] = item;
    }
    return push_list(Kind::Tuple, std::move(items));
  }

  std::span<const std::byte> bytes_;
  const std::string& file_;
  const Limits& limits_;
  Pickle out_;
  std::uint64_t at_ = 0;
  std::uint64_t start_ = 0;  // of the operation
  std::vector<Id> stack_;
  std::vector<std::size_t> marks_;  // sizes of the stack
};

}  // namespace bv::pickle
