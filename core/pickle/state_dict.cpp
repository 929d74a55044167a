#include "core/pickle/state_dict.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/text.hpp"

namespace bv::pickle {
namespace {

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
  for (std::size_t i = 0; i + 1 < entries.size(); i += 2) {
    const auto name =
        pickle.kind(entries[i]) == Kind::Text ? pickle.text(entries[i]) : std::nullopt;
    if (!name || !is_tensor(pickle, entries[i + 1]) || name->ends_with("_extra_state")) {
      ++out.left_out;
      continue;
    }
    if (!names.emplace(*name).second) {
      return fail(Code::DuplicateKey,
                  fmt::format("{} holds \"{}\" twice", file.file, escaped(bounded(*name, 160))))
          .at(file.file)
          .advise("save the checkpoint again");
    }
    BV_TRY(tensor, tensor_of(file, entries[i + 1]));
    out.tensors.push_back({std::string(*name), std::move(tensor)});
  }
  return out;
}

}  // namespace bv::pickle
