#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <map>

#include "core/base/text.hpp"
#include "core/pickle/opcodes.hpp"
#include "core/pickle/value_stack.hpp"

namespace bv::pickle {

/// Runs over the operations once. Each makes at most one value and a list of what is on the stack.
class Machine : private ValueStack {
 public:
  Machine(std::span<const std::byte> bytes, std::span<const Allowed> allowed,
          const std::string& file, const Limits& limits)
      : ValueStack(bytes, file, limits), allowed_(allowed) {}

  Result<Pickle> run() {
    while (!stopped_) {
      start_ = at_;
      BV_TRY(op, number<std::uint8_t>());
      BV_CHECK(step(op));
      if (out_.values_.size() > limits_.values) {
        return refuse(fmt::format("it holds more than {} values", limits_.values));
      }
    }
    if (stack_.size() != 1 || !marks_.empty()) {
      return refuse("it ends with values left over");
    }
    out_.root_ = stack_.back();
    return std::move(out_);
  }

 private:
  // --- operations, by what they are about

  Status step(std::uint8_t op) {
    switch (op) {
      case kProto: {
        BV_TRY(protocol, number<std::uint8_t>());
        return protocol >= 2 && protocol <= 5
                   ? Status(Done{})
                   : Status(refuse(fmt::format("protocol {} is not read", protocol)));
      }
      case kFrame: {
        BV_TRY(size, number<std::uint64_t>());
        return size <= bytes_.size() - at_ ? Status(Done{}) : Status(cut());
      }
      case kStop:
        stopped_ = true;
        return Done{};
      case kMark:
        marks_.push_back(stack_.size());
        return Done{};
      case kPop: {
        BV_TRY(dropped, pop());
        static_cast<void>(dropped);
        return Done{};
      }
      case kPopMark: {
        BV_TRY(dropped, pop_mark());
        static_cast<void>(dropped);
        return Done{};
      }
      case kDup: {
        BV_TRY(id, top());
        stack_.push_back(id);
        return Done{};
      }
      default:
        return constant(op);
    }
  }

  Status constant(std::uint8_t op) {
    switch (op) {
      case kNone:
        return push_plain(Kind::None);
      case kTrue:
      case kFalse:
        return push_plain(Kind::Bool, op == kTrue ? 1 : 0);
      case kBinInt: {
        BV_TRY(value, number<std::int32_t>());
        return push_plain(Kind::Int, value);
      }
      case kBinInt1: {
        BV_TRY(value, number<std::uint8_t>());
        return push_plain(Kind::Int, value);
      }
      case kBinInt2: {
        BV_TRY(value, number<std::uint16_t>());
        return push_plain(Kind::Int, value);
      }
      case kLong1: {
        BV_TRY(size, number<std::uint8_t>());
        return push_long(size);
      }
      case kLong4: {
        BV_TRY(size, number<std::uint32_t>());
        return push_long(size);
      }
      case kBinFloat:
        return push_float();
      default:
        return text(op);
    }
  }

  Status push_long(std::uint64_t size) {
    if (size > 8) {
      return refuse(fmt::format("it holds a number of {} bytes", size));
    }
    BV_TRY(raw, take(size));
    std::uint64_t value = 0;
    for (std::size_t i = raw.size(); i-- > 0;) {
      value = value << 8 | static_cast<unsigned char>(raw[i]);
    }
    const bool negative = !raw.empty() && (static_cast<unsigned char>(raw.back()) & 0x80U) != 0;
    if (negative && raw.size() < 8) {
      value |= ~std::uint64_t{0} << (8 * raw.size());
    }
    return push_plain(Kind::Int, static_cast<std::int64_t>(value));
  }

  Status push_float() {
    BV_TRY(raw, take(8));
    std::uint64_t bits = 0;
    for (const char c : raw) {  // big-endian
      bits = bits << 8 | static_cast<unsigned char>(c);
    }
    Value value;
    value.kind = Kind::Float;
    value.real = std::bit_cast<double>(bits);
    return push(value);
  }

