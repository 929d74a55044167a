#pragma once
// Pickles, read as data. Nothing is imported, called or run: a global is a name, a call is a record
// of what would be called with what.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"

namespace bv::pickle {

enum class Kind : std::uint8_t {
  None,
  Bool,
  Int,
  Float,
  Text,  // bytes as they stand there; UTF-8 is not checked
  Bytes,
  Tuple,
  List,
  Dict,
  Set,
  Global,      // a module and a name in it
  Object,      // what a call, a NEWOBJ and later BUILDs would make
  Persistent,  // an id that torch gives to storages
};

/// A value of one pickle. Values may be shared, and may hold themselves: a reader goes to a known
/// depth, never to the end.
using Id = std::uint32_t;

/// A global that a pickle may name. "*" as the name stands for all of the module.
struct Allowed {
  std::string_view module;
  std::string_view name;
};

struct Limits {
  std::uint64_t text_bytes = std::uint64_t{64} << 20;  // of one text
  std::uint64_t values = 200'000'000;
};

/// The values of one pickle; texts view its bytes. Memory is bounded by a small multiple of the
/// pickle's size.
class Pickle {
 public:
  /// Protocols 2 to 5, the operations that checkpoints use. `file` is for messages. Errors:
  /// PickleInvalid (cut, an operation that is not read, a limit; with the byte), PickleGlobal
  /// naming a global that is not among `allowed`.
  static Result<Pickle> read(std::span<const std::byte> bytes, std::span<const Allowed> allowed,
                             const std::string& file, const Limits& limits = {});

  [[nodiscard]] Id root() const { return root_; }
  [[nodiscard]] std::size_t size() const { return values_.size(); }
  [[nodiscard]] Kind kind(Id id) const { return values_[id].kind; }
  /// Of a Bool or an Int; nullopt for others.
  [[nodiscard]] std::optional<std::int64_t> number(Id id) const;
  [[nodiscard]] std::optional<double> real(Id id) const;
  /// Of a Text or Bytes; nullopt for others.
  [[nodiscard]] std::optional<std::string_view> text(Id id) const;
  /// Elements of a Tuple, List or Set; key, value, key, value, ... of a Dict; nothing for others.
  [[nodiscard]] std::span<const Id> items(Id id) const;
  /// The last value of a text key; nullopt when the value is no Dict or has no such key.
  [[nodiscard]] std::optional<Id> get(Id dict, std::string_view key) const;
  /// "collections.OrderedDict"; "" for another kind.
  [[nodiscard]] std::string global(Id id) const;
  /// Of an Object: the name of its class or function, the arguments (a Tuple), and the states that
  /// BUILD gave it, in order; "", nullopt and nothing for another kind.
  [[nodiscard]] std::string callee(Id object) const;
  [[nodiscard]] std::optional<Id> arguments(Id object) const;
  [[nodiscard]] std::span<const Id> states(Id object) const;
  /// The attribute of an object whose states are dicts.
  [[nodiscard]] std::optional<Id> attribute(Id object, std::string_view name) const;
  /// The id of a Persistent.
  [[nodiscard]] std::optional<Id> persistent(Id id) const;
  /// Numbers of a Tuple or List, or of a torch.Size; nullopt when one is no Int.
  [[nodiscard]] std::optional<std::vector<std::int64_t>> numbers(Id id) const;

 private:
  friend class ValueStack;
  friend class Machine;
  struct Value {
    Kind kind = Kind::None;
    std::uint32_t list = 0;  // index into lists_, or the length of a text
    union {
      std::int64_t number = 0;
      double real;
      const char* text;
    };
  };
  std::vector<Value> values_;
  std::vector<std::vector<Id>> lists_;
  Id root_ = 0;
};

}  // namespace bv::pickle
