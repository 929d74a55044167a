#include "core/pickle/pickle.hpp"

namespace bv::pickle {

std::optional<std::int64_t> Pickle::number(Id id) const {
  const Kind is = kind(id);
  return is == Kind::Int || is == Kind::Bool ? std::optional(values_[id].number) : std::nullopt;
}

std::optional<double> Pickle::real(Id id) const {
  return kind(id) == Kind::Float ? std::optional(values_[id].real) : std::nullopt;
}

std::optional<std::string_view> Pickle::text(Id id) const {
  const Kind is = kind(id);
  return is == Kind::Text || is == Kind::Bytes
             ? std::optional(std::string_view(values_[id].text, values_[id].list))
             : std::nullopt;
}

std::span<const Id> Pickle::items(Id id) const {
  switch (kind(id)) {
    case Kind::Tuple:
    case Kind::List:
    case Kind::Dict:
    case Kind::Set:
      return lists_[values_[id].list];
    case Kind::None:
    case Kind::Bool:
    case Kind::Int:
    case Kind::Float:
    case Kind::Text:
    case Kind::Bytes:
    case Kind::Global:
    case Kind::Object:
    case Kind::Persistent:
      return {};
  }
  return {};
}

std::optional<Id> Pickle::get(Id dict, std::string_view key) const {
  if (kind(dict) != Kind::Dict) {
    return std::nullopt;
  }
  const std::span<const Id> all = items(dict);
  for (std::size_t i = all.size(); i >= 2; i -= 2) {
    if (kind(all[i - 2]) == Kind::Text && text(all[i - 2]) == key) {
      return all[i - 1];
    }
  }
  return std::nullopt;
}

std::string Pickle::global(Id id) const {
  if (kind(id) != Kind::Global) {
    return "";
  }
  const std::vector<Id>& parts = lists_[values_[id].list];
  return std::string(*text(parts[0])) + "." + std::string(*text(parts[1]));
}

std::string Pickle::callee(Id object) const {
  return kind(object) == Kind::Object ? global(lists_[values_[object].list][0]) : "";
}

std::optional<Id> Pickle::arguments(Id object) const {
  return kind(object) == Kind::Object ? std::optional(lists_[values_[object].list][1])
                                      : std::nullopt;
}

std::span<const Id> Pickle::states(Id object) const {
  return kind(object) == Kind::Object ? std::span<const Id>(lists_[values_[object].list]).subspan(2)
                                      : std::span<const Id>();
}

std::optional<Id> Pickle::attribute(Id object, std::string_view name) const {
  const std::span<const Id> all = states(object);
  for (std::size_t i = all.size(); i-- > 0;) {
    if (const auto found = get(all[i], name)) {
      return found;
    }
  }
  return std::nullopt;
}

std::optional<Id> Pickle::persistent(Id id) const {
  return kind(id) == Kind::Persistent ? std::optional(lists_[values_[id].list][0]) : std::nullopt;
}

std::optional<std::vector<std::int64_t>> Pickle::numbers(Id id) const {
  if (callee(id) == "torch.Size") {
    const std::span<const Id> arguments_of = items(*arguments(id));
    return arguments_of.size() == 1 && kind(arguments_of[0]) != Kind::Object
               ? numbers(arguments_of[0])
               : std::nullopt;
  }
  if (kind(id) != Kind::Tuple && kind(id) != Kind::List) {
    return std::nullopt;
  }
  std::vector<std::int64_t> out;
  for (const Id item : items(id)) {
    const auto one = kind(item) == Kind::Int ? number(item) : std::nullopt;
    if (!one) {
      return std::nullopt;
    }
    out.push_back(*one);
  }
  return out;
}

}  // namespace bv::pickle