  Status text(std::uint8_t op) {
    switch (op) {
      case kShortBinUnicode:
        return push_sized<std::uint8_t>(Kind::Text);
      case kBinUnicode:
        return push_sized<std::uint32_t>(Kind::Text);
      case kBinUnicode8:
        return push_sized<std::uint64_t>(Kind::Text);
      case kShortBinString:
        return push_sized<std::uint8_t>(Kind::Text);
      case kBinString:
        return push_sized<std::uint32_t>(Kind::Text);
      case kShortBinBytes:
        return push_sized<std::uint8_t>(Kind::Bytes);
      case kBinBytes:
        return push_sized<std::uint32_t>(Kind::Bytes);
      case kBinBytes8:
      case kByteArray8:
        return push_sized<std::uint64_t>(Kind::Bytes);
      default:
        return container(op);
    }
  }

  Status container(std::uint8_t op) {
    switch (op) {
      case kEmptyTuple:
        return push_list(Kind::Tuple, {});
      case kTuple1:
      case kTuple2:
      case kTuple3:
        return push_tuple(static_cast<std::size_t>(op - kTuple1) + 1);
      case kTuple: {
        BV_TRY(items, pop_mark());
        return push_list(Kind::Tuple, std::move(items));
      }
      case kFrozenSet: {
        BV_TRY(items, pop_mark());
        return push_list(Kind::Set, std::move(items));
      }
      case kEmptyList:
        return push_list(Kind::List, {});
      case kEmptyDict:
        return push_list(Kind::Dict, {});
      case kEmptySet:
        return push_list(Kind::Set, {});
      case kAppend: {
        BV_TRY(item, pop());
        return extend(Kind::List, {item});
      }
      case kAppends: {
        BV_TRY(items, pop_mark());
        return extend(Kind::List, items);
      }
      case kAddItems: {
        BV_TRY(items, pop_mark());
        return extend(Kind::Set, items);
      }
      case kSetItem: {
        BV_TRY(value, pop());
        BV_TRY(key, pop());
        return extend(Kind::Dict, {key, value});
      }
      case kSetItems: {
        BV_TRY(items, pop_mark());
        return items.size() % 2 == 0 ? extend(Kind::Dict, items)
                                     : Status(refuse("a key has no value"));
      }
      default:
        return memo(op);
    }
  }

  /// Adds to the container on the stack. An OrderedDict is an object whose items follow.
  Status extend(Kind kind, const std::vector<Id>& items) {
    BV_TRY(id, top());
    Value& value = out_.values_[id];
    if (value.kind == Kind::Object && kind == Kind::Dict) {
      BV_CHECK(push_list(Kind::Dict, items));
      const Id state = stack_.back();
      stack_.pop_back();
      out_.lists_[out_.values_[id].list].push_back(state);
      return Done{};
    }
    if (value.kind != kind) {
      return refuse("it adds to a value that holds nothing");
    }
    std::vector<Id>& list = out_.lists_[value.list];
    list.insert(list.end(), items.begin(), items.end());
    return Done{};
  }

  Status memo(std::uint8_t op) {
    switch (op) {
      case kPut: {
        BV_TRY(index, number<std::uint8_t>());
        return put(index);
      }
      case kLongPut: {
        BV_TRY(index, number<std::uint32_t>());
        return put(index);
      }
      case kMemoize:
        return put(memo_.size() + sparse_memo_.size());
      case kGet: {
        BV_TRY(index, number<std::uint8_t>());
        return get(index);
      }
      case kLongGet: {
        BV_TRY(index, number<std::uint32_t>());
        return get(index);
      }
      default:
        return object(op);
    }
  }
  Status put(std::uint64_t index) {
    BV_TRY(id, top());
    if (index == memo_.size()) {
      memo_.push_back(id);
    } else if (index < memo_.size()) {
      memo_[index] = id;
    } else {
      sparse_memo_[index] = id;
    }
    return Done{};
  }
  Status get(std::uint64_t index) {
    if (index < memo_.size()) {
      stack_.push_back(memo_[index]);
      return Done{};
    }
    const auto found = sparse_memo_.find(index);
    if (found == sparse_memo_.end()) {
      return refuse(fmt::format("it takes memo {}, which it never stored", index));
    }
    stack_.push_back(found->second);
    return Done{};
  }

