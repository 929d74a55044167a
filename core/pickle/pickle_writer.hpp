#pragma once
// Pickles of protocol 2, as torch.load takes them with weights_only: values are written one after
// another, containers with a begin and an end.

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

namespace bv::pickle {

/// Example, {"a": (1, None)}:
///   PickleWriter out;
///   out.begin_dict().text("a").begin_tuple().number(1).none().end_tuple().end_dict();
///   std::move(out).finished()
class PickleWriter {
 public:
  PickleWriter();
  PickleWriter& none();
  PickleWriter& boolean(bool value);
  PickleWriter& number(std::int64_t value);
  PickleWriter& real(double value);
  PickleWriter& text(std::string_view value);  // UTF-8
  /// Module and name have no line break.
  PickleWriter& global(std::string_view module, std::string_view name);
  /// What is written between the two is inside; keys and values of a dict alternate.
  PickleWriter& begin_tuple();
  PickleWriter& end_tuple();
  PickleWriter& begin_list();
  PickleWriter& end_list();
  PickleWriter& begin_dict();
  PickleWriter& end_dict();
  PickleWriter& numbers(std::span<const std::int64_t> values);  // a tuple
  /// A call of the value before the last with the last, a tuple.
  PickleWriter& reduce();
  /// A new object of the class that stands last, without arguments.
  PickleWriter& object();
  /// The last value becomes the state of the one before.
  PickleWriter& build();
  /// The last value is an id that torch gives to a storage.
  PickleWriter& persistent();
  [[nodiscard]] std::string finished() &&;

 private:
  /// Writes `bytes` once, and a reference to it when it comes again.
  PickleWriter& remembered(std::string bytes);

  std::string out_;
  std::map<std::string, std::uint32_t, std::less<>> memo_;
};

}  // namespace bv::pickle
