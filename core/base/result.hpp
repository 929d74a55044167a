#pragma once
// Value or numbered reason. A strict subset of std::expected<T, Error>, which GCC 12 does not have.

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/base/assert.hpp"
#include "core/base/code.hpp"

namespace bv {

/// Why an input cannot be used. The parts are those of a printed message
/// (docs/reference/messages.md): `message` names what is wrong with names and numbers; `where` is
/// file, file:line or file:line:column; `found`/`wanted` come in pairs; `help` is one action.
struct Error {
  Code code = Code::Assertion;
  std::string message;
  std::string where;
  std::vector<std::string> facts;
  std::string found;
  std::string wanted;
  std::string help;

  Error&& at(std::string place) && {
    where = std::move(place);
    return std::move(*this);
  }
  Error&& fact(std::string line) && {
    facts.push_back(std::move(line));
    return std::move(*this);
  }
  Error&& pair(std::string has, std::string wants) && {
    found = std::move(has);
    wanted = std::move(wants);
    return std::move(*this);
  }
  Error&& advise(std::string action) && {
    help = std::move(action);
    return std::move(*this);
  }
};

/// Makes the error branch: `return fail(Code::BadValue, "--tp 0 is not a positive
/// number").advise("...")`.
[[nodiscard]] inline Error fail(Code code, std::string message) {
  Error error;
  error.code = code;
  error.message = std::move(message);
  return error;
}

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value)
      : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT(google-explicit-constructor)
  Result(Error error)
      : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }

  [[nodiscard]] T& value() & {
    BV_ASSERT(has_value());
    return *std::get_if<0>(&state_);
  }
  [[nodiscard]] const T& value() const& {
    BV_ASSERT(has_value());
    return *std::get_if<0>(&state_);
  }
  [[nodiscard]] T&& value() && {
    BV_ASSERT(has_value());
    return std::move(*std::get_if<0>(&state_));
  }
  [[nodiscard]] T& operator*() & { return value(); }
  [[nodiscard]] const T& operator*() const& { return value(); }
  [[nodiscard]] T&& operator*() && { return std::move(*this).value(); }
  [[nodiscard]] T* operator->() { return &value(); }
  [[nodiscard]] const T* operator->() const { return &value(); }

  [[nodiscard]] Error& error() & {
    BV_ASSERT(!has_value());
    return *std::get_if<1>(&state_);
  }
  [[nodiscard]] const Error& error() const& {
    BV_ASSERT(!has_value());
    return *std::get_if<1>(&state_);
  }
  [[nodiscard]] Error&& error() && {
    BV_ASSERT(!has_value());
    return std::move(*std::get_if<1>(&state_));
  }

 private:
  std::variant<T, Error> state_;
};

struct Done {};
using Status = Result<Done>;

}  // namespace bv

/// Binds `name` to the value of `expression`, or returns its error to the caller.
#define BV_TRY(name, expression)             \
  auto name##_result = (expression);         \
  if (!name##_result) {                      \
    return std::move(name##_result).error(); \
  }                                          \
  auto& name = *name##_result
/// The same for a Status.
#define BV_CHECK(expression)                         \
  do {                                               \
    if (auto bv_status = (expression); !bv_status) { \
      return std::move(bv_status).error();           \
    }                                                \
  } while (false)