  Status object(std::uint8_t op) {
    switch (op) {
      case kGlobal: {
        BV_TRY(module, line());
        BV_TRY(name, line());
        return push_global(module, name);
      }
      case kStackGlobal: {
        BV_TRY(name, pop());
        BV_TRY(module, pop());
        const auto module_text = out_.text(module);
        const auto name_text = out_.text(name);
        if (!module_text || !name_text) {
          return refuse("it names a global by a value that is not text");
        }
        return push_global(*module_text, *name_text);
      }
      case kBinPersId: {
        BV_TRY(id, pop());
        return push_list(Kind::Persistent, {id});
      }
      case kReduce:
      case kNewObj: {
        BV_TRY(arguments, pop());
        BV_TRY(callee, pop());
        return push_object(callee, arguments);
      }
      case kNewObjEx: {
        BV_TRY(named, pop());
        BV_TRY(arguments, pop());
        BV_TRY(callee, pop());
        if (!out_.items(named).empty()) {
          return refuse("it makes an object with named arguments");
        }
        return push_object(callee, arguments);
      }
      case kBuild: {
        BV_TRY(state, pop());
        BV_TRY(id, top());
        if (out_.kind(id) != Kind::Object) {
          return refuse("it gives a state to a value that is not an object");
        }
        out_.lists_[out_.values_[id].list].push_back(state);
        return Done{};
      }
      default:
        return refuse(fmt::format("operation 0x{:02x} is not read", op));
    }
  }

  /// Up to the end of the line, without it.
  Result<std::string_view> line() {
    constexpr std::size_t kLineMax = 4096;
    const std::string_view rest(reinterpret_cast<const char*>(bytes_.data()) + at_,
                                std::min(bytes_.size() - at_, kLineMax));
    const std::size_t end = rest.find('\n');
    if (end == std::string_view::npos) {
      return cut();
    }
    at_ += end + 1;
    return rest.substr(0, end);
  }

  Status push_global(std::string_view module, std::string_view name) {
    const bool known = std::any_of(allowed_.begin(), allowed_.end(), [&](const Allowed& one) {
      return one.module == module && (one.name == name || one.name == "*");
    });
    if (!known) {
      return fail(Code::PickleGlobal,
                  fmt::format("{}: the pickle names {}.{}, which no checkpoint of weights needs",
                              file_, escaped(bounded(module, 80)), escaped(bounded(name, 80))))
          .at(fmt::format("{}, byte {} of the pickle", file_, start_))
          .pair(escaped(bounded(module, 80)) + "." + escaped(bounded(name, 80)),
                "globals of tensors and their containers")
          .advise("save the state_dict alone; do not load a file from strangers with torch.load");
    }
    BV_CHECK(push_view(Kind::Text, module));
    const Id module_id = stack_.back();
    BV_CHECK(push_view(Kind::Text, name));
    const Id name_id = stack_.back();
    stack_.resize(stack_.size() - 2);
    return push_list(Kind::Global, {module_id, name_id});
  }

  Status push_object(Id callee, Id arguments) {
    if (out_.kind(callee) != Kind::Global || out_.kind(arguments) != Kind::Tuple) {
      return refuse("it calls a value that is not a global, or with no arguments");
    }
    return push_list(Kind::Object, {callee, arguments});
  }

  std::span<const Allowed> allowed_;
  bool stopped_ = false;
  std::vector<Id> memo_;                     // indices from 0 without a hole
  std::map<std::uint64_t, Id> sparse_memo_;  // the others
};

Result<Pickle> Pickle::read(std::span<const std::byte> bytes, std::span<const Allowed> allowed,
                            const std::string& file, const Limits& limits) {
  return Machine(bytes, allowed, file, limits).run();
}

}  // namespace bv::pickle
