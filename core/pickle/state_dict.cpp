#include "core/pickle/state_dict.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/text.hpp"

namespace bv::pickle {
namespace {

constexpr std::uint64_t kRepeatedBytesMax = std::uint64_t{1} << 30;

/// Keys and values of a dict, or of an OrderedDict, which is an object that items were given to.
std::vector<Id> entries_of(const Pickle& pickle, Id id) {
  std::vector<Id> out;
  const auto add = [&](Id dict) {
    const auto items = pickle.items(dict);
    if (pickle.kind(dict) == Kind::Dict) {
      out.insert(out.end(), items.begin(), items.end());
    }
  };
  add(id);
  if (pickle.callee(id) == "collections.OrderedDict") {
    const auto states = pickle.states(id);
    std::for_each(states.begin(), states.end(), add);
  }
  return out;
}

Error no_dict(const std::string& file, std::string_view key) {
  return fail(Code::PickleInvalid,
              key.empty() ? fmt::format("{} does not hold a dict of tensors", file)
                          : fmt::format("{} has no dict \"{}\"", file, escaped(bounded(key, 160))))
      .at(file)
      .advise("save the state_dict itself");
}

/// Is there a tensor in the value, however deep? A value is looked at once.
class TensorSearch {
 public:
  explicit TensorSearch(const Pickle& pickle) : pickle_(pickle), seen_(pickle.size(), false) {}

  [[nodiscard]] bool finds_in(Id id) {
    std::vector<Id> open = {id};
    const auto add = [&](std::span<const Id> ids) {
      open.insert(open.end(), ids.begin(), ids.end());
    };
    while (!open.empty()) {
      const Id at = open.back();
      open.pop_back();
      if (is_tensor(pickle_, at)) {
        return true;
      }
      if (seen_[at]) {
        continue;
      }
      seen_[at] = true;
      add(pickle_.items(at));
      add(pickle_.states(at));
      if (const auto arguments = pickle_.arguments(at)) {
        open.push_back(*arguments);
      }
    }
    return false;
  }

 private:
  const Pickle& pickle_;
  std::vector<bool> seen_;
};

std::string key_text(const Pickle& pickle, Id key) {
  const auto text = pickle.text(key);
  const auto number = pickle.number(key);
  return text     ? fmt::format("{}\"{}\"", pickle.kind(key) == Kind::Text ? "" : "b",
                                escaped(bounded(*text, 160)))
         : number ? std::to_string(*number)
         : pickle.kind(key) == Kind::Tuple ? "(a tuple)"
         : pickle.kind(key) == Kind::None  ? "None"
                                           : "(an object)";
}

/// A tensor of the file that has no name of its own: left out, it would be lost in silence.
Error nameless(const std::string& file, const std::string& key, bool deep) {
  return fail(Code::PickleInvalid,
              fmt::format("{}: {}", file,
                          deep ? fmt::format("the entry {} holds tensors in a container", key)
                               : fmt::format("the key {} of a tensor is not text", key)))
      .at(file)
      .pair(deep ? "a container" : "the key " + key, "tensors under names, side by side")
      .advise("save one dict of names and tensors");
}

/// A storage of four bytes can be a tensor of 2^60 elements.
Error repeats_too_much(const std::string& file, const std::string& key, std::uint64_t bytes) {
  return fail(Code::PickleInvalid,
              fmt::format("{}: tensors that repeat what is stored are too large", file))
      .at(file)
      .pair(fmt::format("{} bytes with the entry {}", thousands(static_cast<std::int64_t>(bytes)),
                        key),
            fmt::format("at most {} bytes in all",
                        thousands(static_cast<std::int64_t>(kRepeatedBytesMax))))
      .advise("save .contiguous() of the tensors that were expanded");
}

}  // namespace

std::optional<Id> value_of(const Pickle& pickle, Id dict, std::string_view key) {
  const std::vector<Id> entries = entries_of(pickle, dict);
  for (std::size_t i = 0; i + 1 < entries.size(); i += 2) {
    if (pickle.kind(entries[i]) == Kind::Text && pickle.text(entries[i]) == key) {
      return entries[i + 1];
    }
  }
  return std::nullopt;
}

Result<StateDict> state_dict_of(const TorchFile& file, std::string_view key) {
  const Pickle& pickle = file.pickle;
  const auto dict =
      key.empty() ? std::optional(pickle.root()) : value_of(pickle, pickle.root(), key);
  const std::vector<Id> entries = dict ? entries_of(pickle, *dict) : std::vector<Id>{};
  if (entries.empty()) {
    return no_dict(file.file, key);
  }
  StateDict out;
  std::set<std::string, std::less<>> names;
  TensorSearch search(pickle);
  std::uint64_t repeated = 0;
  for (std::size_t i = 0; i + 1 < entries.size(); i += 2) {
    const auto name =
        pickle.kind(entries[i]) == Kind::Text ? pickle.text(entries[i]) : std::nullopt;
    const bool whole = is_tensor(pickle, entries[i + 1]);
    if (!name || !whole || name->ends_with("_extra_state")) {
      const bool expected = name && name->ends_with("_extra_state");
      if (!expected && (whole || search.finds_in(entries[i + 1]))) {
        return nameless(file.file, key_text(pickle, entries[i]), !whole);
      }
      ++out.left_out;
      continue;
    }
    if (!names.emplace(*name).second) {
      return fail(Code::DuplicateKey,
                  fmt::format("{} holds \"{}\" twice", file.file, escaped(bounded(*name, 160))))
          .at(file.file)
          .advise("save the checkpoint again");
    }
    auto tensor = tensor_of(file, entries[i + 1]);
    if (!tensor) {
      return std::move(tensor).error().fact("it is " + key_text(pickle, entries[i]));
    }
    repeated += may_repeat(*tensor) ? tensor_bytes({"", tensor->dtype, tensor->shape}) : 0;
    if (repeated > kRepeatedBytesMax) {
      return repeats_too_much(file.file, key_text(pickle, entries[i]), repeated);
    }
    out.tensors.push_back({std::string(*name), std::move(*tensor)});
  }
  return out;
}

}  // namespace bv::pickle
